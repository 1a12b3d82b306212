//! Credentials as Docker keeps them: in a file, or with helpers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::OciError;
use crate::reference::{HUB, credentials_key};

/// How long a helper may take: somebody may have to be asked.
const HELPER_WAIT: Duration = Duration::from_mins(1);
/// The most that a helper may say.
const MOST_SAID: u64 = 1 << 20;
/// A user of this name has a token in place of a password.
const TOKEN_USER: &str = "<token>";

/// Where credentials are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Docker's credential files; the first that knows a registry counts.
    pub files: Vec<PathBuf>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A name and a password.
    Password(String, String),
    /// A token to get tokens with.
    Identity(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

/// The file, as far as it interests.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Account>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    #[serde(rename = "auth")]
    pair: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account(…)")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    username: String,
    secret: String,
}

impl Credentials {
    /// The credentials for a registry, if there are any. May wait for a
    /// helper.
    pub(crate) fn find(&self, registry: &str) -> Result<Option<Login>, OciError> {
        for path in &self.files {
            if let Some(login) = DockerConfig::read(path)?.find(registry)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// The registries that there are credentials for, as far as files name
    /// them.
    pub fn registries(&self) -> Result<BTreeSet<String>, OciError> {
        let mut names = BTreeSet::new();
        for path in &self.files {
            let config = DockerConfig::read(path)?;
            let keys = config.auths.keys().chain(config.cred_helpers.keys());
            names.extend(keys.map(|key| registry_of(key).to_owned()));
        }
        Ok(names)
    }
}

impl DockerConfig {
    /// The file at `path`; an empty one where there is none.
    fn read(path: &Path) -> Result<Self, OciError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(lampyr_store::at(path)(e).into()),
        };
        serde_json::from_slice(&bytes).map_err(|e| OciError::CredentialFile {
            path: path.display().to_string(),
            why: e.to_string(),
        })
    }

    fn find(&self, registry: &str) -> Result<Option<Login>, OciError> {
        let key = credentials_key(registry);
        if let Some(helper) = self.cred_helpers.get(registry).or(self.cred_helpers.get(key)) {
            return ask(helper, registry);
        }
        let plain = self.auths.iter().find(|(name, _)| bare(name) == bare(key));
        if let Some(login) = plain.and_then(|(_, account)| account.login()) {
            return Ok(Some(login));
        }
        match &self.creds_store {
            Some(helper) => ask(helper, registry),
            None => Ok(None),
        }
    }
}

impl Account {
    fn login(&self) -> Option<Login> {
        if let Some(token) = self.identitytoken.as_deref().filter(|token| !token.is_empty()) {
            return Some(Login::Identity(token.to_owned()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Some(Login::Password(user.clone(), password.clone()));
        }
        let bytes = STANDARD.decode(self.pair.as_deref()?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Login::Password(user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

/// A registry's name without what older files put around it.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

/// The registry that a credential file means: Docker's has a name of its own
/// there.
fn registry_of(name: &str) -> &str {
    if bare(name) == bare(credentials_key(HUB)) { HUB } else { bare(name) }
}

/// Asks a helper; one that knows nothing is no failure.
fn ask(helper: &str, registry: &str) -> Result<Option<Login>, OciError> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| OciError::Helper {
        helper: program.clone(),
        registry: registry.to_owned(),
        why: crate::manifest::shown(why.trim()),
    };
    if helper.contains('/') {
        return Err(failed("its name has a slash in it".to_owned()));
    }
    let said = talk(&program, credentials_key(registry)).map_err(|e| failed(e.to_string()))?;
    let (success, said) = said.ok_or_else(|| failed("it did not answer in time".to_owned()))?;
    let text = String::from_utf8_lossy(&said);
    if !success && text.contains("credentials not found") {
        return Ok(None);
    }
    if !success {
        return Err(failed(text.into_owned()));
    }
    let told: Told = serde_json::from_slice(&said).map_err(|e| failed(e.to_string()))?;
    Ok(Some(match told.username.as_str() {
        TOKEN_USER => Login::Identity(told.secret),
        _ => Login::Password(told.username, told.secret),
    }))
}

/// Runs a helper and returns whether it succeeded and what it said; nothing
/// where it took too long.
fn talk(program: &str, key: &str) -> std::io::Result<Option<(bool, Vec<u8>)>> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not listen says so by how it ends.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child.stdout.take();
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = output.map(|output| output.take(MOST_SAID).read_to_end(&mut said));
        read.transpose().map(|_| said)
    });
    let Some(success) = wait(&mut child)? else { return Ok(None) };
    let said = reading.join().unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(Some((success, said)))
}

fn wait(child: &mut Child) -> std::io::Result<Option<bool>> {
    let end = Instant::now() + HELPER_WAIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, registry: &str) -> Option<Login> {
        let config: DockerConfig = serde_json::from_str(json).unwrap();
        config.find(registry).unwrap()
    }

    fn password(user: &str, password: &str) -> Login {
        Login::Password(user.to_owned(), password.to_owned())
    }

    #[test]
    fn credentials_are_found_under_old_and_new_names() {
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjOnJldA=="},
            "localhost:5000":{"username":"a","password":"b"},
            "ghcr.io":{"identitytoken":"t","auth":"bWU6"},"empty.io":{}},"HttpHeaders":{}}"#;
        assert_eq!(find(json, "docker.io"), Some(password("me", "sec:ret")));
        assert_eq!(find(json, "localhost:5000"), Some(password("a", "b")));
        assert_eq!(find(json, "ghcr.io"), Some(Login::Identity("t".to_owned())));
        assert_eq!(find(json, "empty.io"), None);
        assert_eq!(find(json, "localhost:5001"), None);
    }

    #[test]
    fn the_registries_of_files_are_known_by_their_usual_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let json = r#"{"auths":{"https://index.docker.io/v1/":{},"ghcr.io":{}},
            "credHelpers":{"localhost:5000":"x"}}"#;
        std::fs::write(&path, json).unwrap();
        let credentials = Credentials { files: vec![dir.path().join("none"), path.clone()] };
        let names: Vec<_> = credentials.registries().unwrap().into_iter().collect();
        assert_eq!(names, ["docker.io", "ghcr.io", "localhost:5000"]);
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(credentials.registries(), Err(OciError::CredentialFile { .. })));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let config: DockerConfig =
            serde_json::from_str(r#"{"credHelpers":{"x.io":"lampyr-has-none"}}"#).unwrap();
        let error = config.find("x.io").unwrap_err().to_string();
        assert!(
            error.starts_with("docker-credential-lampyr-has-none has no credentials"),
            "{error}"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", password("me", "hidden"));
        assert!(!shown.contains("hidden"));
    }
}
