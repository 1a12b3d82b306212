//! A sandbox as it is asked for, and what is made of that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lampyr_core::limits::{
    Limits, MOST_CHECKPOINTS, disk_size, mount_place, mounted_twice, named_twice, reaches,
    session_name,
};
use lampyr_core::{
    Access, AskedMachine, Differs, Domain, Forward, MachinePart, Mount, MountSource, Origin,
    Policy, Secret, SessionRequest, Snapshot, USUAL_HEADER,
};
use lampyr_types::{Name, Size, Span};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::Defaults;
use crate::ask;
use crate::error::{Answer, ApiError};

/// A sandbox to start; what is left out is as the server's settings have it
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxAsk {
    /// A name to call it by
    name: Option<String>,
    /// The image to start from: a name, or a registry's
    image: Option<String>,
    /// The snapshot to start from; what of the machine is said must be what it has
    snapshot: Option<String>,
    /// Processors
    cpus: Option<u32>,
    /// Memory, as in `512M`
    memory: Option<String>,
    /// The size of its disk, as in `8GB`
    disk_size: Option<String>,
    /// Environment variables of all that runs in it
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The working directory of what runs in it and has none of its own
    workdir: Option<String>,
    /// Ports of 127.0.0.1 here that lead to ports of its: host port to its port
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u16>)]
    ports: BTreeMap<u16, u16>,
    /// What of this host it sees, by where it sees it
    #[serde(default)]
    mounts: BTreeMap<String, MountAsk>,
    /// What it may reach, as `--net` has it: `none`, `public`, `record` or
    /// `allow=RULE[,RULE…]`
    net: Option<String>,
    /// What it may reach, as rules
    policy: Option<PolicyAsk>,
    /// Values that are put into its requests on their way out, by the variable
    /// that holds a placeholder in it
    #[serde(default, deserialize_with = "unsaid")]
    secrets: BTreeMap<String, SecretAsk>,
    /// Before how many of the last commands it is remembered what it was, for
    /// `undo`; at most 1000
    #[serde(default)]
    checkpoints: u32,
    /// It ends after this long without a command or a client, as in `10m`
    ttl: Option<String>,
    /// It outlives this server
    #[serde(default)]
    pub(super) detached: bool,
    /// An earlier one of the same name is stopped first; true where it is left out
    pub(super) overwrite: Option<bool>,
}

/// What a sandbox sees: a directory of this host, or something described
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "it is a path, or an object with a directory or a volume")]
pub(crate) enum MountAsk {
    /// A directory of this host, absolute
    Directory(String),
    /// A directory or a volume
    Source(SourceAsk),
}

/// Either a directory of this host or a volume
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceAsk {
    /// A directory, absolute
    directory: Option<String>,
    /// A volume's name; one that is not there is made
    volume: Option<String>,
    /// Nothing in it can be changed
    #[serde(default)]
    readonly: bool,
}

/// A network policy
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyAsk {
    /// Rules as `--net allow=` has them: `[deny:]TARGET[:PORTS][/udp]`
    rules: Vec<String>,
}

/// A value that requests to one host get on their way out, and that the sandbox
/// never has
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretAsk {
    /// The host that it is for, which a rule must open
    host: String,
    /// The header that it goes into; `authorization` where it is left out
    header: Option<String>,
    /// The value
    #[schema(value_type = String)]
    value: Zeroizing<String>,
}

/// A machine as it will be.
struct Machine {
    origin: Origin,
    cpus: u32,
    memory: Size,
    disk_size: Size,
    net: Option<Access>,
}

impl SandboxAsk {
    /// The snapshot that it names.
    pub(super) fn snapshot(&self) -> Answer<Option<Name>> {
        match (&self.image, &self.snapshot) {
            (Some(_), Some(_)) => Err(ApiError::usage("there is both image and snapshot")),
            (_, name) => name.as_deref().map(|name| parsed("snapshot", name.parse())).transpose(),
        }
    }

