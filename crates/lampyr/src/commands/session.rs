//! `lampyr session`: start, stop, list; and `session-owner`, which `start`
//! leaves behind.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::args::{ListArgs, SessionCommand, StartArgs, StopArgs};
use crate::core_api::{self as core, OwnerReply, SessionRecord, SessionState, Stopped};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers, StartSettings, StopSettings};
use crate::wiring;

use super::human;

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
    let owner = owner(layers.home())?;
    let started = super::block_on(async {
        let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
        let starting = async {
            let host = core::Host::open(&wiring::host(host, progress)?).await?;
            core::start_session(&host, &request, owner).await.map_err(Failure::from)
        };
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(Err(status)),
            started = starting => started.map(Ok),
        }
    })??;
    match (started, format) {
        (Err(status), _) => return Ok(status),
        (Ok(sid), Format::Json) => printer.json(&json!({"sid": sid.to_string()}))?,
        (Ok(sid), Format::Text) => printer.data(format!("{sid}\n").as_bytes())?,
    }
    Ok(0)
}

/// This very program, to own a session.
pub(super) fn owner(home: &Path) -> Result<std::process::Command, Failure> {
    let failed = |source| Failure::System { what: "find this program", source };
    let mut owner = std::process::Command::new(std::env::current_exe().map_err(failed)?);
    owner.arg("session-owner").env("LAMPYR_HOME", home).stderr(Stdio::null());
    Ok(owner)
}

/// Owns a session from now on: reads the request, says how the start went, and
/// stays until the session is over.
pub(super) fn own(layers: &Layers<'_>) -> Result<u8, Failure> {
    let read = |source| Failure::System { what: "read the request", source };
    let request = serde_json::from_reader(io::stdin().lock()).map_err(|e| read(e.into()))?;
    let detached = detach().map_err(|source| Failure::System { what: "detach", source });
    detached?;
    let host = layers.host()?;
    super::block_on(async {
        let progress = std::sync::Arc::new(lampyr_types::NoProgress);
        match core::Host::open(&wiring::host(host, progress)?).await {
            Ok(host) => core::own_session(&host, &request, |started| reply(&started.into())).await,
            Err(e) => drop(reply(&Err(e).into())),
        }
        Ok(0)
    })?
}

/// Leaves the terminal and the directory of whoever started us.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    std::env::set_current_dir("/")?;
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, files)?)
}

/// Says how the start went, and then nothing more. Returns whether anybody
/// heard it.
fn reply(reply: &OwnerReply) -> bool {
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
    let home = layers.home();
    let sids = match &settings.sid {
        Some(sid) => vec![sid.clone()],
        None => core::sessions(home)?.into_iter().map(|(s, _)| s.sid.to_string()).collect(),
    };
    let mut answers = Vec::new();
    for sid in &sids {
        let stopped = super::block_on(core::stop_session(home, sid, settings.grace))?;
        answers.push(confirmed(sid, &stopped?));
    }
    match (layers.format(false)?, settings.sid) {
        (Format::Json, Some(_)) => printer.json(&answers.remove(0))?,
        (Format::Json, None) => printer.json(&Value::Array(answers))?,
        (Format::Text, _) => {
            for sid in &sids {
                printer.data(format!("stopped {sid}\n").as_bytes())?;
            }
        }
    }
    Ok(0)
}

fn confirmed(sid: &str, stopped: &Stopped) -> Value {
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
        "image": session.image.to_string(),
        "cpus": session.cpus,
        "memory": session.memory,
        "created": session.created.to_string(),
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
        let (sid, image, state) =
            (session.sid.to_string(), session.image.to_string(), state.word());
        let _ = writeln!(text, "{sid:36}  {image:16}  {state:8}  {memory:>8}  {name}");
    }
    text
}
