//! Every environment variable that Lampyr reads, in one table.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

/// One variable, and the flag and the key in `config.toml` that set the same.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// The flag that beats it.
    pub(crate) flag: Option<&'static str>,
    /// The key in `config.toml` that it beats.
    pub(crate) key: Option<&'static str>,
    /// What holds where nobody says anything; empty: nothing does.
    pub(crate) default: &'static str,
    /// A good value, for hints.
    pub(crate) example: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
}

/// A row of the table: name, flag, key, default, example, purpose.
macro_rules! variable {
    ($id:ident, $name:literal, $flag:expr, $key:expr, $default:literal, $example:literal, $about:literal) => {
        #[doc = $about]
        pub(crate) const $id: Variable = Variable {
            name: $name,
            flag: $flag,
            key: $key,
            default: $default,
            example: $example,
            about: $about,
        };
    };
}

variable!(
    HOME,
    "LAMPYR_HOME",
    None,
    None,
    "",
    "/var/lib/lampyr",
    "the directory that holds everything Lampyr keeps; ~/.lampyr by default"
);
variable!(USER_HOME, "HOME", None, None, "", "/home/me", "where ~ is");
variable!(
    MEMORY,
    "LAMPYR_MEMORY",
    Some("--memory"),
    Some("memory"),
    "1GB",
    "512MB",
    "memory of a VM"
);
variable!(CPUS, "LAMPYR_CPUS", Some("--cpus"), Some("cpus"), "2", "1", "processors of a VM");
variable!(
    TIMEOUT,
    "LAMPYR_TIMEOUT",
    Some("--timeout"),
    Some("timeout"),
    "60s",
    "5m",
    "how long a command may run, without the boot"
);
variable!(
    DISK_SIZE,
    "LAMPYR_DISK_SIZE",
    Some("--disk-size"),
    Some("disk_size"),
    "8GB",
    "8GB",
    "size of a VM's disk"
);
variable!(
    MAX_OUTPUT,
    "LAMPYR_MAX_OUTPUT",
    Some("--max-output"),
    Some("max_output"),
    "64MB",
    "64MB",
    "how much of each output stream the JSON envelope keeps"
);
variable!(
    IMAGE,
    "LAMPYR_IMAGE",
    Some("--image"),
    Some("image"),
    "default",
    "default",
    "the image a VM starts from"
);
variable!(
    FORMAT,
    "LAMPYR_FORMAT",
    None,
    Some("format"),
    "",
    "json",
    "json or text; by default text on a terminal and json elsewhere"
);
variable!(
    STREAM,
    "LAMPYR_STREAM",
    None,
    Some("stream"),
    "",
    "1",
    "text: 1 prints output as it comes, 0 at the end; 1 also asks for text in a pipe"
);
variable!(
    OUTPUT,
    "LAMPYR_OUTPUT",
    None,
    Some("output"),
    "",
    "ndjson",
    "ndjson prints output as it comes, as lines of JSON"
);
variable!(
    ENGINE,
    "LAMPYR_ENGINE",
    None,
    Some("engine"),
    "auto",
    "qemu",
    "what runs the VMs: auto or qemu"
);
variable!(
    ACCEL,
    "LAMPYR_ACCEL",
    None,
    Some("accel"),
    "auto",
    "auto",
    "what executes a VM's instructions: auto, kvm, hvf or tcg"
);
variable!(
    QEMU,
    "LAMPYR_QEMU",
    None,
    Some("qemu"),
    "",
    "/usr/bin/qemu-system-x86_64",
    "the QEMU program to use instead of one that Lampyr finds"
);
variable!(
    BOOT_TRACE,
    "LAMPYR_BOOT_TRACE",
    None,
    None,
    "0",
    "1",
    "1 draws the stages of the launch on standard error"
);
variable!(
    MAX_IMAGE,
    "LAMPYR_MAX_IMAGE",
    None,
    Some("max_image"),
    "64GB",
    "64GB",
    "how much an image may unpack to"
);
variable!(
    REGISTRY_CA,
    "LAMPYR_REGISTRY_CA",
    None,
    Some("registry_ca"),
    "",
    "/etc/ssl/registry.pem",
    "a file of certificates to trust registries by, besides the system's"
);
variable!(
    REGISTRY_MIRRORS,
    "LAMPYR_REGISTRY_MIRRORS",
    None,
    Some("registry_mirrors"),
    "",
    "docker.io=mirror.example.com",
    "registries to ask before others: REGISTRY=MIRROR, with commas between"
);
variable!(
    DOCKER_CONFIG,
    "DOCKER_CONFIG",
    None,
    None,
    "",
    "/home/me/.docker",
    "the directory of Docker's config.json, which has credentials; ~/.docker by default"
);
variable!(
    RUNTIME_DIR,
    "XDG_RUNTIME_DIR",
    None,
    None,
    "",
    "/run/user/1000",
    "where Podman and skopeo keep credentials, in containers/auth.json"
);
variable!(TERM, "TERM", None, None, "", "xterm", "what a terminal of exec --pty is");
variable!(NO_COLOR, "NO_COLOR", None, None, "", "1", "set: no colours");

