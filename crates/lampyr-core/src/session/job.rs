//! Jobs: processes that outlive the connection they were asked for on. All
//! that one says is kept in a file until the session ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lampyr_proto::{Control, Event, Exited, Failure, Lane, Start};
use lampyr_types::{ErrorKind, Span};
use tokio::sync::{mpsc, watch};

use crate::channel::{Answer, Channel, ClientInput, Served};
use crate::exec::{Asked, Source, Terms};
use crate::{Error, Output, OutputStream};

use super::owner::Session;

/// The most that one job may say, in bytes; it ends when it says more.
const MAX_SPOOL: u64 = 1 << 30;
/// The most jobs that a session remembers.
const MAX_JOBS: usize = 100_000;

/// The jobs of a session.
pub(super) struct Jobs {
    dir: PathBuf,
    table: Mutex<Table>,
    /// Who starts a job, or takes the machine back, does so alone.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<String, Arc<Job>>,
    by_key: HashMap<String, String>,
}

/// One job.
pub(super) struct Job {
    start: Start,
    /// What the machine can be taken back to, as it was before this.
    point: Option<u64>,
    spool: PathBuf,
    progress: watch::Sender<Progress>,
    controls: mpsc::Sender<Control>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// Bytes in the spool.
    written: u64,
    /// The last word.
    ending: Option<Event>,
}

impl Jobs {
    /// No jobs yet; their files go into `dir`.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, table: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The job with this name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Job>> {
        self.table().by_name.get(name).cloned()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else starts a job or takes the machine back.
    pub(super) async fn turn(&self) -> impl Sized + use<'_> {
        self.turn.lock().await
    }

    /// Forgets the keys of what was started at this point or later: it never
    /// was, and is asked for anew.
    pub(super) fn forget_keys(&self, point: u64) {
        let Table { by_name, by_key } = &mut *self.table();
        by_key.retain(|_, name| by_name[name].point.is_none_or(|of| of < point));
    }

    /// The name of the job that was started under the key of this one.
    fn known(&self, start: &Start) -> Option<Result<String, Failure>> {
        let table = self.table();
        let name = table.by_key.get(start.key.as_ref()?)?;
        Some(same(&table.by_name[name].start, start).map(|()| name.clone()))
    }

    fn begin(
        &self,
        session: &Arc<Session>,
        start: Start,
        point: Option<u64>,
    ) -> Result<String, Failure> {
        let mut table = self.table();
        if table.by_name.len() >= MAX_JOBS {
            return Err(usage(format!("the session has had {MAX_JOBS} jobs already"), None));
        }
        let name = format!("j{}", table.by_name.len() + 1);
        let (controls, inbox) = mpsc::channel(16);
        let spool = self.dir.join(format!("{name}.out"));
        let sink = Spool::create(&spool).map_err(|e| unwritten(&spool, e))?;
        let progress = watch::Sender::default();
        let job = Arc::new(Job { start, point, spool, progress, controls });
        if let Some(key) = &job.start.key {
            table.by_key.insert(key.clone(), name.clone());
        }
        table.by_name.insert(name.clone(), job.clone());
        tokio::spawn(run(session.clone(), job, sink, inbox));
        Ok(name)
    }
}

/// Starts a job, unless its key says that it was started before. Returns its
/// name.
pub(super) async fn start(session: &Arc<Session>, start: Start) -> Result<String, Failure> {
    let jobs = &session.jobs;
    let _turn = jobs.turn().await;
    if let Some(known) = jobs.known(&start) {
        return known;
    }
    let point = session.remember(&start.exec).await?;
    jobs.begin(session, start, point)
}

/// A key stands for one request, until that is undone.
fn same(known: &Start, asked: &Start) -> Result<(), Failure> {
    if known.exec == asked.exec {
        return Ok(());
    }
    let key = asked.key.as_deref().unwrap_or_default();
    let hint = "use a new key for a new command".to_owned();
    Err(usage(format!("the key '{key}' was used for another command"), Some(hint)))
}

fn usage(message: String, hint: Option<String>) -> Failure {
    Failure { kind: ErrorKind::Usage.word().to_owned(), message, hint, host_us: None }
}

fn unwritten(path: &Path, source: io::Error) -> Failure {
    Error::Path { path: path.to_owned(), source }.to_failure()
}

