//! Settings: a flag beats the environment, which beats `config.toml`, which
//! beats the default.

mod config;
mod image;
mod machine;
mod manifest;
mod mounts;
mod net;
mod pool;
mod registry;
mod run;
mod secrets;
mod serve;
mod session;
mod snapshot;
mod transfer;
mod volume;

use std::io::ErrorKind::NotADirectory;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lampyr_engine::Accel;
use lampyr_types::Size;

use crate::bad_input::{BadInput, BadValue, Origin};
use crate::core_api::AccelChoice;
use crate::env_vars::{self, Env, Variable};
use crate::wiring::HostChoice;
use crate::world::World;

use config::Config;
pub(crate) use image::{CreateSettings, image, reference};
use machine::Machine;
pub(crate) use manifest::NetworkSettings;
pub(crate) use net::{NewPolicy, network_name, policy_file};
pub(crate) use pool::{BatchSettings, PoolSettings, numbered_run};
pub(crate) use run::RunSettings;
pub(crate) use serve::{Place, ServeSettings};
pub(crate) use session::{
    Copy, ExecAction, ExecSettings, StartSettings, Staying, StopSettings, grace, sid,
};
pub(crate) use snapshot::{BuildSettings, NewSnapshot, pull_request, snapshot_name};
pub(crate) use volume::{NewVolume, volume_name};

/// How a command that answers with data prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How `run` prints what its command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunFormat {
    /// One JSON object at the end.
    Envelope,
    /// The bytes as they come.
    Streamed,
    /// The bytes, all at the end.
    AtEnd,
    /// Lines of JSON as the bytes come.
    Ndjson,
}

/// How to tell what a command says.
#[derive(Debug)]
pub(crate) struct ReportSettings {
    /// In which form.
    pub(crate) format: RunFormat,
    /// How much of each stream to keep.
    pub(crate) max_output: usize,
    /// Where to put the whole of a stream that is longer.
    pub(crate) outputs: PathBuf,
}

impl ReportSettings {
    fn resolve(max_output: Option<&str>, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let size = layers.pick(max_output, &env_vars::MAX_OUTPUT, parse::<Size>)?.value;
        Ok(Self {
            format: layers.run_format()?,
            max_output: usize::try_from(size.as_bytes()).unwrap_or(usize::MAX),
            outputs: layers.home().join("outputs"),
        })
    }
}

/// The places a setting can come from, beneath the flags.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    world: &'a World,
    home: PathBuf,
    config: Config,
}

/// A value and who gave it.
#[derive(Debug)]
pub(crate) struct Picked<T> {
    /// The value.
    pub(crate) value: T,
    /// Who gave it.
    pub(crate) origin: Origin,
    variable: &'static Variable,
}

impl<T> Picked<T> {
    /// Judges or changes the value; complaints name where it came from.
    fn then<U>(self, judge: impl FnOnce(T) -> Result<U, BadValue>) -> Result<Picked<U>, BadInput> {
        let Self { value, origin, variable } = self;
        match judge(value) {
            Ok(value) => Ok(Picked { value, origin, variable }),
            Err(reason) => Err(BadInput::Setting { origin, reason, variable }),
        }
    }
}

impl<'a> Layers<'a> {
    /// Finds the home directory and reads the configuration file in it.
    pub(crate) fn open(world: &'a World) -> Result<Self, BadInput> {
        let (home, variable) = home(&world.env)?;
        let config = Config::read(&home.join("config.toml")).map_err(|e| match e {
            BadInput::Unreadable { source, .. } if source.kind() == NotADirectory => {
                BadInput::HomeNoDirectory { variable, path: home.clone() }
            }
            other => other,
        })?;
        Ok(Self { world, home, config })
    }

    /// The directory that holds everything Lampyr keeps.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// What is around this process.
    pub(crate) fn world(&self) -> &World {
        self.world
    }

    /// What the uppermost layer says about a setting.
    fn find(
        &self,
        flag: Option<&str>,
        variable: &'static Variable,
    ) -> Result<Option<Picked<String>>, BadInput> {
        let picked = |origin, value| Some(Picked { value, origin, variable });
        if let (Some(value), Some(name)) = (flag, variable.flag) {
            return Ok(picked(Origin::Flag(name), value.to_owned()));
        }
        if let Some(value) = self.world.env.get(variable) {
            let given = Picked { value, origin: Origin::Environment(variable.name), variable };
            let text = |v: &std::ffi::OsStr| v.to_str().map(str::to_owned).ok_or(BadValue::NotText);
            return given.then(text).map(Some);
        }
        Ok(self.config.get(variable).and_then(|(origin, value)| picked(origin, value.to_owned())))
    }

