//! Running one process in a guest: bytes in, bytes out, an end.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lampyr_proto::{Control, Event, Exec, Exited, Job, Lane, Request};
use lampyr_types::{Span, Task};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::channel::{Channel, Incoming, Input, Stream};
use crate::{Command, Error, Outcome, Output, OutputStream, Usage};

/// How long a command that ran out of time may take to end on SIGTERM.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);
/// How long a command that was sent a signal may take to end.
const SIGNAL_GRACE: Duration = Duration::from_secs(5);

/// How long the end of a command that was killed may take to be heard: longer
/// only where nobody reads what it said before.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Where a process's standard input comes from.
pub(crate) enum Source<'a> {
    /// Nowhere: it is at its end at once.
    Empty,
    /// Our own standard input.
    Ours,
    /// Whoever holds the other end.
    Fed(mpsc::Receiver<Vec<u8>>),
    /// A file or a tree of this host, packed, and who hears how far it is.
    Tree(&'a Path, &'a dyn Task),
}

/// How long a process may run, and who may speak to it meanwhile.
#[derive(Debug)]
pub(crate) struct Terms {
    /// After this it is asked to end, and a little later it is killed.
    pub(crate) timeout: Option<Span>,
    /// What asks it to end.
    pub(crate) stop_signal: i32,
    /// Signals and window sizes for it. After the first signal that asks it to
    /// end it is given a grace.
    pub(crate) controls: Option<mpsc::Receiver<Control>>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { timeout: None, stop_signal: libc::SIGTERM, controls: None }
    }
}

/// Runs `exec` to its end. Dropping the future ends it in the guest.
pub(crate) async fn exec(
    channel: &Channel,
    exec: Exec,
    source: Source<'_>,
    output: &mut dyn Output,
) -> Result<Exited, Error> {
    Asked::ask(channel, exec).await?.finish(source, output, Terms::default()).await
}

/// A process that was asked for. Dropping it ends it.
pub(crate) struct Asked {
    channel: Channel,
    stream: Stream,
    /// When it was asked for.
    pub(crate) at: Instant,
}

impl Asked {
    /// Asks for a process and does not wait for it.
    pub(crate) async fn ask(channel: &Channel, exec: Exec) -> Result<Self, Error> {
        Self::of(channel, &Request::Exec(Box::new(exec))).await
    }

    /// Asks for whatever is answered as a process is.
    pub(crate) async fn of(channel: &Channel, request: &Request) -> Result<Self, Error> {
        let (channel, at) = (channel.clone(), Instant::now());
        Ok(Self { stream: channel.open(request).await?, channel, at })
    }

    /// Feeds it and hears it to its end.
    pub(crate) async fn finish(
        mut self,
        source: Source<'_>,
        output: &mut dyn Output,
        terms: Terms,
    ) -> Result<Exited, Error> {
        let feeding = feed(self.stream.input(), source);
        let timeout = terms.timeout;
        let overdue = AtomicBool::new(false);
        let keeping = keep(self.stream.input(), terms, &overdue);
        tokio::pin!(feeding, keeping);
        let mut fed = false;
        loop {
            tokio::select! {
                done = &mut feeding, if !fed => {
                    fed = true;
                    done?;
                }
                given_up = &mut keeping => return Err(given_up),
                incoming = next(&mut self.stream, output) => match incoming {
                    Some(Incoming::Data(lane, bytes)) => deliver(output, lane, &bytes)?,
                    Some(Incoming::Event(event)) => match last_word(event) {
                        Some(Ok(_)) if overdue.load(Relaxed) => {
                            return Err(Error::Timeout(timeout.unwrap_or_default()));
                        }
                        Some(word) => return word,
                        None => {}
                    },
                    None => return Err(self.channel.verdict().into()),
                },
            }
        }
    }
}

/// What comes next, once there is room for it.
async fn next(stream: &mut Stream, output: &mut dyn Output) -> Option<Incoming> {
    output.room().await;
    stream.next().await
}

fn last_word(event: Event) -> Option<Result<Exited, Error>> {
    match event {
        Event::Exited(exited) => Some(Ok(exited)),
        Event::Failed(why) => Some(Err(Error::Agent(why))),
        Event::Failure(failure) => Some(Err(failure.into())),
        _ => None,
    }
}

