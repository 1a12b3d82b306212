//! From the arguments of `run` to a request that can be carried out.

use lampyr_image::{DEFAULT_IMAGE, ImageRef};
use lampyr_types::Span;

use crate::args::RunArgs;
use crate::bad_input::{BadInput, BadValue};
use crate::core_api::{Access, BadCommand, Command, RunRequest};
use crate::env_vars;
use crate::wiring::HostChoice;

use super::secrets::Wanted;
use super::transfer::{copy_in, copy_out, remote_path};
use super::{Layers, Machine, ReportSettings, parse, shown};

/// Everything `run` needs to know, checked.
pub(crate) struct RunSettings {
    /// What to run.
    pub(crate) request: RunRequest,
    /// Where to run it.
    pub(crate) host: HostChoice,
    /// How to tell what it says.
    pub(crate) report: ReportSettings,
    /// Whether to draw the stages of the launch.
    pub(crate) boot_trace: bool,
}

impl RunSettings {
    /// Resolves and checks everything; then asks for what is secret.
    pub(crate) fn resolve(args: &RunArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let (mut settings, secrets) = Self::checked(args, layers)?;
        fill(&mut settings.request.net, &secrets, layers)?;
        Ok(settings)
    }

    /// Resolves and checks everything; touches nothing.
    pub(super) fn checked(args: &RunArgs, layers: &Layers<'_>) -> Result<(Self, Wanted), BadInput> {
        check_nul(args)?;
        let (request, secrets) = request(args, layers)?;
        let settings = Self {
            request,
            host: layers.host()?,
            report: ReportSettings::resolve(args.max_output.as_deref(), layers)?,
            boot_trace: layers.boot_trace()?,
        };
        Ok((settings, secrets))
    }
}

/// Puts values to what a VM may reach, once all else is known to hold.
pub(super) fn fill(
    net: &mut Option<Access>,
    secrets: &Wanted,
    layers: &Layers<'_>,
) -> Result<(), BadInput> {
    if let Some(access) = net {
        access.secrets = secrets.fetch(&layers.world().env)?;
    }
    Ok(())
}

fn request(args: &RunArgs, layers: &Layers<'_>) -> Result<(RunRequest, Wanted), BadInput> {
    let workdir = args.workdir.as_deref().map(|dir| remote_path("--workdir", dir));
    if args.pty {
        return Err(BadInput::Pty);
    }
    let env = variables(&args.env)?;
    let machine = Machine::resolve(&args.machine, layers)?;
    machine.secrets.no_variables(&env)?;
    let request = RunRequest {
        command: own_command(args, machine.origin.image())?,
        origin: machine.origin,
        cpus: machine.cpus,
        memory: machine.memory,
        disk_size: machine.disk_size,
        forwards: machine.forwards,
        mounts: machine.mounts,
        net: machine.net,
        timeout: timeout(args.timeout.as_deref(), layers)?,
        env,
        workdir: workdir.transpose()?,
        copy_in: args.copy.iter().map(|given| copy_in(given)).collect::<Result<_, _>>()?,
        copy_out: args.download.iter().map(|given| copy_out(given)).collect::<Result<_, _>>()?,
        stdin: !layers.world().stdin_is_terminal,
    };
    Ok((request, machine.secrets))
}

/// The command; an image may have one of its own, but the default one has none.
fn own_command(args: &RunArgs, image: Option<&ImageRef>) -> Result<Option<Command>, BadInput> {
    let none = args.command.is_none() && args.argv.is_empty();
    if none && image.is_none_or(|image| image.to_string() != DEFAULT_IMAGE) {
        return Ok(None);
    }
    command(args.command.as_deref(), &args.argv).map(Some)
}

/// The command, of which there must be exactly one.
pub(super) fn command(text: Option<&str>, argv: &[String]) -> Result<Command, BadInput> {
    Command::of(text, argv).map_err(|e| match e {
        BadCommand::None => BadInput::NoCommand,
        BadCommand::Empty => BadInput::EmptyCommand,
        BadCommand::Two => BadInput::TwoCommands,
    })
}

/// How long a command may run.
pub(super) fn timeout(flag: Option<&str>, layers: &Layers<'_>) -> Result<Span, BadInput> {
    let picked = layers.pick(flag, &env_vars::TIMEOUT, parse)?;
    picked.then(some_time).map(|picked| picked.value)
}

/// What may take no time at all is never done.
pub(super) fn some_time(asked: Span) -> Result<Span, BadValue> {
    let least = Span::millis(1);
    if asked < least { Err(BadValue::TooSmall { asked, least }) } else { Ok(asked) }
}

/// Reads all `--env`.
pub(super) fn variables(given: &[String]) -> Result<Vec<(String, String)>, BadInput> {
    given.iter().map(|given| variable(given)).collect()
}

/// Reads `KEY=VALUE`.
fn variable(given: &str) -> Result<(String, String), BadInput> {
    match given.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(BadInput::Env(shown(given))),
    }
}

fn check_nul(args: &RunArgs) -> Result<(), BadInput> {
    no_nul(&[
        ("the command", args.command.as_slice()),
        ("the program", &args.argv),
        ("--env", &args.env),
        ("--copy", &args.copy),
        ("--download", &args.download),
        ("--mount", &args.machine.mount),
        ("--workdir", args.workdir.as_slice()),
    ])
}

/// Refuses NUL bytes, which the guest could not pass on.
pub(super) fn no_nul(texts: &[(&'static str, &[String])]) -> Result<(), BadInput> {
    let bad = texts.iter().find(|(_, texts)| texts.iter().any(|text| text.contains('\0')));
    bad.map_or(Ok(()), |(what, _)| Err(BadInput::Nul(what)))
}
