//! `lampyr session`: start, stop, list; and `session-owner`, which `start`
//! leaves behind.

use std::fmt::Write as _;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lampyr_types::Name;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use crate::args::{ListArgs, SessionCommand, StartArgs, StopArgs};
use crate::conceal::conceal;
use crate::core_api::{
    self as core, OwnerReply, SessionRecord, SessionRequest, SessionState, Stopped,
};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, heard};
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers, StartSettings, StopSettings};
use crate::wiring;

use super::human;

/// Sessions that `stop --all` stops at the same time.
const STOPS_AT_ONCE: usize = 16;

/// Tells the commands under `session` apart.
pub(super) fn session(
    command: &SessionCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    match command {
        SessionCommand::Start(args) => start(args, layers, printer),
        SessionCommand::Stop(args) => stop(args, layers, printer),
        SessionCommand::List(args) => list(args, layers, printer),
    }
}

fn start(args: &StartArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let StartSettings { request, host } = StartSettings::resolve(args, layers)?;
    let format = layers.format(false)?;
    let progress = progress(layers.world(), printer);
    let mut owner = owner(layers.home(), "session-owner")?;
    // What the owner is told by a pipe is not to be in its environment.
    for secret in request.net.iter().flat_map(|access| &access.secrets) {
        owner.env_remove(secret.name());
    }
    let started = super::block_on(async {
        let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
        let starting = async {
            let host = core::Host::open(&wiring::host(host, progress)?).await?;
            core::start_session(&host, &request, owner).await.map_err(Failure::from)
        };
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(Err(status)),
            started = heard(starting) => started.map(Ok),
        }
    })??;
    let sid = match started {
        Ok(sid) => sid.to_string(),
        Err(status) => return Ok(status),
    };
    let told = match format {
        Format::Json => printer.json(&json!({"sid": sid})),
        Format::Text => printer.data(format!("{sid}\n").as_bytes()),
    };
    if told.is_err() {
        // A session that nobody knows of would never be stopped.
        super::block_on(core::stop_session(layers.home(), &sid, Duration::ZERO))??;
    }
    Ok(told.map(|()| 0)?)
}

/// This very program, to own something as `command` says.
pub(super) fn owner(home: &Path, command: &str) -> Result<std::process::Command, Failure> {
    let failed = |source| Failure::System { what: "find this program", source };
    let mut owner = std::process::Command::new(std::env::current_exe().map_err(failed)?);
    owner.arg(command).env("LAMPYR_HOME", home).stderr(Stdio::null());
    Ok(owner)
}

/// Owns a session from now on: reads the request, says how the start went, and
/// stays until the session is over.
pub(super) fn own(layers: &Layers<'_>) -> Result<u8, Failure> {
    let read = |source| Failure::System { what: "read the request", source };
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(read)?;
    let request: SessionRequest = serde_json::from_str(&line).map_err(|e| read(e.into()))?;
    // What an attached session hangs on: nothing more comes through it but its end.
    let leash =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|e| read(e.into()))?;
    if request.net.as_ref().is_some_and(|access| !access.secrets.is_empty()) {
        conceal();
    }
    let detached = detach().map_err(|source| Failure::System { what: "detach", source });
    detached?;
    let host = layers.host()?;
    super::block_on(async {
        let progress = std::sync::Arc::new(lampyr_types::NoProgress);
        match core::Host::open(&wiring::host(host, progress)?).await {
            Ok(host) => {
                let orphaned = end_of(leash);
                core::own_session(&host, &request, orphaned, |s| reply(&s.into())).await;
            }
            Err(e) => drop(reply(&Err(e).into())),
        }
        Ok(0)
    })?
}

/// Waits until nobody holds the other end of a pipe.
async fn end_of(pipe: OwnedFd) {
    match pipe::Receiver::from_owned_fd(pipe) {
        Ok(mut pipe) => drop(pipe.read(&mut [0]).await),
        Err(_) => std::future::pending().await,
    }
}

/// Leaves the terminal and the directory of whoever started us.
pub(super) fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    std::env::set_current_dir("/")?;
    super::raise_file_limit()
}

/// Says how the start went, and then nothing more. Returns whether anybody
/// heard it.
pub(super) fn reply(reply: &OwnerReply) -> bool {
    use io::Write as _;
    let line = serde_json::to_string(reply).unwrap_or_default();
    let heard = writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()).is_ok();
    let silence = || -> io::Result<()> {
        let nowhere = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nowhere)?;
        Ok(rustix::stdio::dup2_stdout(&nowhere)?)
    };
    heard && silence().is_ok()
}