    /// What holds for a setting, read by `parse`.
    pub(crate) fn pick<T>(
        &self,
        flag: Option<&str>,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Result<Picked<T>, BadInput> {
        let default =
            || Picked { value: variable.default.to_owned(), origin: Origin::Default, variable };
        self.find(flag, variable)?.unwrap_or_else(default).then(|text| parse(&text))
    }

    /// The word among `words` that a setting has, if it has any.
    fn word(
        &self,
        variable: &'static Variable,
        words: &'static [&'static str],
    ) -> Result<Option<&'static str>, BadInput> {
        let Some(given) = self.find(None, variable)? else { return Ok(None) };
        given.then(|text| word(&text, words)).map(|picked| Some(picked.value))
    }

    /// How to print data; `json` is a command's own `--json`.
    pub(crate) fn format(&self, json: bool) -> Result<Format, BadInput> {
        let asked = if json { Some("json") } else { self.asked_format()? };
        Ok(match asked {
            Some("json") => Format::Json,
            None if !self.world.stdout_is_terminal => Format::Json,
            _ => Format::Text,
        })
    }

    fn asked_format(&self) -> Result<Option<&'static str>, BadInput> {
        self.word(&env_vars::FORMAT, &["json", "text"])
    }

    /// How to print what a command says.
    pub(crate) fn run_format(&self) -> Result<RunFormat, BadInput> {
        let ndjson = self.word(&env_vars::OUTPUT, &["ndjson"])?.is_some();
        let stream = self.word(&env_vars::STREAM, &["0", "1"])?;
        let asked = self.asked_format()?;
        let text = match asked {
            None => self.world.stdout_is_terminal || stream == Some("1"),
            Some(format) => format == "text",
        };
        Ok(match (ndjson, text) {
            (true, _) => RunFormat::Ndjson,
            (false, false) => RunFormat::Envelope,
            (false, true) if stream == Some("0") => RunFormat::AtEnd,
            (false, true) => RunFormat::Streamed,
        })
    }

    /// Whether to draw the stages of the launch.
    pub(crate) fn boot_trace(&self) -> Result<bool, BadInput> {
        Ok(self.word(&env_vars::BOOT_TRACE, &["0", "1"])? == Some("1"))
    }

    /// What the use-cases need to know about this host.
    pub(crate) fn host(&self) -> Result<HostChoice, BadInput> {
        self.word(&env_vars::ENGINE, &["auto", "qemu"])?;
        let accel = self.word(&env_vars::ACCEL, &["auto", "kvm", "hvf", "tcg"])?;
        let only = accel.and_then(|word| word.parse::<Accel>().ok());
        Ok(HostChoice {
            home: self.home.clone(),
            accel: only.map_or(AccelChoice::Auto, AccelChoice::Only),
            qemu: self.find(None, &env_vars::QEMU)?.map(|picked| picked.value.into()),
            registries: self.registries()?,
        })
    }
}

/// The one of `words` that `text` is.
fn word(text: &str, words: &'static [&'static str]) -> Result<&'static str, BadValue> {
    let found = words.iter().find(|word| **word == text);
    found.copied().ok_or_else(|| BadValue::Word { given: shown(text), words })
}

fn parse<T: FromStr<Err: Into<BadValue>>>(text: &str) -> Result<T, BadValue> {
    text.parse().map_err(T::Err::into)
}

/// As much of a wrong value as fits a sentence.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Where everything is kept, and which variable says so.
fn home(env: &Env) -> Result<(PathBuf, &'static Variable), BadInput> {
    let given = || Some((PathBuf::from(env.get(&env_vars::HOME)?), &env_vars::HOME));
    let usual = || {
        let home = env.get(&env_vars::USER_HOME)?;
        Some((Path::new(home).join(".lampyr"), &env_vars::USER_HOME))
    };
    let (path, variable) = given().or_else(usual).ok_or(BadInput::NoHome)?;
    let home = std::path::absolute(&path);
    home.map(|home| (home, variable)).map_err(|_| BadInput::HomeNowhere { variable, path })
}

#[cfg(test)]
mod tests;
