//! The manifest of `network run`.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use lampyr_types::Name;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::args::{MachineArgs, NetworkRunArgs, SizeArgs, StartArgs};
use crate::bad_input::BadInput;
use crate::bad_manifest::BadManifest;
use crate::core_api::{MAX_PEERS, SessionRequest, document};
use crate::wiring::HostChoice;

use super::net::{network_name, short_file};
use super::{Layers, StartSettings};

/// Sessions on one private network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Where editors find this schema; nobody else reads it.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    /// The sessions. Each reaches the others by their names.
    #[schemars(length(min = 1, max = 32))]
    sessions: Vec<ManifestSession>,
    /// What each of them may reach besides, as `--net` has it, where it does
    /// not say so itself.
    net: Option<String>,
}

/// One of them. What it does not say is as for `lampyr session start`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ManifestSession {
    /// The name of the session, and what the others call it.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// The image to start from.
    image: Option<String>,
    /// Volumes and directories that it sees: `NAME_OR_PATH:GUEST[:ro]`.
    #[serde(default)]
    volumes: Vec<String>,
    /// Environment variables of every command in it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Processors.
    cpus: Option<u32>,
    /// Memory, as in `1GB`.
    memory: Option<String>,
    /// What it may reach besides, as `--net` has it.
    net: Option<String>,
}

/// Everything `network run` needs to know, checked.
pub(crate) struct NetworkSettings {
    /// What the network is to be called.
    pub(crate) name: Name,
    /// What to start.
    pub(crate) requests: Vec<SessionRequest>,
    /// Where.
    pub(crate) host: HostChoice,
}

impl NetworkSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &NetworkRunArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let fresh = || format!("net-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let name = args.name.clone().unwrap_or_else(fresh);
        let name = network_name("--name", &name)?;
        let bad = |source| BadInput::Manifest { path: PathBuf::from(&args.manifest), source };
        let text = short_file("the manifest", &args.manifest)?;
        let manifest = read(&text).map_err(bad)?;
        let request = |session: &ManifestSession| {
            let start = start(session, &manifest, &name);
            let resolved = StartSettings::resolve(&start, layers);
            let (name, wrap) = (session.name.clone(), Box::new);
            resolved
                .map(|start| start.request)
                .map_err(|e| bad(BadManifest::Session { name, source: wrap(e) }))
        };
        let requests = manifest.sessions.iter().map(request).collect::<Result<_, _>>()?;
        Ok(Self { requests, name, host: layers.host()? })
    }
}

fn read(text: &str) -> Result<Manifest, BadManifest> {
    let manifest: Manifest = document(text)?;
    let sessions = &manifest.sessions;
    if !(1..=MAX_PEERS).contains(&sessions.len()) {
        return Err(BadManifest::Sessions(sessions.len()));
    }
    let mut seen = HashSet::new();
    for session in sessions {
        // The name ends where a value begins.
        if let Some(key) = session.env.keys().find(|key| key.is_empty() || key.contains('=')) {
            let (name, key) = (super::shown(&session.name), super::shown(key));
            return Err(BadManifest::Variable { name, key });
        }
    }
    match sessions.iter().find(|session| !seen.insert(&session.name)) {
        Some(twice) => Err(BadManifest::Twice(super::shown(&twice.name))),
        None => Ok(manifest),
    }
}

/// The session as `session start` would be asked for it.
fn start(session: &ManifestSession, manifest: &Manifest, network: &Name) -> StartArgs {
    let size = SizeArgs {
        memory: session.memory.clone(),
        cpus: session.cpus.map(|cpus| cpus.to_string()),
        ..SizeArgs::default()
    };
    let machine = MachineArgs {
        image: session.image.clone(),
        volume: session.volumes.clone(),
        net: session.net.clone().or_else(|| manifest.net.clone()),
        network: Some(network.to_string()),
        size,
        ..MachineArgs::default()
    };
    let env = session.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    StartArgs { machine, name: Some(session.name.clone()), env, ..StartArgs::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_say_the_same() {
        let json = r#"{"sessions": [{"name": "db", "volumes": ["data:/data"]}], "net": "public"}"#;
        let toml = "net = 'public'\n[[sessions]]\nname = 'db'\nvolumes = ['data:/data']\n";
        let [json, toml] = [json, toml].map(|text| format!("{:?}", read(text).unwrap()));
        assert_eq!(json, toml);
    }

    #[test]
    fn what_is_no_manifest_is_refused_in_words() {
        let many: Vec<_> = (0..33).map(|n| format!("{{\"name\":\"a{n}\"}}")).collect();
        let rows = [
            ("{}", "line 1: missing field `sessions`"),
            ("sessions = []", "there are 0 sessions: a network has 1 to 32"),
            (r#"{"sessions":[{"name":"a"},{"name":"a"}]}"#, "two sessions have the name 'a'"),
            (
                r#"{"$schema":"x","sessions":[{"name":"a","env":{"A=B":"c"}}]}"#,
                "session 'a': 'A=B' is no name of a variable",
            ),
            (r#"{"sessions":[{"image":"a"}]}"#, "line 1: missing field `name`"),
            ("[[sessions]]\nname = 'a'\nimgae = 'x'", "line 3: unknown field `imgae`"),
            (&format!("{{\"sessions\":[{}]}}", many.join(",")), "there are 33 sessions"),
        ];
        for (text, expected) in rows {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn the_schema_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/network.schema.json");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        let made = format!("{:#}\n", schemars::schema_for!(Manifest).to_value());
        assert_eq!(found, made, "docs/network.schema.json is not what the code reads");
    }
}
