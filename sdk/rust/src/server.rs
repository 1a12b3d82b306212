//! The server of this process: `lampyr serve --parent`, started when it is first
//! needed. It ends with this process, however that ends, and stops what was not
//! detached.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Failure};
use crate::program::{Program, RuntimeOptions, complaint};

/// How long a server may take to say where it listens.
const START: Duration = Duration::from_mins(1);
/// How long one that has ended may take to have said why.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// As much of what it says is kept, in bytes.
const MAX_SAID: u64 = 16 << 10;

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) socket: PathBuf,
}

/// The one server of this process, and its process.
struct Current {
    options: RuntimeOptions,
    server: Arc<Server>,
    process: Process,
}

static CURRENT: Mutex<Option<Current>> = Mutex::const_new(None);

/// The server of this process, which is started where there is none.
pub(crate) async fn server() -> Result<Arc<Server>, Error> {
    chosen(&RuntimeOptions::new()).await
}

/// The same; a server of another program or state directory is an error.
pub(crate) async fn chosen(options: &RuntimeOptions) -> Result<Arc<Server>, Error> {
    let mut current = CURRENT.lock().await;
    if let Some(Current { options: known, server, process }) = &mut *current
        && process.runs()
    {
        if options.agrees_with(known) {
            return Ok(server.clone());
        }
        return Err(Failure::new("this process uses another lampyr already")
            .hint_at("say which one before any other call")
            .of(ErrorKind::Usage));
    }
    // One that has ended is replaced by one of the same kind.
    let known = current.take().map(|current| current.options);
    let options = known.filter(|known| options.agrees_with(known)).unwrap_or(options.clone());
    let (server, process) = start(options.find()?).await?;
    let server = Arc::new(server);
    *current = Some(Current { options, server: server.clone(), process });
    Ok(server)
}

/// The server of this process, if it runs.
pub(crate) async fn running() -> Option<Arc<Server>> {
    let mut current = CURRENT.lock().await;
    let Current { server, process, .. } = current.as_mut()?;
    process.runs().then(|| server.clone())
}

/// A process that is ended when nobody wants it any more.
struct Process(Child);

impl Process {
    fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and waits until it listens.
async fn start(program: Program) -> Result<(Server, Process), Error> {
    let mut command = Command::new(&program.path);
    program.home.as_ref().map(|home| command.env("LAMPYR_HOME", home));
    command.args(["serve", "--parent"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // In a process group of its own: what Ctrl-C means is for us to say.
    let child = command.process_group(0).spawn().map_err(|e| program.unstarted(e))?;
    let mut process = Process(child);
    let line = first_line(&mut process.0);
    let said = first_words(&mut process.0);
    match timeout(START, line).await {
        Err(_) => Err(Error::connection(format!("{} does not start", program.path.display()))),
        Ok(line) => match listening(&line.unwrap_or_default()) {
            Some(socket) => Ok((Server { program, socket }, process)),
            None => Err(unstarted(&program.path, process, said).await),
        },
    }
}

#[derive(Deserialize)]
struct Word {
    socket: PathBuf,
}

/// Where it listens, from the one line that it prints.
fn listening(line: &[u8]) -> Option<PathBuf> {
    serde_json::from_slice(line).ok().map(|Word { socket }| socket)
}

/// The server's own words, where it had any.
async fn unstarted(path: &Path, process: Process, said: oneshot::Receiver<Vec<u8>>) -> Error {
    let ended = tokio::task::spawn_blocking(move || {
        let mut process = process;
        // One that is no server of ours would not end by itself.
        let _ = process.0.kill();
        process.0.wait().ok().and_then(|status| status.code())
    });
    // What it may have started itself still holds the pipe, perhaps.
    let said = timeout(LAST_WORDS, said).await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
    let other = || format!("{} is another program than lampyr", path.display());
    complaint(ended.await.ok().flatten(), &said, other)
}

fn first_line(child: &mut Child) -> oneshot::Receiver<Vec<u8>> {
    aside(child.stdout.take(), |stdout| {
        let mut line = Vec::new();
        let _ = BufReader::new(stdout.take(MAX_SAID)).read_until(b'\n', &mut line);
        line
    })
}

/// All that it says on standard error; the beginning is kept.
fn first_words(child: &mut Child) -> oneshot::Receiver<Vec<u8>> {
    aside(child.stderr.take(), |mut stderr| {
        let mut said = Vec::new();
        let _ = (&mut stderr).take(MAX_SAID).read_to_end(&mut said);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        said
    })
}

/// Reads a pipe in a thread, which no runtime has to wait for when it ends.
fn aside<P: Read + Send + 'static>(
    pipe: Option<P>,
    read: impl FnOnce(P) -> Vec<u8> + Send + 'static,
) -> oneshot::Receiver<Vec<u8>> {
    let (tell, told) = oneshot::channel();
    let pipe = pipe.map(|pipe| move || drop(tell.send(read(pipe))));
    // Without a thread there is no answer, which is told.
    let _ = pipe.map(|work| thread::Builder::new().name("lampyr".into()).spawn(work));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_server_says_where_it_listens() {
        assert_eq!(listening(b"{\"socket\":\"/a/b\"}\n"), Some("/a/b".into()));
        for line in ["", "\n", "{}", "lampyr", "{\"socket\":1}"] {
            assert_eq!(listening(line.as_bytes()), None, "{line}");
        }
    }

    /// What comes of starting a program that is a script.
    async fn started(script: &str) -> Result<(Server, Process), Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lampyr");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        start(Program { path, home: None }).await
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_is_told_in_its_own_words() {
        let script = "echo 'error: no room' >&2; echo 'hint: make some' >&2; exit 1";
        let error = started(script).await.err().unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ConnectionFailed, "no room"));
        assert_eq!(error.hint(), Some("make some"));
    }

    #[tokio::test]
    async fn a_program_that_is_no_server_is_ended() {
        let begun = std::time::Instant::now();
        let error = started("echo hello; exec sleep 600").await.err().unwrap();
        assert!(error.message().ends_with("/lampyr is another program than lampyr"), "{error}");
        let long = started("exec yes 0123456789 | tr -d '\\n'").await.err().unwrap();
        assert_eq!(long.kind(), ErrorKind::ConnectionFailed);
        assert!(begun.elapsed() < START);
    }

    #[tokio::test]
    async fn a_server_ends_with_who_wanted_it() {
        let script = "echo '{\"socket\":\"/s\"}'; exec sleep 600";
        let (server, mut process) = started(script).await.unwrap();
        assert_eq!(server.socket, PathBuf::from("/s"));
        assert!(process.runs());
        let pid = rustix::process::Pid::from_child(&process.0);
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
