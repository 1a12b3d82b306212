//! What is to be built, as a file says it: TOML or JSON.

use std::collections::BTreeMap;
use std::fmt;

use lampyr_image::ImageRef;
use lampyr_types::{Name, Size};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::builder_name;
use crate::limits::{self, BadShape, Limits};
use crate::snapshot::SnapshotRequest;
use crate::{BadFile, BadPolicy, Command, Policy, document};

/// A snapshot to build with Lampyr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Where editors find this schema; nobody else reads it.
    #[serde(rename = "$schema", default, skip_serializing)]
    schema: Option<String>,
    /// The snapshot's name.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,54}$"))]
    pub name: String,
    /// What to begin with: the name of an image, or a registry's reference.
    pub image: String,
    /// How large its VM is.
    #[serde(default)]
    pub resources: Resources,
    /// The directory that the steps begin in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment variables of the steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The steps, in their order.
    #[serde(default)]
    pub setup: Vec<SetupStep>,
    /// What is noted about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the steps may reach: rules as `--net allow=` has them. What is
    /// launched from the snapshot reaches nothing of it unless that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Vec<String>>,
}

/// How large a VM is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory, as in `512M` or `2G`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// A step: a text for the shell, or something described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SetupStep {
    /// A text for /bin/sh.
    Text(String),
    /// A step that says what it is for.
    Described(DescribedStep),
}