/// The whole table.
pub(crate) const ALL: [&Variable; 22] = [
    &HOME,
    &USER_HOME,
    &MEMORY,
    &CPUS,
    &TIMEOUT,
    &DISK_SIZE,
    &MAX_OUTPUT,
    &IMAGE,
    &FORMAT,
    &STREAM,
    &OUTPUT,
    &ENGINE,
    &ACCEL,
    &QEMU,
    &BOOT_TRACE,
    &MAX_IMAGE,
    &REGISTRY_CA,
    &REGISTRY_MIRRORS,
    &DOCKER_CONFIG,
    &RUNTIME_DIR,
    &TERM,
    &NO_COLOR,
];

/// What tells programs of a proxy. The HTTP client heeds them; here it is only
/// asked whether they are set.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The table as a section of `--help`.
pub(crate) fn help() -> String {
    let mut text = "Environment:".to_owned();
    for variable in ALL {
        let _ = write!(text, "\n  {:<24} {}", variable.name, variable.about);
        if !variable.default.is_empty() {
            let _ = write!(text, " [default: {}]", variable.default);
        }
    }
    text
}

/// The variables of the table that are set, read once.
#[derive(Debug, Default)]
pub(crate) struct Env(BTreeMap<&'static str, OsString>);

impl Env {
    /// What this process was given.
    pub(crate) fn of_process() -> Self {
        let set = |name| std::env::var_os(name).map(|value| (name, value));
        Self(ALL.iter().map(|v| v.name).chain(PROXIES).filter_map(set).collect())
    }

    /// The value of `variable`; an empty one is none.
    pub(crate) fn get(&self, variable: &Variable) -> Option<&OsStr> {
        self.0.get(variable.name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that names a proxy.
    pub(crate) fn proxy(&self) -> Option<&'static str> {
        let is_set = |name: &&str| self.0.get(name).is_some_and(|value| !value.is_empty());
        PROXIES.into_iter().find(is_set)
    }

    /// The value of a variable that whoever typed the arguments named.
    pub(crate) fn named(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned().or_else(|| std::env::var_os(name))
    }

    /// Made-up variables.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&'static str, &str)]) -> Self {
        Self(pairs.iter().map(|&(name, value)| (name, value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_variable_and_keys_follow_the_names() {
        let help = help();
        for variable in ALL {
            assert!(help.contains(variable.name), "{}", variable.name);
            let key = variable.name.trim_start_matches("LAMPYR_").to_lowercase();
            assert!(variable.key.is_none_or(|k| k == key), "{}", variable.name);
        }
    }

    #[test]
    fn an_empty_variable_is_none() {
        assert_eq!(Env::of(&[("LAMPYR_CPUS", "")]).get(&CPUS), None);
        let proxies = Env::of(&[("HTTPS_PROXY", ""), ("http_proxy", "http://10.0.0.1:3128")]);
        assert_eq!(proxies.proxy(), Some("http_proxy"));
    }
}