    /// Checks everything; touches nothing. `saved` is the snapshot that it names.
    pub(super) fn read(
        mut self,
        defaults: &Defaults,
        limits: Limits,
        saved: Option<&Snapshot>,
    ) -> Answer<SessionRequest> {
        let env = ask::variables(std::mem::take(&mut self.env))?;
        let secrets = std::mem::take(&mut self.secrets);
        let net = access(net(self.net.as_deref(), self.policy.as_ref())?, secrets, &env)?;
        let asked = self.asked(limits, net.is_some())?;
        let machine = match saved {
            Some(saved) => again(saved, &asked, net)?,
            None => self.fresh(defaults, &asked, net)?,
        };
        self.workdir.iter().try_for_each(|dir| ask::absolute("workdir", dir))?;
        let ttl = self.ttl.as_deref().map(|text| ask::span("ttl", text)).transpose()?;
        let name = self.name.as_deref().map(|name| parsed("name", session_name(name)));
        Ok(SessionRequest {
            name: name.transpose()?,
            origin: machine.origin,
            checkpoints: checkpoints(self.checkpoints)?,
            crowd: false,
            cpus: machine.cpus,
            memory: machine.memory.as_bytes(),
            disk_size: machine.disk_size.as_bytes(),
            env,
            workdir: self.workdir,
            attached: false,
            ttl_ms: ttl.map(Span::as_millis).filter(|ms| *ms > 0),
            forwards: self.ports.into_iter().map(forward).collect::<Answer<_>>()?,
            mounts: mounts(self.mounts)?,
            net: machine.net,
        })
    }

    /// What was said of the machine.
    fn asked(&self, limits: Limits, network: bool) -> Answer<AskedMachine> {
        let size = |what, text: &Option<String>| {
            text.as_ref().map(|text| ask::size(what, text)).transpose()
        };
        let cpus = self.cpus.map(|asked| parsed("cpus", limits.cpus(asked)));
        let memory = size("memory", &self.memory)?;
        let memory = memory.map(|asked| parsed("memory", limits.memory(asked)));
        let disk = size("disk_size", &self.disk_size)?;
        let disk = disk.map(|asked| parsed("disk_size", disk_size(asked)));
        let (cpus, memory) = (cpus.transpose()?, memory.transpose()?);
        Ok(AskedMachine { cpus, memory, disk_size: disk.transpose()?, network })
    }

    /// A machine of an image.
    fn fresh(
        &self,
        defaults: &Defaults,
        asked: &AskedMachine,
        net: Option<Access>,
    ) -> Answer<Machine> {
        let image = self.image.as_deref().map(|image| parsed("image", image.parse()));
        Ok(Machine {
            origin: image.transpose()?.map_or_else(|| defaults.origin.clone(), Origin::Image),
            cpus: asked.cpus.unwrap_or(defaults.cpus),
            memory: asked.memory.unwrap_or(defaults.memory),
            disk_size: asked.disk_size.unwrap_or(defaults.disk_size),
            net,
        })
    }
}

/// The machine that was saved.
fn again(saved: &Snapshot, asked: &AskedMachine, net: Option<Access>) -> Answer<Machine> {
    saved.agrees(asked).map_err(|e| ApiError::usage(format!("{}: {e}", key(&e))))?;
    Ok(Machine {
        origin: Origin::Snapshot(saved.name.clone()),
        cpus: saved.cpus,
        memory: Size::bytes(saved.memory),
        disk_size: Size::bytes(saved.disk_size),
        net: saved.reach(net),
    })
}

/// The key that asks for it.
fn key(differs: &Differs) -> &'static str {
    match differs.what {
        MachinePart::Cpus => "cpus",
        MachinePart::Memory => "memory",
        MachinePart::DiskSize => "disk_size",
        MachinePart::Network => "net",
    }
}

fn parsed<T, E: std::fmt::Display>(what: &str, read: Result<T, E>) -> Answer<T> {
    read.map_err(|e| ApiError::usage(format!("{what}: {e}")))
}

fn checkpoints(asked: u32) -> Answer<u32> {
    if asked > MOST_CHECKPOINTS {
        let what = format!("checkpoints: {asked} are too many: the most is {MOST_CHECKPOINTS}");
        return Err(ApiError::usage(what));
    }
    Ok(asked)
}