/// A step that says what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DescribedStep {
    /// A text for /bin/sh.
    Shell {
        /// The text.
        script: String,
        /// What it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A program and its arguments, run without a shell.
    Exec {
        /// The program.
        cmd: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// What it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
}

impl<'de> Deserialize<'de> for SetupStep {
    /// By hand, so that what is wrong within a step is said.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SetupStep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text for the shell, or a step with a kind")
            }

            fn visit_str<E>(self, text: &str) -> Result<SetupStep, E> {
                Ok(SetupStep::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SetupStep, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(SetupStep::Described)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl SetupStep {
    /// What it is for, in a line.
    pub fn description(&self) -> String {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Described(step) => step.text(),
        };
        let line = text.trim().lines().next().unwrap_or_default();
        line.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    pub(super) fn command(&self) -> Command {
        match self {
            Self::Text(script) | Self::Described(DescribedStep::Shell { script, .. }) => {
                Command::Shell(script.clone())
            }
            Self::Described(DescribedStep::Exec { cmd, args, .. }) => {
                Command::Argv(std::iter::once(cmd).chain(args).cloned().collect())
            }
        }
    }

    /// What is wrong with it that its VM would have to say.
    fn fault(&self) -> Option<&'static str> {
        let words = match self.command() {
            Command::Shell(text) => vec![text],
            Command::Argv(words) => words,
        };
        if words.first().is_none_or(|first| first.trim().is_empty()) {
            return Some("a step is empty");
        }
        words.iter().any(|word| word.contains('\0')).then_some("a step has a NUL byte in it")
    }
}

impl DescribedStep {
    fn text(&self) -> String {
        match self {
            Self::Shell { description: Some(text), .. }
            | Self::Exec { description: Some(text), .. }
            | Self::Shell { script: text, .. } => text.clone(),
            Self::Exec { cmd, args, .. } => [std::slice::from_ref(cmd), args].concat().join(" "),
        }
    }
}

/// Why something is no [`SnapshotConfig`], or cannot be built here.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// Not TOML, or not JSON, of this shape.
    #[error(transparent)]
    File(#[from] BadFile),
    /// A value that it cannot have.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl BadConfig {
    /// The key that may be meant instead of one that is unknown.
    pub fn meant(&self) -> Option<String> {
        if let Self::File(bad) = self { bad.meant() } else { None }
    }
}

fn bad(key: &'static str) -> impl Fn(&dyn fmt::Display) -> BadConfig {
    move |reason| BadConfig::Value { key, reason: reason.to_string() }
}

/// A name that leaves no room for the builder's.
fn too_long(name: &Name) -> BadConfig {
    bad("name")(&format!("'{name}' is too long: a snapshot that is built has up to 55 characters"))
}

/// Reads a configuration. What begins with a brace is JSON.
///
/// # Errors
///
/// [`BadConfig::File`], which points at the line.
pub fn read_config(text: &str) -> Result<SnapshotConfig, BadConfig> {
    Ok(document(text)?)
}

/// The JSON Schema of a configuration.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SnapshotConfig).to_value()
}

/// What a VM has where a configuration says nothing.
#[derive(Debug, Clone, Copy)]
pub struct BuildDefaults {
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Size,
    /// The size of its disk.
    pub disk_size: Size,
}

/// A configuration that was checked against what the host has.
#[derive(Debug, Clone)]
pub struct BuildPlan {
    /// The snapshot's name.
    pub name: Name,
    pub(super) builder: Name,
    pub(super) image: ImageRef,
    pub(super) cpus: u32,
    pub(super) memory: Size,
    pub(super) disk_size: Size,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: Option<String>,
    pub(super) setup: Vec<SetupStep>,
    pub(super) net: Option<Policy>,
    labels: BTreeMap<String, String>,
}

impl SnapshotConfig {
    /// Checks everything; touches nothing.
    ///
    /// # Errors
    ///
    /// [`BadConfig::Value`], which names the key.
    pub fn plan(&self, defaults: BuildDefaults, limits: Limits) -> Result<BuildPlan, BadConfig> {
        let name: Name = self.name.parse().map_err(|e| bad("name")(&e))?;
        let policy = |rules: &Vec<String>| Policy::of(rules.iter().map(String::as_str));
        let net = self.net.as_ref().map(policy).transpose();
        self.check_steps()?;
        limits::labels(&self.labels).map_err(|e| bad("labels")(&e))?;
        Ok(BuildPlan {
            builder: builder_name(&name).map_err(|_| too_long(&name))?,
            name,
            image: self.image.parse().map_err(|e| bad("image")(&e))?,
            cpus: self.cpus(defaults, limits).map_err(|e| bad("resources.cpus")(&e))?,
            memory: self.memory(defaults, limits)?,
            disk_size: defaults.disk_size,
            env: self.env.clone().into_iter().collect(),
            workdir: self.workdir.clone(),
            setup: self.setup.clone(),
            net: net.map_err(|e: BadPolicy| bad("net")(&e))?,
            labels: self.labels.clone(),
        })
    }

    /// Refuses what no step could be run with.
    fn check_steps(&self) -> Result<(), BadConfig> {
        if self.workdir.as_ref().is_some_and(|dir| !dir.starts_with('/')) {
            return Err(bad("workdir")(&"it does not begin with '/'"));
        }
        if self.workdir.as_ref().is_some_and(|dir| dir.contains('\0')) {
            return Err(bad("workdir")(&"it has a NUL byte in it"));
        }
        if let Some(fault) = self.setup.iter().find_map(SetupStep::fault) {
            return Err(bad("setup")(&fault));
        }
        if self.env.keys().any(|key| key.is_empty() || key.contains(['=', '\0'])) {
            return Err(bad("env")(&"a variable's name is empty or has '=' in it"));
        }
        if self.env.values().any(|value| value.contains('\0')) {
            return Err(bad("env")(&"a value has a NUL byte in it"));
        }
        Ok(())
    }

    fn cpus(&self, defaults: BuildDefaults, limits: Limits) -> Result<u32, BadShape> {
        self.resources.cpus.map_or(Ok(defaults.cpus), |cpus| limits.cpus(cpus))
    }

    fn memory(&self, defaults: BuildDefaults, limits: Limits) -> Result<Size, BadConfig> {
        let bad = bad("resources.memory");
        let Some(text) = &self.resources.memory else { return Ok(defaults.memory) };
        let asked: Size = text.parse().map_err(|e| bad(&e))?;
        limits.memory(asked).map_err(|e| bad(&e))
    }
}

impl BuildPlan {
    pub(super) fn snapshot_request(&self, overwrite: bool) -> SnapshotRequest {
        let (name, labels) = (self.name.clone(), self.labels.clone());
        SnapshotRequest { name, overwrite, with_secrets: false, labels }
    }

    /// Everything that decides what comes of it, but for what lies outside.
    pub(super) fn words(&self) -> String {
        let rules = self.net.as_ref().map(ToString::to_string);
        format!(
            "{:?}",
            (
                (&self.cpus, self.memory.as_bytes(), self.disk_size.as_bytes()),
                (&self.env, &self.workdir, &self.setup, &self.labels, rules),
            )
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "name": "py", "image": "default", "resources": {"cpus": 1, "memory": "512M"},
        "env": {"A": "1"}, "workdir": "/root", "labels": {"team": "x"}, "net": ["pypi.org"],
        "setup": [
            "echo one\necho two",
            {"kind": "shell", "script": "true", "description": "nothing"},
            {"kind": "exec", "cmd": "ls", "args": ["-l"]}
        ]
    }"#;
    const TOML: &str = r#"
name = "py"
image = "default"
workdir = "/root"
net = ["pypi.org"]
setup = [
  "echo one\necho two",
  { kind = "shell", script = "true", description = "nothing" },
  { kind = "exec", cmd = "ls", args = ["-l"] },
]
[resources]
cpus = 1
memory = "512M"
[env]
A = "1"
[labels]
team = "x"
"#;

    fn plan(config: &SnapshotConfig) -> Result<BuildPlan, BadConfig> {
        let (memory, disk_size) = (Size::mib(1024), Size::mib(8192));
        let defaults = BuildDefaults { cpus: 2, memory, disk_size };
        config.plan(defaults, Limits { cpus: 4, memory: Size::mib(4096) })
    }

    #[test]
    fn both_languages_say_the_same() {
        let (json, toml) = (read_config(JSON).unwrap(), read_config(TOML).unwrap());
        assert_eq!(json, toml);
        let written = serde_json::to_string(&json).unwrap();
        assert_eq!(read_config(&written).unwrap(), json);
        let plan = plan(&json).unwrap();
        assert_eq!((plan.builder.as_str(), plan.memory), ("py-builder", Size::mib(512)));
        let told: Vec<_> = plan.setup.iter().map(SetupStep::description).collect();
        assert_eq!(told, ["echo one", "nothing", "ls -l"]);
    }

    #[test]
    fn what_is_unknown_is_named_with_what_may_be_meant() {
        let rows = [
            ("name = 'a'\nimage = 'b'\nsetpu = []", 3, "unknown field `setpu`", Some("setup")),
            ("name = 'a'\nimage = 'b'\nxyzzy = 1", 3, "unknown field `xyzzy`", None),
            ("name = 'a'\nimage = 'b'\n[resources]\nmemroy = '1G'", 4, "unknown", Some("memory")),
            ("{\"name\": \"a\",\n\"image\": 3}", 2, "invalid type", None),
            (
                "name = 'a'\nimage = 'b'\nsetup = [{kind = 'shel'}]",
                3,
                "unknown variant",
                Some("shell"),
            ),
            (
                "name = 'a'\nimage = 'b'\nsetup = [3]",
                3,
                "invalid type: integer `3`, expected a text",
                None,
            ),
            ("", 1, "missing field `name`", None),
        ];
        for (text, at, expected, meant) in rows {
            let BadConfig::File(bad) = read_config(text).unwrap_err() else { panic!("{text}") };
            let said = bad.to_string();
            assert!(said.starts_with(&format!("line {at}: {expected}")), "{text}: {said}");
            assert_eq!(bad.meant().as_deref(), meant, "{text}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_built_says_which_key() {
        type Change = fn(&mut SnapshotConfig);
        let rows: [(&str, Change); 16] = [
            ("name: ", |c| c.name = "A B".into()),
            ("name: 'xxxxxxxx", |c| c.name = "x".repeat(56)),
            ("image: ", |c| c.image = "../x".into()),
            ("resources.cpus: ", |c| c.resources.cpus = Some(99)),
            ("resources.memory: ", |c| c.resources.memory = Some("lots".into())),
            ("workdir: ", |c| c.workdir = Some("here".into())),
            ("setup: a step is empty", |c| c.setup.push(SetupStep::Text(" \n".into()))),
            ("setup: a step is empty", |c| c.setup.push(program("", &["x"]))),
            ("setup: a step has a NUL", |c| c.setup.push(program("ls", &["a\0b"]))),
            ("setup: a step has a NUL", |c| c.setup.push(SetupStep::Text("a\0b".into()))),
            ("workdir: it has a NUL", |c| c.workdir = Some("/a\0b".into())),
            ("env: a value", |c| drop(c.env.insert("B".into(), "a\0b".into()))),
            ("env: a variable's name", |c| drop(c.env.insert("A=".into(), String::new()))),
            ("labels: '' ", |c| drop(c.labels.insert(String::new(), "v".into()))),
            ("labels: 'a=b' ", |c| drop(c.labels.insert("a=b".into(), "v".into()))),
            ("net: ", |c| c.net = Some(vec!["a.b:x".into()])),
        ];
        for (expected, change) in rows {
            let mut config = read_config(JSON).unwrap();
            change(&mut config);
            let said = plan(&config).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
            assert!(!said.contains("-builder"), "{said}");
        }
        let mut longest = read_config(JSON).unwrap();
        longest.name = "x".repeat(55);
        assert_eq!(plan(&longest).unwrap().builder.as_str().len(), 63);
    }

    fn program(cmd: &str, args: &[&str]) -> SetupStep {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        SetupStep::Described(DescribedStep::Exec { cmd: cmd.into(), args, description: None })
    }

    #[test]
    fn the_schema_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/snapshot.schema.json");
        let made = format!("{:#}\n", schema());
        if std::env::var_os("LAMPYR_REWRITE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, made, "docs/snapshot.schema.json is not what the code reads");
    }
}