fn stop(args: &StopArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let settings = StopSettings::resolve(args)?;
    let format = layers.format(false)?;
    let home = layers.home();
    let Some(sid) = settings.sid else {
        let sessions = core::sessions(home)?.into_iter();
        let sids = sessions.map(|(session, _)| session.sid.to_string()).collect();
        let answers = super::block_on(stop_all(home, sids, settings.grace))?;
        return tell_all(&answers, format, printer);
    };
    // Once it is stopped nobody has its name any more.
    let id = core::session_id(home, &sid).map_or_else(|| sid.clone(), |id| id.to_string());
    let stopped = super::block_on(core::stop_session(home, &sid, settings.grace))??;
    match format {
        Format::Json => printer.json(&confirmed(&id, &stopped))?,
        Format::Text => printer.data(format!("stopped {sid}\n").as_bytes())?,
    }
    Ok(0)
}

/// How each of several sessions took its end.
pub(super) type Answers = Vec<(String, Result<Stopped, core::Error>)>;

/// Stops sessions, some at a time, and tells of each how that went.
pub(super) async fn stop_all(home: &Path, sids: Vec<String>, grace: Duration) -> Answers {
    let mut waiting = sids.into_iter();
    let (mut stopping, mut answers) = (JoinSet::new(), Vec::new());
    loop {
        for sid in waiting.by_ref().take(STOPS_AT_ONCE - stopping.len()) {
            let home = home.to_owned();
            stopping.spawn(async move {
                let stopped = core::stop_session(&home, &sid, grace).await;
                (sid, stopped)
            });
        }
        match stopping.join_next().await {
            Some(Ok(answer)) => answers.push(answer),
            Some(Err(_)) => {}
            None => return answers,
        }
    }
}

/// Tells how several sessions took their end; one that did not makes it 1.
pub(super) fn tell_all(
    answers: &Answers,
    format: Format,
    printer: &Printer,
) -> Result<u8, Failure> {
    if format == Format::Json {
        let told = answers.iter().map(|(sid, stopped)| match stopped {
            Ok(stopped) => confirmed(sid, stopped),
            Err(e) => json!({"sid": sid, "error": e.to_string()}),
        });
        printer.json(&told.collect())?;
    } else {
        for (sid, stopped) in answers {
            match stopped {
                Ok(_) => printer.data(format!("stopped {sid}\n").as_bytes())?,
                Err(e) => printer.error(&format!("{sid}: {e}"), e.hint().as_deref()),
            }
        }
    }
    Ok(u8::from(answers.iter().any(|(_, stopped)| stopped.is_err())))
}

pub(super) fn confirmed(sid: &str, stopped: &Stopped) -> Value {
    let mut answer = json!({"stopped": sid, "confirmed": true});
    if *stopped == Stopped::Before {
        answer["note"] = "already stopped".into();
    }
    answer
}

fn list(args: &ListArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    let sessions = core::sessions(layers.home())?;
    match format {
        Format::Json => printer.json(&sessions.iter().map(row).collect())?,
        Format::Text => printer.data(table(&sessions).as_bytes())?,
    }
    Ok(0)
}

fn row((session, state): &(SessionRecord, SessionState)) -> Value {
    json!({
        "sid": session.sid.to_string(),
        "name": session.name.as_ref().map(ToString::to_string),
        "pid": session.pid,
        "image": session.image,
        "snapshot": session.snapshot.as_ref().map(Name::as_str),
        "cpus": session.cpus,
        "memory": session.memory,
        "created": session.created.to_string(),
        "secrets": session.secrets,
        "status": state.word(),
    })
}

fn table(sessions: &[(SessionRecord, SessionState)]) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut text = format!("{:36}  {:16}  {:8}  {:>8}  NAME\n", "SID", "IMAGE", "STATUS", "MEMORY");
    for (session, state) in sessions {
        let (name, memory) =
            (session.name.as_ref().map_or("", |n| n.as_str()), human(session.memory));
        let (sid, image, state) = (session.sid.to_string(), &session.image, state.word());
        let _ = writeln!(text, "{sid:36}  {image:16}  {state:8}  {memory:>8}  {name}");
    }
    text
}