fn forward((host, guest): (u16, u16)) -> Answer<Forward> {
    if host == 0 || guest == 0 {
        return Err(ApiError::usage("ports: a port is from 1 to 65535"));
    }
    Ok(Forward { host, guest })
}

fn mounts(asked: BTreeMap<String, MountAsk>) -> Answer<Vec<Mount>> {
    let mounts: Vec<_> = asked.into_iter().map(mount).collect::<Answer<_>>()?;
    match mounted_twice(&mounts) {
        Some(place) => Err(ApiError::usage(format!("mounts: two have the place '{place}'"))),
        None => Ok(mounts),
    }
}

fn mount((place, asked): (String, MountAsk)) -> Answer<Mount> {
    ask::plain("mounts", &place)?;
    let bad = || ApiError::usage(format!("mounts: cannot mount at '{}'", place.escape_debug()));
    let guest = mount_place(&place).ok_or_else(bad)?;
    let source = match asked {
        MountAsk::Directory(path) => SourceAsk { directory: Some(path), ..SourceAsk::default() },
        MountAsk::Source(source) => source,
    };
    let readonly = source.readonly;
    let source = match (source.directory, source.volume) {
        (Some(path), None) => MountSource::Directory(directory(path.into())?),
        (None, Some(name)) => MountSource::Volume(name.parse().map_err(ApiError::usage)?),
        _ => return Err(ApiError::usage("mounts: give either a directory or a volume")),
    };
    Ok(Mount { source, guest, readonly })
}

/// The server's own directory is nobody's: a path must be absolute.
fn directory(path: PathBuf) -> Answer<PathBuf> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(ApiError::usage(format!("mounts: '{shown}' is not absolute")));
    }
    if !path.is_dir() {
        return Err(ApiError::usage(format!("mounts: {shown} is no directory of this host")));
    }
    Ok(path)
}

pub(super) fn net(text: Option<&str>, rules: Option<&PolicyAsk>) -> Answer<Option<Policy>> {
    let of = |ask: &PolicyAsk| Policy::of(ask.rules.iter().map(String::as_str)).map(Some);
    let read = match (text, rules) {
        (Some(_), Some(_)) => return Err(ApiError::usage("there is both net and policy")),
        (Some(text), None) => Policy::parse(text),
        (None, Some(ask)) => of(ask),
        (None, None) => Ok(None),
    };
    read.map_err(|e| ApiError::usage(format!("net: {e}")))
}

/// What it may reach, and with what.
fn access(
    policy: Option<Policy>,
    secrets: BTreeMap<String, SecretAsk>,
    env: &[(String, String)],
) -> Answer<Option<Access>> {
    let read = |(name, asked): (String, _)| secret(&name, asked, policy.as_ref());
    let secrets: Vec<_> = secrets.into_iter().map(read).collect::<Answer<_>>()?;
    if let Some(name) = named_twice(secrets.iter().map(Secret::name), env) {
        return Err(ApiError::usage(format!("'{name}' is both in env and in secrets")));
    }
    Ok(policy.map(|policy| Access { secrets, ..policy.into() }))
}

fn secret(name: &str, asked: SecretAsk, policy: Option<&Policy>) -> Answer<Secret> {
    let host = Domain::parse(&asked.host);
    let host = host.map_err(|_| ApiError::usage("secrets: a host is not the name of a host"))?;
    if !reaches(policy, &host) {
        let what = format!("secrets: no rule lets the sandbox reach {host}");
        return Err(ApiError::usage(what).hint(format!("add \"net\": \"allow={host}\"")));
    }
    let header = asked.header.as_deref().unwrap_or(USUAL_HEADER);
    parsed("secrets", Secret::new(name, host, header, asked.value))
}

