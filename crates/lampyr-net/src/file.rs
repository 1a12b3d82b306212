//! A policy as a file: TOML or JSON.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::policy::{BadPolicy, Policy};

/// The longest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// How alike two words are where one may be meant by the other, of 1.
const ALIKE: f64 = 0.7;

/// A network policy of Lampyr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    /// Where editors find this schema; nobody else reads it.
    #[serde(rename = "$schema", default, skip_serializing)]
    _schema: Option<String>,
    /// Rules as `--net allow=` has them: `[deny:]TARGET[:PORTS][/udp]`. The
    /// first that matches decides; what none matches is denied.
    #[schemars(length(max = 1000), inner(length(min = 1, max = 300)))]
    rules: Vec<String>,
}

/// Why a file is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Not TOML, or not JSON, of this shape.
    #[error("line {line}: {message}")]
    Syntax {
        /// Where, from 1 on.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// Its rules do not hold.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
}

impl BadFile {
    /// The word that may be meant instead of one that is unknown: a parser's
    /// message has both in back-quotes, the unknown one first.
    pub fn meant(&self) -> Option<String> {
        let Self::Syntax { message, .. } = self else { return None };
        let mut words = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
        let unknown = words.next()?;
        let alike = |word: &&str| strsim::jaro_winkler(unknown, word);
        let best = words.max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(&best) >= ALIKE).then(|| best.to_owned())
    }
}

/// Reads a policy file.
pub fn read(text: &str) -> Result<Policy, BadFile> {
    let file: PolicyFile = document(text)?;
    Ok(Policy::of(file.rules.iter().map(String::as_str))?)
}

/// Reads a file for people, of any shape. What begins with a brace is JSON,
/// all else TOML; a mark of byte order before it says nothing.
pub fn document<T: DeserializeOwned>(text: &str) -> Result<T, BadFile> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') { json(text) } else { toml(text) }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, BadFile> {
    let bad = |e: serde_json::Error| {
        let said = e.to_string();
        let message = said.split(" at line ").next().unwrap_or_default().to_owned();
        BadFile::Syntax { line: e.line(), message }
    };
    serde_json::from_str(text).map_err(bad)
}

fn toml<T: DeserializeOwned>(text: &str) -> Result<T, BadFile> {
    toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let message = e.message().lines().next().unwrap_or_default().to_owned();
        BadFile::Syntax { line: before.matches('\n').count() + 1, message }
    })
}

/// The JSON Schema of a policy file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(PolicyFile).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_say_the_same() {
        let toml = read("rules = [\n  'deny:x.example.com',\n  '*.example.com:443',\n]\n").unwrap();
        let json = read(r#"{"rules": ["deny:x.example.com", "*.example.com:443"]}"#).unwrap();
        assert_eq!(toml, json);
        assert_eq!(toml.to_string(), "allow=deny:x.example.com,*.example.com:443");
    }

    #[test]
    fn what_editors_add_says_nothing() {
        let plain = read("rules = ['host:1']").unwrap();
        for text in [
            "\u{feff}{\"rules\": [\"host:1\"]}",
            "\u{feff}rules = ['host:1']",
            "{\"$schema\": \"policy.schema.json\", \"rules\": [\"host:1\"]}",
            "'$schema' = 'policy.schema.json'\nrules = ['host:1']",
        ] {
            assert_eq!(read(text).as_ref(), Ok(&plain), "{text}");
        }
    }

    #[test]
    fn a_key_that_was_meant_is_named() {
        let rows =
            [("ruels = []", Some("rules")), ("xyzzy = 1", None), ("rules = 3", None), ("", None)];
        for (text, meant) in rows {
            assert_eq!(read(text).unwrap_err().meant().as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn a_bad_file_is_pointed_at() {
        let rows = [
            ("rules = [\n", "line 1: "),
            ("rules = []\nrule = []", "line 2: unknown field `rule`"),
            ("{\"rules\": 3}", "line 1: invalid type"),
            ("", "line 1: missing field `rules`"),
            ("rules = ['a.b:x']", "invalid rule 'a.b:x', character 5: this is no port"),
        ];
        for (text, expected) in rows {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn the_schema_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.schema.json");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        let made = format!("{:#}\n", schema());
        assert_eq!(found, made, "docs/policy.schema.json is not what the code reads");
    }
}
