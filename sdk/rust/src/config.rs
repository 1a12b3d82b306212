//! What a snapshot is built from.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// How large a virtual machine is; what is left out is as Lampyr's settings
/// have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<String>,
}

impl Resources {
    /// The usual size.
    pub fn new() -> Self {
        Self::default()
    }

    /// Virtual processors.
    #[must_use]
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus: Some(cpus), ..self }
    }

    /// Memory, as in `"512M"` or `"2G"`, in binary multiples.
    #[must_use]
    pub fn memory(self, memory: impl Into<String>) -> Self {
        Self { memory: Some(memory.into()), ..self }
    }
}

/// What a snapshot is built from: an image, and what is done in a VM of it.
///
/// It can be read from a document with serde, such as the TOML or JSON file that
/// `lampyr snapshot build` takes; a key that there is not is an error.
///
/// ```
/// use lampyr_sdk::{Resources, SnapshotConfig, exec, shell};
///
/// let config = SnapshotConfig::new("tools", "default")
///     .resources(Resources::new().cpus(1).memory("512M"))
///     .workdir("/srv")
///     .env("CI", "true")
///     .step("mkdir work")
///     .step(shell("echo $CI > work/ci").described("note it"))
///     .step(exec("chmod").args(["0444", "work/ci"]))
///     .label("team", "platform");
///
/// let file = r#"
///     name = "tools"
///     image = "default"
///     workdir = "/srv"
///     setup = ["mkdir work",
///         { kind = "shell", script = "echo $CI > work/ci", description = "note it" },
///         { kind = "exec", cmd = "chmod", args = ["0444", "work/ci"] }]
///     resources = { cpus = 1, memory = "512M" }
///     env = { CI = "true" }
///     labels = { team = "platform" }
/// "#;
/// assert_eq!(toml::from_str::<SnapshotConfig>(file).unwrap(), config);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    name: String,
    image: String,
    #[serde(default)]
    resources: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    setup: Vec<SetupStep>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    net: Option<Vec<String>>,
}

impl SnapshotConfig {
    /// A snapshot of this name, from an image: a registry's, or one that is here.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            resources: Resources::new(),
            workdir: None,
            env: BTreeMap::new(),
            setup: Vec::new(),
            labels: BTreeMap::new(),
            net: None,
        }
    }

    /// Another name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Another image to start from.
    #[must_use]
    pub fn image(self, image: impl Into<String>) -> Self {
        Self { image: image.into(), ..self }
    }

    /// The size of the builder, which what is launched from the snapshot has, too.
    #[must_use]
    pub fn resources(self, resources: Resources) -> Self {
        Self { resources, ..self }
    }

    /// Where the steps run, absolute. It must exist, or be made by a step.
    #[must_use]
    pub fn workdir(self, workdir: impl Into<String>) -> Self {
        Self { workdir: Some(workdir.into()), ..self }
    }

    /// An environment variable of the steps.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// One more thing to do in the builder.
    #[must_use]
    pub fn step(mut self, step: impl Into<SetupStep>) -> Self {
        self.setup.push(step.into());
        self
    }

    /// Something that is noted about the snapshot.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// What the steps may reach, as a rule: `"pypi.org:443"`; nothing where no
    /// rule says so. It is not open in what is launched from the snapshot.
    #[must_use]
    pub fn net(mut self, rule: impl Into<String>) -> Self {
        self.net.get_or_insert_default().push(rule.into());
        self
    }

    /// What it is called.
    pub fn snapshot_name(&self) -> &str {
        &self.name
    }
}

/// A step of a setup. A string is a script that `/bin/sh` runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetupStep(Written);

/// A step as documents have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Written {
    Script(String),
    Described(Described),
}

/// Which of the two it is can be seen, so that an error names what is wrong.
impl<'de> Deserialize<'de> for SetupStep {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = SetupStep;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step: a script, or one with a kind")
    }

    fn visit_str<E>(self, script: &str) -> Result<SetupStep, E> {
        Ok(script.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SetupStep, A::Error> {
        let described = Described::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SetupStep(Written::Described(described)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Described {
    Shell(ShellStep),
    Exec(ExecStep),
}

/// A step of a setup: a script that `/bin/sh` runs.
///
/// ```
/// let step = lampyr_sdk::shell("apt-get install -y jq").described("Install jq");
/// # lampyr_sdk::SnapshotConfig::new("a", "default").step(step);
/// ```
pub fn shell(script: impl Into<String>) -> ShellStep {
    ShellStep { script: script.into(), description: None }
}

/// A step of a setup: a program that is run without a shell.
///
/// ```
/// let step = lampyr_sdk::exec("pip").args(["install", "numpy"]).described("Install numpy");
/// # lampyr_sdk::SnapshotConfig::new("a", "default").step(step);
/// ```
pub fn exec(cmd: impl Into<String>) -> ExecStep {
    ExecStep { cmd: cmd.into(), args: Vec::new(), description: None }
}

/// A script to run; see [`shell`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellStep {
    script: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl ShellStep {
    /// What to call the step while it runs and when it fails.
    #[must_use]
    pub fn described(self, description: impl Into<String>) -> Self {
        Self { description: Some(description.into()), ..self }
    }
}

/// A program to run; see [`exec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStep {
    cmd: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl ExecStep {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What to call the step while it runs and when it fails.
    #[must_use]
    pub fn described(self, description: impl Into<String>) -> Self {
        Self { description: Some(description.into()), ..self }
    }
}

impl From<&str> for SetupStep {
    fn from(script: &str) -> Self {
        script.to_owned().into()
    }
}

impl From<String> for SetupStep {
    fn from(script: String) -> Self {
        Self(Written::Script(script))
    }
}

impl From<ShellStep> for SetupStep {
    fn from(step: ShellStep) -> Self {
        Self(Written::Described(Described::Shell(step)))
    }
}

impl From<ExecStep> for SetupStep {
    fn from(step: ExecStep) -> Self {
        Self(Written::Described(Described::Exec(step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_config_is_a_document() {
        let config = SnapshotConfig::new("a", "default")
            .net("pypi.org:443")
            .step("one")
            .step(exec("two").arg("b").described("c"))
            .step(shell("three"));
        let document = json!({
            "name": "a", "image": "default", "resources": {}, "env": {}, "labels": {},
            "net": ["pypi.org:443"],
            "setup": ["one", {"kind": "exec", "cmd": "two", "args": ["b"], "description": "c"},
                {"kind": "shell", "script": "three"}],
        });
        assert_eq!(serde_json::to_value(&config).unwrap(), document);
        assert_eq!(serde_json::from_value::<SnapshotConfig>(document).unwrap(), config);
    }

    #[test]
    fn a_key_that_there_is_not_is_an_error() {
        let minimal = json!({"name": "a", "image": "b"});
        assert!(serde_json::from_value::<SnapshotConfig>(minimal.clone()).is_ok());
        for (key, value, named) in [
            ("images", json!("c"), "`images`"),
            ("resources", json!({"cpu": 1}), "`cpu`"),
            ("setup", json!([{"kind": "shell", "script": "a", "text": "b"}]), "`text`"),
            ("setup", json!([{"kind": "run", "script": "a"}]), "`run`"),
            ("setup", json!([1]), "a step: a script, or one with a kind"),
        ] {
            let mut document = minimal.clone();
            document[key] = value;
            let error = serde_json::from_value::<SnapshotConfig>(document).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