/// Reads secrets. Of what is none nothing is repeated: it could be a value.
fn unsaid<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, SecretAsk>, D::Error> {
    let form = |_| D::Error::custom("secrets are {NAME: {\"host\", \"header\", \"value\"}}");
    BTreeMap::deserialize(from).map_err(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_types::Size;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(asked: &Value) -> Result<SessionRequest, String> {
        let asked = SandboxAsk::deserialize(asked).map_err(|e| e.to_string())?;
        let defaults = Defaults {
            origin: Origin::Image("default".parse().unwrap()),
            cpus: 2,
            memory: Size::mib(1024),
            disk_size: Size::mib(8192),
            max_output: 1 << 20,
        };
        let limits = Limits { cpus: 4, memory: Size::mib(8192) };
        asked.read(&defaults, limits, None).map_err(|e| e.to_string())
    }

    /// Keys as they are, and values of every kind.
    fn asked() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[0-9]{1,3}[MGk]?B?|.{0,8}|/[a-z./]{0,8}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::hash_map(
                    "volume|directory|rules|host|value|[0-9]{1,5}|/.{0,4}",
                    inner,
                    0..3
                )
                .prop_map(|map| map.into_iter().collect()),
            ]
        });
        let key = "name|image|cpus|memory|disk_size|env|workdir|ports|mounts|net|policy|secrets|checkpoints|ttl";
        proptest::collection::hash_map(key, value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_good_or_refused(asked in asked()) {
            if let Ok(request) = read(&asked) {
                prop_assert!((1..=4).contains(&request.cpus));
                prop_assert!((128 << 20..=8 << 30).contains(&request.memory));
                prop_assert!(request.forwards.iter().all(|port| port.host > 0 && port.guest > 0));
                prop_assert!(request.mounts.iter().all(|mount| mount.guest.starts_with('/')));
            }
        }
    }

    #[test]
    fn what_is_left_out_is_as_the_settings_have_it() {
        let request = read(&json!({})).unwrap();
        assert_eq!((request.cpus, request.memory, request.disk_size), (2, 1 << 30, 8 << 30));
        assert_eq!((request.origin.to_string().as_str(), request.attached), ("default", false));
        let request = read(&json!({"ports": {"8080": 80}, "ttl": "1s", "net": "none"})).unwrap();
        assert_eq!(request.forwards, [Forward { host: 8080, guest: 80 }]);
        assert_eq!((request.ttl_ms, request.net), (Some(1000), None));
    }

    #[test]
    fn a_secret_is_for_a_host_that_a_rule_opens() {
        let asked = json!({
            "net": "allow=api.example.com",
            "secrets": {
                "TOKEN": {"host": "api.example.com", "value": "hunter2222"},
                "KEY": {"host": "api.example.com", "header": "X-Key", "value": "hunter3333"},
            },
        });
        let access = read(&asked).unwrap().net.unwrap();
        let known: Vec<_> = access.secrets.iter().map(|one| (one.name(), one.header())).collect();
        assert_eq!(known, [("KEY", "x-key"), ("TOKEN", "authorization")]);
    }

    #[test]
    fn a_bad_secret_is_refused_and_nothing_of_it_repeated() {
        let secret = |host, value| json!({"T": {"host": host, "value": value}});
        let host = "api.example.com";
        let rows = [
            (json!({"T": "hunter2222"}), "secrets are"),
            (json!(["hunter2222"]), "secrets are"),
            (json!({"T": {"host": host, "hunter2222": 1}}), "secrets are"),
            (secret(host, json!(["hunter2222"])), "secrets are"),
            (secret(host, json!("hunter")), "not 8 to 4096 bytes"),
            (secret(host, json!("hunter2222\n")), "characters"),
            (secret("evil.example.com", json!("hunter2222")), "no rule"),
            (secret("1.2.3.4", json!("hunter2222")), "not the name of a host"),
            (json!({"T": {"host": host, "header": "host", "value": "hunter2222"}}), "header"),
            (
                json!({"A-B": {"host": host, "value": "hunter2222"}}),
                "called as no environment variable",
            ),
            (json!({"E": {"host": host, "value": "hunter2222"}}), "both in env and in secrets"),
        ];
        for (secrets, expected) in rows {
            let asked =
                json!({"net": "allow=api.example.com", "env": {"E": "x"}, "secrets": secrets});
            let said = read(&asked).unwrap_err();
            assert!(said.contains(expected) && !said.contains("hunter"), "{secrets}: {said}");
        }
        let shut = json!({"secrets": secret(host, json!("hunter2222"))});
        assert!(read(&shut).unwrap_err().contains("no rule lets the sandbox reach"));
    }
}
