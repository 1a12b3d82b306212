//! From the arguments of `run` to a request that can be carried out.

use std::path::PathBuf;
use std::str::FromStr;

use lampyr_types::{Name, Size, Span};

use crate::args::RunArgs;
use crate::bad_input::{BadInput, BadValue, Origin};
use crate::core_api::{Command, RunRequest};
use crate::env_vars;
use crate::wiring::HostChoice;

use super::transfer::{copy_in, copy_out, remote_path};
use super::{Layers, Picked, RunFormat, shown};

/// The least memory a VM lives with.
const LEAST_MEMORY: Size = Size::mib(128);
/// Memory comes in pages of this many bytes.
const MEMORY_STEP: u64 = 2 << 20;
/// The smallest disk.
const LEAST_DISK: Size = Size::mib(1024);

/// Everything `run` needs to know, checked.
pub(crate) struct RunSettings {
    /// What to run.
    pub(crate) request: RunRequest,
    /// Where to run it.
    pub(crate) host: HostChoice,
    /// How to print what it says.
    pub(crate) format: RunFormat,
    /// How much of each stream to keep.
    pub(crate) max_output: usize,
    /// Where to put the whole of a stream that is longer.
    pub(crate) outputs: PathBuf,
    /// Whether to draw the stages of the launch.
    pub(crate) boot_trace: bool,
}

impl RunSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &RunArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        check_nul(args)?;
        Ok(Self {
            request: request(args, layers)?,
            host: layers.host()?,
            format: layers.run_format()?,
            max_output: max_output(args, layers)?,
            outputs: layers.home().join("outputs"),
            boot_trace: layers.boot_trace()?,
        })
    }
}

fn request(args: &RunArgs, layers: &Layers<'_>) -> Result<RunRequest, BadInput> {
    let workdir = args.workdir.as_deref().map(|dir| remote_path("--workdir", dir));
    Ok(RunRequest {
        command: command(args)?,
        image: layers.pick(args.image.as_deref(), &env_vars::IMAGE, parse::<Name>)?.value,
        cpus: cpus(args, layers)?,
        memory: memory(args, layers)?,
        disk_size: disk_size(args, layers)?,
        timeout: timeout(args, layers)?,
        env: args.env.iter().map(|given| variable(given)).collect::<Result<_, _>>()?,
        workdir: workdir.transpose()?,
        copy_in: args.copy.iter().map(|given| copy_in(given)).collect::<Result<_, _>>()?,
        copy_out: args.download.iter().map(|given| copy_out(given)).collect::<Result<_, _>>()?,
        stdin: !layers.world().stdin_is_terminal,
    })
}

/// The command, of which there must be exactly one.
fn command(args: &RunArgs) -> Result<Command, BadInput> {
    if args.pty {
        return Err(BadInput::Pty);
    }
    match (&args.command, args.argv.as_slice()) {
        (None, []) => Err(BadInput::NoCommand),
        (Some(_), [_, ..]) => Err(BadInput::TwoCommands),
        (Some(text), []) if text.trim().is_empty() => Err(BadInput::EmptyCommand),
        (None, [program, ..]) if program.trim().is_empty() => Err(BadInput::EmptyCommand),
        (Some(text), []) => Ok(Command::Shell(text.clone())),
        (None, words) => Ok(Command::Argv(words.to_vec())),
    }
}

/// The processors: an explicit number is refused where the default yields.
fn cpus(args: &RunArgs, layers: &Layers<'_>) -> Result<u32, BadInput> {
    let host = layers.world().cpus;
    let Picked { value, origin, variable } =
        layers.pick(args.cpus.as_deref(), &env_vars::CPUS, number)?;
    if origin == Origin::Default {
        return Ok(value.min(host));
    }
    let judged = Picked { value, origin, variable }.then(|asked| match asked {
        0 => Err(BadValue::TooSmall { asked: "0".to_owned(), least: "1".to_owned() }),
        _ if asked > host => Err(BadValue::TooManyCpus { asked, host }),
        _ => Ok(asked),
    });
    judged.map(|picked| picked.value)
}

/// The memory, rounded up to whole pages.
fn memory(args: &RunArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let host = layers.world().memory;
    let judge = |asked: Size| match asked {
        _ if asked < LEAST_MEMORY => Err(BadValue::small_size(asked, LEAST_MEMORY)),
        _ if asked.as_bytes() > host => {
            Err(BadValue::TooMuchMemory { asked, host: Size::mib(host >> 20) })
        }
        _ => Ok(Size::bytes(asked.as_bytes().next_multiple_of(MEMORY_STEP))),
    };
    let picked = layers.pick(args.memory.as_deref(), &env_vars::MEMORY, parse)?;
    picked.then(judge).map(|picked| picked.value)
}

fn disk_size(args: &RunArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let judge = |asked: Size| match asked {
        _ if asked < LEAST_DISK => Err(BadValue::small_size(asked, LEAST_DISK)),
        _ => Ok(asked),
    };
    let picked = layers.pick(args.disk_size.as_deref(), &env_vars::DISK_SIZE, parse)?;
    picked.then(judge).map(|picked| picked.value)
}

fn timeout(args: &RunArgs, layers: &Layers<'_>) -> Result<Span, BadInput> {
    let least = Span::millis(1);
    let judge = |asked: Span| match asked {
        _ if asked < least => Err(BadValue::small_span(asked, least)),
        _ => Ok(asked),
    };
    let picked = layers.pick(args.timeout.as_deref(), &env_vars::TIMEOUT, parse)?;
    picked.then(judge).map(|picked| picked.value)
}

fn max_output(args: &RunArgs, layers: &Layers<'_>) -> Result<usize, BadInput> {
    let flag = args.max_output.as_deref();
    let size = layers.pick(flag, &env_vars::MAX_OUTPUT, parse::<Size>)?.value;
    Ok(usize::try_from(size.as_bytes()).unwrap_or(usize::MAX))
}

/// Reads `KEY=VALUE`.
fn variable(given: &str) -> Result<(String, String), BadInput> {
    match given.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(BadInput::Env(shown(given))),
    }
}

fn parse<T: FromStr<Err: Into<BadValue>>>(text: &str) -> Result<T, BadValue> {
    text.parse().map_err(T::Err::into)
}

fn number(text: &str) -> Result<u32, BadValue> {
    text.parse().map_err(|_| BadValue::Number(shown(text)))
}

/// Refuses NUL bytes, which the guest could not pass on.
fn check_nul(args: &RunArgs) -> Result<(), BadInput> {
    let texts = [
        ("the command", args.command.as_slice()),
        ("the program", &args.argv),
        ("--env", &args.env),
        ("--copy", &args.copy),
        ("--download", &args.download),
        ("--workdir", args.workdir.as_slice()),
    ];
    let bad = texts.iter().find(|(_, texts)| texts.iter().any(|text| text.contains('\0')));
    bad.map_or(Ok(()), |(what, _)| Err(BadInput::Nul(what)))
}
