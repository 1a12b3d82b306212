//! `config.toml`: plain keys, each the default of one setting.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::bad_input::{BadInput, BadValue, Origin};
use crate::env_vars::{self, Variable};

/// What the configuration file says.
#[derive(Debug, Default)]
pub(super) struct Config {
    path: PathBuf,
    values: BTreeMap<&'static str, String>,
}

impl Config {
    /// Reads the file; one that is not there says nothing.
    pub(super) fn read(path: &Path) -> Result<Self, BadInput> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(BadInput::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, BadInput> {
        let table: toml::Table = text.parse().map_err(|e| syntax(path, text, &e))?;
        let mut values = BTreeMap::new();
        for (key, value) in &table {
            let (variable, key) = known(key).ok_or_else(|| unknown(path, key))?;
            let origin = || Origin::Config(key, path.to_owned());
            let bad = |reason| BadInput::Setting { origin: origin(), reason, variable };
            values.insert(key, plain(value).ok_or(BadValue::NotPlain).map_err(bad)?);
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// What the file says about a setting.
    pub(super) fn get(&self, variable: &Variable) -> Option<(Origin, &str)> {
        let (key, value) = self.values.get_key_value(variable.key?)?;
        Some((Origin::Config(key, self.path.clone()), value))
    }
}

/// The setting that a key belongs to.
fn known(key: &str) -> Option<(&'static Variable, &'static str)> {
    let mut keyed = env_vars::ALL.into_iter().filter_map(|v| v.key.map(|key| (v, key)));
    keyed.find(|(_, known)| *known == key)
}

/// A value as it would stand in an environment variable.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(u8::from(*on).to_string()),
        _ => None,
    }
}

fn unknown(path: &Path, key: &str) -> BadInput {
    let known: Vec<_> = env_vars::ALL.iter().filter_map(|variable| variable.key).collect();
    BadInput::ConfigKey { path: path.to_owned(), key: super::shown(key), known: known.join(", ") }
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> BadInput {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    BadInput::ConfigSyntax { path: path.to_owned(), line, message: error.message().to_owned() }
}