/// Keeps the terms: says what is to be said, tells when it is `overdue`, and
/// returns why when it is to be given up.
async fn keep(input: Input, terms: Terms, overdue: &AtomicBool) -> Error {
    let Terms { timeout, stop_signal, mut controls } = terms;
    let ends = timeout.and_then(|timeout| Instant::now().checked_add(timeout.duration()));
    let mut kills = None;
    loop {
        tokio::select! {
            () = at(ends), if kills.is_none() => break,
            () = at(kills) => {
                let _ = input.control(&Control::Signal(libc::SIGKILL)).await;
                tokio::time::sleep(LAST_WORD).await;
                return Error::Output(std::io::Error::other("the command was killed and nobody reads on"));
            }
            Some(control) = said(&mut controls) => {
                let asks = matches!(control, Control::Signal(libc::SIGINT | libc::SIGTERM));
                if asks && kills.is_none() {
                    kills = Instant::now().checked_add(SIGNAL_GRACE);
                }
                let _ = input.control(&control).await;
            }
        }
    }
    overdue.store(true, Relaxed);
    let _ = input.control(&Control::Signal(stop_signal)).await;
    tokio::time::sleep(TIMEOUT_GRACE).await;
    Error::Timeout(timeout.unwrap_or_default())
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn said(controls: &mut Option<mpsc::Receiver<Control>>) -> Option<Control> {
    match controls {
        Some(controls) => controls.recv().await,
        None => None,
    }
}

/// What to run, as the guest is told.
pub(crate) fn job(command: &Command) -> Job {
    match command {
        Command::Shell(text) => Job::Shell(text.clone()),
        Command::Argv(argv) => Job::Argv(argv.clone()),
    }
}

/// How a process ended, as users are told.
pub(crate) fn outcome(exited: &Exited, duration: Duration) -> Outcome {
    let by_signal = exited.signal.map(|signal| 128_i32.saturating_add(signal));
    let usage = Usage {
        cpu_ms: exited.cpu_us.map(|us| us / 1000),
        peak_memory_bytes: exited.peak_memory,
        oom: exited.oom,
        pids_limit: exited.pids_limit,
        left_running: exited.left_running,
        read_bytes: exited.read_bytes,
        write_bytes: exited.write_bytes,
        disk_full: exited.disk_full.unwrap_or(false),
        guest_wall_us: exited.wall_us,
        net: exited.net.clone(),
    };
    Outcome { exit_code: exited.code.or(by_signal).unwrap_or(1) & 0xff, duration, usage }
}

fn deliver(output: &mut dyn Output, lane: Lane, bytes: &[u8]) -> Result<(), Error> {
    let stream = match lane {
        Lane::Stderr => OutputStream::Stderr,
        Lane::Stdin | Lane::Stdout => OutputStream::Stdout,
    };
    output.write(stream, bytes).map_err(Error::Output)
}

/// Sends all of `source`. A process that has ended needs no more of it, and a
/// channel that is gone is noticed by whoever reads from it.
async fn feed(input: Input, source: Source<'_>) -> Result<(), Error> {
    match source {
        Source::Empty => {}
        Source::Ours => pour(tokio::io::stdin(), &input, |_| {}).await.map_err(Error::Input)?,
        Source::Fed(mut pieces) => {
            while let Some(piece) = pieces.recv().await {
                if input.send(&piece).await.is_err() {
                    return Ok(());
                }
            }
        }
        Source::Tree(path, task) => feed_tree(path, task, &input).await?,
    }
    let _ = input.end().await;
    Ok(())
}

/// Pours all that comes from `from` into an input, at the input's pace, and
/// tells how much each piece was. An error is that of reading.
pub(crate) async fn pour(
    mut from: impl AsyncReadExt + Unpin,
    to: &Input,
    mut moved: impl FnMut(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 || to.send(&buffer[..n]).await.is_err() {
            return Ok(());
        }
        moved(n);
    }
}

async fn feed_tree(path: &Path, task: &dyn Task, input: &Input) -> Result<(), Error> {
    let at = |source: io::Error| Error::Path { path: path.to_owned(), source };
    let (sink, from) = pipe::pipe().map_err(at)?;
    let sink = std::fs::File::from(sink.into_blocking_fd().map_err(at)?);
    let tree = path.to_owned();
    let packing = tokio::task::spawn_blocking(move || lampyr_tree::pack(&tree, sink));
    let (mut moved, total) = (0, size(path));
    let count = |n| {
        moved += n as u64;
        task.moved(moved, total);
    };
    pour(from, input, count).await.map_err(at)?;
    match packing.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Error::Copy { what: path.display().to_string(), why: e.to_string() }),
        Err(e) => Err(Error::Copy { what: path.display().to_string(), why: e.to_string() }),
    }
}

/// How much there is to send of a single file; how much a tree holds is known
/// once it was read.
fn size(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    // Holes are not sent.
    Some(meta.len().min(meta.blocks().saturating_mul(512)))
}
