//! From the arguments of the commands on sessions to requests that can be
//! carried out.

use std::path::PathBuf;
use std::time::Duration;

use lampyr_types::{Name, Span};

use crate::args::{CpArgs, ExecArgs, StartArgs, StopArgs};
use crate::bad_input::{BadInput, BadValue};
use crate::core_api::limits::{BadSessionName, session_name};
use crate::core_api::{CopyIn, CopyOut, ExecRequest, SessionRequest, peer_name};
use crate::env_vars;
use crate::wiring::HostChoice;

use super::run::{command, fill, no_nul, timeout, variables};
use super::transfer::{existing, remote_path};
use super::{Layers, Machine, ReportSettings, shown};

/// How long what runs in a session may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// How long `--grace` gives what runs.
pub(crate) fn grace(given: Option<&str>) -> Result<Duration, BadInput> {
    let grace = given.map(|given| span("--grace", given)).transpose()?;
    Ok(grace.map_or(GRACE, Span::duration))
}

/// Everything `session start` needs to know, checked.
pub(crate) struct StartSettings {
    /// What to start.
    pub(crate) request: SessionRequest,
    /// Where.
    pub(crate) host: HostChoice,
}

impl StartSettings {
    /// Resolves and checks everything; then asks for what is secret.
    pub(crate) fn resolve(args: &StartArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        no_nul(&[("--env", &args.env), ("--mount", &args.machine.mount)])?;
        let env = variables(&args.env)?;
        let mut machine = Machine::resolve(&args.machine, layers)?;
        if let Some(private) = machine.net.as_mut().and_then(|net| net.private.as_mut()) {
            private.name = args.name.as_deref().map(peer_name).transpose()?;
        }
        machine.secrets.no_variables(&env)?;
        let ttl = args.ttl.as_deref().map(|given| span("--ttl", given)).transpose()?;
        let mut request = SessionRequest {
            name: args.name.as_deref().map(name).transpose()?,
            origin: machine.origin,
            cpus: machine.cpus,
            memory: machine.memory.as_bytes(),
            disk_size: machine.disk_size.as_bytes(),
            env,
            workdir: None,
            attached: false,
            forwards: machine.forwards,
            mounts: machine.mounts,
            net: machine.net,
            ttl_ms: ttl.map(Span::as_millis).filter(|ms| *ms > 0),
            checkpoints: args.checkpoints.unwrap_or(0),
            crowd: false,
        };
        let host = layers.host()?;
        fill(&mut request.net, &machine.secrets, layers)?;
        Ok(Self { request, host })
    }
}

/// Everything `session stop` needs to know, checked.
pub(crate) struct StopSettings {
    /// Which one; `None`: all of them.
    pub(crate) sid: Option<String>,
    /// How long what runs in it may take to end.
    pub(crate) grace: Duration,
}

impl StopSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &StopArgs) -> Result<Self, BadInput> {
        let grace = grace(args.grace.as_deref())?;
        let sid = match (&args.sid, args.all) {
            (Some(given), false) => Some(sid(given)?),
            (None, true) => None,
            _ => return Err(BadInput::OneOrAll),
        };
        Ok(Self { sid, grace })
    }
}

/// What `exec` is to do.
pub(crate) enum ExecAction {
    /// Start a job and go.
    Detach(ExecRequest, Option<String>),
    /// Stay and tell what is said.
    Stay(Staying),
}

/// What `exec` stays for.
pub(crate) enum Staying {
    /// Run a command and wait for it.
    Run(ExecRequest),
    /// Run a command on a terminal.
    Terminal(ExecRequest),
    /// Run a command once under a key, and wait for it.
    Once(ExecRequest, String),
    /// Follow a job.
    Attach(String),
    /// Wait for a job.
    Wait(String),
}

/// Everything `exec` needs to know, checked.
pub(crate) struct ExecSettings {
    /// The session.
    pub(crate) sid: String,
    /// What to do in it.
    pub(crate) action: ExecAction,
    /// How to tell what it says.
    pub(crate) report: ReportSettings,
}

impl ExecSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &ExecArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        no_nul(&[
            ("the command", args.command.as_slice()),
            ("the program", &args.argv),
            ("--env", &args.env),
            ("--user", args.user.as_slice()),
            ("--workdir", args.workdir.as_slice()),
        ])?;
        Ok(Self {
            sid: sid(&args.sid)?,
            action: action(args, layers)?,
            report: ReportSettings::resolve(args.max_output.as_deref(), layers)?,
        })
    }
}