async fn run(session: Arc<Session>, job: Arc<Job>, sink: Spool, controls: mpsc::Receiver<Control>) {
    let _busy = session.busy();
    let (begun, meter) = (Instant::now(), session.meter(&job.start.exec));
    // The session may have another one when this ends.
    let channel = session.channel();
    let ran = command(&session, &channel, &job, sink, controls).await;
    let host_us = u64::try_from(begun.elapsed().as_micros()).ok();
    let ending = match ran {
        Ok(mut exited) => {
            meter.read(&mut exited).await;
            Event::Exited(Exited { host_us, ..exited })
        }
        Err(Error::Agent(_)) if channel.is_over() => {
            Event::Failure(Failure { host_us, ..session.fate().await })
        }
        Err(e) => Event::Failure(Failure { host_us, ..e.to_failure() }),
    };
    job.progress.send_modify(|progress| progress.ending = Some(ending));
}

async fn command(
    session: &Session,
    channel: &Channel,
    job: &Arc<Job>,
    sink: Spool,
    controls: mpsc::Receiver<Control>,
) -> Result<Exited, Error> {
    let asked = Asked::ask(channel, session.fill_in(job.start.exec.clone())).await?;
    let timeout = job.start.timeout_ms.map(Span::millis);
    let mut output = Recorder { sink, job: job.clone() };
    let stopping = session.stopping(controls);
    let stop_signal = session.stop_signal();
    let terms = Terms { timeout, stop_signal, controls: Some(stopping) };
    asked.finish(Source::Empty, &mut output, terms).await
}

/// Tells a client all that a job says, from its beginning.
pub(super) async fn attach(job: &Job, served: Served) {
    let Served { input, mut controls, answer, .. } = served;
    let control = async {
        while let Some(control) = controls.recv().await {
            let _ = job.controls.try_send(control);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        told = tell(job, &answer) => if let Err(e) = told {
            let _ = answer.say(&Event::Failure(unwritten(&job.spool, e))).await;
        },
        () = gone(input) => {}
        () = control => {}
    }
}

/// Waits until the client is gone; a job takes no input.
async fn gone(mut input: ClientInput) {
    while input.next().await.is_some() {}
}

async fn tell(job: &Job, answer: &Answer) -> io::Result<()> {
    let mut progress = job.progress.subscribe();
    let mut spool = File::open(&job.spool)?;
    let mut told = 0;
    loop {
        let Progress { written, ending } = progress.borrow_and_update().clone();
        while told < written {
            let (lane, bytes) = read_record(&mut spool)?;
            told += (HEADER + bytes.len()) as u64;
            let _ = answer.send(lane, &bytes).await;
        }
        if let Some(ending) = ending {
            let _ = answer.say(&ending).await;
            return Ok(());
        }
        if progress.changed().await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

/// A record of the spool: a lane, a length, the bytes.
const HEADER: usize = 5;

struct Spool {
    file: File,
    written: u64,
}

impl Spool {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, written: 0 })
    }

    fn append(&mut self, lane: Lane, bytes: &[u8]) -> io::Result<()> {
        if self.written > MAX_SPOOL {
            return Err(io::Error::other(format!("a job may say {MAX_SPOOL} bytes, no more")));
        }
        let mut record = Vec::with_capacity(HEADER + bytes.len());
        record.push(lane as u8);
        record.extend((bytes.len() as u32).to_le_bytes());
        record.extend(bytes);
        self.file.write_all(&record)?;
        self.written += record.len() as u64;
        Ok(())
    }
}

fn read_record(spool: &mut File) -> io::Result<(Lane, Vec<u8>)> {
    let mut header = [0; HEADER];
    spool.read_exact(&mut header)?;
    let [lane, length @ ..] = header;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    spool.read_exact(&mut bytes)?;
    Ok((if lane == Lane::Stderr as u8 { Lane::Stderr } else { Lane::Stdout }, bytes))
}

/// Writes what a job says to its spool and says how far it is.
struct Recorder {
    sink: Spool,
    job: Arc<Job>,
}

impl Output for Recorder {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let lane = match stream {
            OutputStream::Stdout => Lane::Stdout,
            OutputStream::Stderr => Lane::Stderr,
        };
        self.sink.append(lane, bytes)?;
        self.job.progress.send_modify(|progress| progress.written = self.sink.written);
        Ok(())
    }
}
