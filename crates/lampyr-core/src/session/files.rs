//! Single files of a session's, by the agent's own hand: no shell and no
//! program of the image has a part in it.

use std::io;

use lampyr_proto::{FileFacts, FileJob, FileMkdir, FileStat, FileWrite, Job, decode_facts};
use tokio::sync::mpsc;

use crate::exec::{Asked, Source, Terms};
use crate::files::{Complaint, plain};
use crate::{Error, FileFault, Output, OutputStream, Room};

use super::SessionClient;

/// The longest list of a directory, in bytes.
const MAX_LIST: usize = 16 << 20;
/// The longest file that is edited, in bytes.
const MAX_EDIT: usize = 16 << 20;

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePut {
    /// Where, absolute. Where a link has the name, the file it leads to.
    pub path: String,
    /// Its permissions; those of the file that had the name, or 0644.
    pub mode: Option<u32>,
    /// Whether directories that are missing are made.
    pub parents: bool,
}

/// What is done with files is done as this user of the guest's; root if there
/// is none.
type User<'a> = Option<&'a str>;

impl SessionClient {
    /// Reads a file into `output`'s standard output.
    pub async fn read_file(
        &self,
        path: &str,
        user: User<'_>,
        output: &mut dyn Output,
    ) -> Result<(), Error> {
        self.file(FileJob::Read(path.into()), user, Source::Empty, output).await
    }

    /// Makes a file of what comes through `input`, which ends with its last
    /// sender. Dropped before that, the future leaves what was there.
    pub async fn write_file(
        &self,
        put: FilePut,
        user: User<'_>,
        input: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), Error> {
        let FilePut { path, mode, parents } = put;
        let job = FileJob::Write(FileWrite { path, mode, parents });
        self.file(job, user, Source::Fed(input), &mut Nothing).await
    }

    /// What is known of a path; with `follow`, of what a link leads to.
    pub async fn stat(&self, path: &str, follow: bool, user: User<'_>) -> Result<FileFacts, Error> {
        let job = FileJob::Stat(FileStat { path: path.into(), follow });
        let mut facts = self.facts(job, user).await?.into_iter();
        facts.next().ok_or_else(|| Error::Agent("the VM said nothing of the file".into()))
    }

    /// What is known of all that is in a directory, in the order of the names.
    pub async fn list_dir(&self, path: &str, user: User<'_>) -> Result<Vec<FileFacts>, Error> {
        self.facts(FileJob::List(path.into()), user).await
    }

    /// Gives something another name; what had that is replaced.
    pub async fn move_file(&self, from: &str, to: &str, user: User<'_>) -> Result<(), Error> {
        self.change(FileJob::Move(from.into(), to.into()), user).await
    }

    /// Makes a directory. With `parents` those it lies in are made, too, and
    /// one that is there is no error.
    pub async fn make_dir(
        &self,
        path: &str,
        parents: bool,
        mode: Option<u32>,
        user: User<'_>,
    ) -> Result<(), Error> {
        let job = FileJob::Mkdir(FileMkdir { path: path.into(), parents, mode });
        self.change(job, user).await
    }

    /// Removes a file or an empty directory; with `recursive` all that is in it,
    /// too.
    pub async fn remove_file(
        &self,
        path: &str,
        recursive: bool,
        user: User<'_>,
    ) -> Result<(), Error> {
        self.change(FileJob::Remove(path.into(), recursive), user).await
    }

    /// Replaces `old` by `new` in a text file, and says how often. Without
    /// `all` there must be one `old` and no more.
    pub async fn edit_file(
        &self,
        path: &str,
        (old, new): (&str, &str),
        all: bool,
        user: User<'_>,
    ) -> Result<usize, Error> {
        let bad = |why: String| Error::File { fault: FileFault::Other, why };
        let mut bytes = Bounded { bytes: Vec::new(), most: MAX_EDIT };
        self.read_file(path, user, &mut bytes).await?;
        let text = String::from_utf8(bytes.bytes).map_err(|_| bad(format!("{path} is no text")))?;
        let found = if old.is_empty() { 0 } else { text.matches(old).count() };
        match found {
            0 => return Err(bad(format!("{path} does not have the text that is to be replaced"))),
            2.. if !all => {
                return Err(bad(format!(
                    "{path} has the text {found} times: replace all, or say more"
                )));
            }
            _ => {}
        }
        let (feed, input) = mpsc::channel(1);
        let _ = feed.try_send(text.replace(old, new).into_bytes());
        drop(feed);
        let put = FilePut { path: path.into(), mode: None, parents: false };
        self.write_file(put, user, input).await.map(|()| found)
    }

    /// Packs what is in a directory, as a tar archive, into `output`'s standard
    /// output.
    pub async fn pack_dir(
        &self,
        path: &str,
        user: User<'_>,
        output: &mut dyn Output,
    ) -> Result<(), Error> {
        self.file(FileJob::Pack(path.into()), user, Source::Empty, output).await
    }

    /// Unpacks the tar archive that comes through `input` into a directory,
    /// which is made where it is missing.
    pub async fn unpack_into(
        &self,
        path: &str,
        user: User<'_>,
        input: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), Error> {
        self.file(FileJob::Unpack(path.into()), user, Source::Fed(input), &mut Nothing).await
    }

    async fn change(&self, job: FileJob, user: User<'_>) -> Result<(), Error> {
        self.file(job, user, Source::Empty, &mut Nothing).await
    }

    async fn facts(&self, job: FileJob, user: User<'_>) -> Result<Vec<FileFacts>, Error> {
        let mut told = Bounded { bytes: Vec::new(), most: MAX_LIST };
        self.file(job, user, Source::Empty, &mut told).await?;
        decode_facts(&told.bytes).map_err(|e| Error::Agent(format!("the VM sent {e}")))
    }

    /// Has a job done to its end.
    async fn file(
        &self,
        job: FileJob,
        user: User<'_>,
        source: Source<'_>,
        output: &mut dyn Output,
    ) -> Result<(), Error> {
        let mut exec = plain(Job::File(Box::new(job)));
        // An image's own user is who runs commands; files are anybody's.
        exec.user = Some(user.unwrap_or("0").into());
        let asked = Asked::ask(&self.channel, exec).await.map_err(|e| self.story(e))?;
        let mut apart = Apart { output, said: Complaint::default() };
        let exited = asked.finish(source, &mut apart, Terms::default()).await;
        match exited.map_err(|e| self.story(e))?.code {
            Some(0) => Ok(()),
            code => {
                let fault = FileFault::of(code.unwrap_or_default());
                Err(Error::File { fault, why: apart.said.words() })
            }
        }
    }
}

/// Bytes go to whoever wants them, words are kept.
struct Apart<'a> {
    output: &'a mut dyn Output,
    said: Complaint,
}

impl Output for Apart<'_> {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => self.output.write(stream, bytes),
            OutputStream::Stderr => self.said.write(stream, bytes),
        }
    }

    fn room(&mut self) -> Room<'_> {
        self.output.room()
    }
}

/// Keeps so many bytes and refuses more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Output for Bounded {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.most - self.bytes.len() {
            return Err(io::Error::other(format!("it is longer than {} bytes", self.most)));
        }
        self.bytes.extend(bytes);
        Ok(())
    }
}

/// What says nothing worth hearing.
struct Nothing;

impl Output for Nothing {
    fn write(&mut self, _stream: OutputStream, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