fn action(args: &ExecArgs, layers: &Layers<'_>) -> Result<ExecAction, BadInput> {
    if let Some(job) = &args.attach {
        return Ok(ExecAction::Stay(Staying::Attach(job.clone())));
    }
    if let Some(job) = &args.wait {
        return Ok(ExecAction::Stay(Staying::Wait(job.clone())));
    }
    let request = request(args, layers)?;
    if args.pty && !layers.world().stdin_is_terminal {
        return Err(BadInput::NoTerminal);
    }
    Ok(match (args.pty, args.detach, args.key.clone()) {
        (true, ..) => ExecAction::Stay(Staying::Terminal(request)),
        (_, true, key) => ExecAction::Detach(request, key),
        (_, _, Some(key)) => ExecAction::Stay(Staying::Once(request, key)),
        _ => ExecAction::Stay(Staying::Run(request)),
    })
}

fn request(args: &ExecArgs, layers: &Layers<'_>) -> Result<ExecRequest, BadInput> {
    let workdir = args.workdir.as_deref().map(|dir| remote_path("--workdir", dir));
    // Whoever sits at a terminal, or goes away, sets no clock unless they say so.
    let endless = (args.pty || args.detach) && args.timeout.is_none();
    let limit = timeout(args.timeout.as_deref(), layers)?;
    let mut env = variables(&args.env)?;
    let given = env.iter().any(|(key, _)| key == "TERM");
    if let Some(term) = layers.world().env.get(&env_vars::TERM).filter(|_| args.pty && !given) {
        env.push(("TERM".to_owned(), term.to_string_lossy().into_owned()));
    }
    let alone = args.detach || args.key.is_some();
    Ok(ExecRequest {
        command: command(args.command.as_deref(), &args.argv)?,
        env,
        workdir: workdir.transpose()?,
        user: args.user.clone(),
        timeout: (!endless).then_some(limit),
        stdin: args.pty || (!alone && !layers.world().stdin_is_terminal),
        terminal: None,
    })
}

/// One copy between this host and a session.
pub(crate) enum Copy {
    /// Into the session.
    In(String, CopyIn),
    /// Out of it.
    Out(String, CopyOut),
}

impl Copy {
    /// Tells which side is the VM's.
    pub(crate) fn resolve(args: &CpArgs) -> Result<Self, BadInput> {
        let sides = [("the source", &args.source), ("the target", &args.target)];
        no_nul(&sides.map(|(what, side)| (what, std::slice::from_ref(side))))?;
        match (remote(&args.source), remote(&args.target)) {
            (None, Some((session, path))) => {
                let remote = remote_path("target", path)?;
                Ok(Self::In(sid(session)?, CopyIn { local: existing("cp", &args.source)?, remote }))
            }
            (Some((session, path)), None) => {
                let remote = remote_path("source", path)?;
                Ok(Self::Out(sid(session)?, CopyOut { remote, local: PathBuf::from(&args.target) }))
            }
            _ => Err(BadInput::CopySides),
        }
    }
}

/// `SESSION:/path`, where that is what it is: nothing before the colon could
/// be a path.
fn remote(given: &str) -> Option<(&str, &str)> {
    let (session, path) = given.split_once(":/")?;
    let plain = !session.is_empty() && !session.contains('/');
    plain.then(|| (session, &given[given.len() - path.len() - 1..]))
}

/// A session's id or name; what `session start` printed will do.
pub(crate) fn sid(given: &str) -> Result<String, BadInput> {
    let given = given.trim();
    let word = match serde_json::from_str::<serde_json::Value>(given) {
        Ok(value) if value.is_object() => value["sid"].as_str().unwrap_or_default().to_owned(),
        _ => given.to_owned(),
    };
    // An id is a good name, too.
    word.parse::<Name>().map(|_| word).map_err(|_| BadInput::Session(shown(given)))
}

fn name(given: &str) -> Result<Name, BadInput> {
    let bad = |e| BadInput::Flag { flag: "--name", reason: BadValue::Name(e), example: "builder" };
    session_name(given).map_err(|e| match e {
        BadSessionName::Name(e) => bad(e),
        taken @ BadSessionName::IsId(_) => BadInput::NameIsId(taken),
    })
}

pub(super) fn span(flag: &'static str, given: &str) -> Result<Span, BadInput> {
    // Nothing at all needs no unit.
    let given = if given == "0" { "0s" } else { given };
    let bad = |e| BadInput::Flag { flag, reason: BadValue::Quantity(e), example: "5m" };
    given.parse().map_err(bad)
}
