//! One registry, spoken to over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response};
use tokio::sync::Mutex;

use crate::auth::{self, Challenge, Scope};
use crate::credentials::{Credentials, Login};
use crate::manifest::{ACCEPTED, shown};
use crate::reference::{host, is_loopback};
use crate::{Digest, OciError, Reference};

const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a registry may be silent in the middle of an answer.
const READ_WAIT: Duration = Duration::from_secs(30);
/// The pauses before each new try.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(700), Duration::from_secs(2)];
/// The longest that we wait because a registry asks us to.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The most bytes of a manifest; the specification says as much.
pub(crate) const MOST_MANIFEST: u64 = 4 << 20;
/// How much of what a failing registry says is read.
const MOST_SAID: u64 = 64 << 10;

/// What is done with a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// How registries are spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who we are.
    pub credentials: Credentials,
    /// A file with certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Registries that are asked before the one that is named.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// A registry and one repository in it.
#[derive(Debug)]
pub struct Registry {
    pub(crate) name: String,
    pub(crate) http: Client,
    /// Scheme, host and port.
    base: String,
    repository: String,
    access: Access,
    login: Option<Login>,
    /// What the registry wants to see of us.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Registry {
    /// Gets ready to speak to the registry called `name` about a repository.
    /// One on this host that does not speak TLS is spoken to without.
    pub async fn open(
        name: &str,
        repository: &str,
        access: Access,
        settings: &Settings,
    ) -> Result<Self, OciError> {
        let (http, base) = connect(name, settings).await?;
        let login = login(name, settings).await?;
        let (name, repository) = (name.to_owned(), repository.to_owned());
        Ok(Self { name, http, base, repository, access, login, authorization: Mutex::new(None) })
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.repository)
    }

    /// A manifest's bytes, whose digest is checked where the reference has one.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, OciError> {
        let url = self.url(&format!("manifests/{}", reference.wanted()));
        let ask = |http: &Client| http.get(&url).header("Accept", ACCEPTED);
        let answer = self.send("give the manifest", ask).await?;
        if answer.status() == 404 {
            return Err(OciError::NotFound { reference: reference.to_string() });
        }
        let answer = self.check("give the manifest", answer).await?;
        let bytes = body(answer, MOST_MANIFEST, &self.name).await?;
        let what = || format!("the manifest of {reference}");
        reference.digest().map_or(Ok(()), |wanted| verify(&bytes, wanted, what))?;
        Ok(bytes)
    }

    /// The bytes of a blob that is needed at once, with the right digest.
    pub(crate) async fn small_blob(&self, digest: Digest, most: u64) -> Result<Vec<u8>, OciError> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.send("give a blob", |http: &Client| http.get(&url)).await?;
        let answer = self.check("give a blob", answer).await?;
        let bytes = body(answer, most, &self.name).await?;
        verify(&bytes, digest, || format!("a blob from {}", self.name))?;
        Ok(bytes)
    }

    /// Sends a request, again where that may help, and with what the registry
    /// wants to know. The answer may still be a refusal.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        build: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, OciError> {
        let mut pauses = PAUSES.into_iter();
        let mut known = false;
        loop {
            let answer = match self.authorized(build(&self.http)).await.send().await {
                Ok(answer) => answer,
                // Who was silent for so long once will be again.
                Err(e) => match pauses.next().filter(|_| !is_untrusted(&e) && !e.is_timeout()) {
                    Some(pause) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    None => return Err(unreachable(&self.name, &e)),
                },
            };
            match answer.status().as_u16() {
                401 if !known => {
                    self.authenticate(&answer).await?;
                    known = true;
                }
                401 | 403 => return Err(self.unauthorized()),
                429 | 500..=599 => {
                    let asked = |usual| asked_pause(&answer).unwrap_or(usual);
                    match pauses.next().map(asked).filter(|pause| *pause <= LONGEST_PAUSE) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(self.refusal(what, answer).await),
                    }
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Whether a place belongs to the registry itself.
    pub(crate) fn is_own(&self, place: &reqwest::Url) -> bool {
        reqwest::Url::parse(&self.base).is_ok_and(|own| own.origin() == place.origin())
    }

    pub(crate) async fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match self.authorization.lock().await.clone() {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    async fn authenticate(&self, answer: &Response) -> Result<(), OciError> {
        let challenge = Challenge::read(answer.headers()).ok_or_else(|| self.unauthorized())?;
        let scope = Scope {
            registry: &self.name,
            repository: Some(&self.repository),
            access: self.access,
            encrypted: self.base.starts_with("https:"),
        };
        let value = auth::answer(&self.http, &challenge, self.login.as_ref(), scope).await?;
        *self.authorization.lock().await = Some(value);
        Ok(())
    }

    fn unauthorized(&self) -> OciError {
        OciError::Unauthorized {
            registry: self.name.clone(),
            repository: self.repository.clone(),
            known: self.login.is_some(),
        }
    }

    /// Turns a refusal into an error.
    pub(crate) async fn check(
        &self,
        what: &'static str,
        answer: Response,
    ) -> Result<Response, OciError> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(what, answer).await)
    }

    async fn refusal(&self, what: &'static str, answer: Response) -> OciError {
        let (registry, status) = (self.name.clone(), answer.status().as_u16());
        if status == 429 {
            let after = asked_pause(&answer).map(|pause| pause.as_secs());
            return OciError::TooMany { registry, after };
        }
        let said = body(answer, MOST_SAID, &self.name).await.unwrap_or_default();
        OciError::Refused { registry, what, status, said: message(&said) }
    }
}

fn verify(bytes: &[u8], wanted: Digest, what: impl FnOnce() -> String) -> Result<(), OciError> {
    let found = Digest::of(bytes);
    if found == wanted {
        Ok(())
    } else {
        Err(OciError::WrongDigest { what: what(), wanted, found })
    }
}

/// The first message of a registry's complaint, after a colon.
fn message(said: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
    let text = value["errors"][0]["message"].as_str().unwrap_or_default();
    if text.is_empty() { String::new() } else { format!(": {}", shown(text)) }
}

fn asked_pause(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().ok()?))
}

fn client(name: &str, settings: &Settings, loopback: bool) -> Result<Client, OciError> {
    let untrusted = |why: String| OciError::Untrusted { registry: name.to_owned(), why };
    // Another library may have chosen the same already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("lampyr/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WAIT)
        .read_timeout(READ_WAIT)
        .redirect(redirects(loopback));
    if loopback {
        builder = builder.no_proxy();
    }
    if let Some(path) = &settings.ca {
        let pem = std::fs::read(path).map_err(lampyr_store::at(path))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| untrusted(cause(&e)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| untrusted(cause(&e)))
}

/// Redirects are followed, but not from an encrypted place to one that is not.
fn redirects(loopback: bool) -> Policy {
    Policy::custom(move |attempt| {
        let plain = attempt.url().scheme() != "https";
        let was_encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > 5 {
            attempt.error("it leads on and on")
        } else if plain && was_encrypted && !loopback {
            attempt.error("it leads to a place that is not encrypted")
        } else {
            attempt.follow()
        }
    })
}

/// A client for a registry, and the registry's scheme, host and port.
pub(crate) async fn connect(name: &str, settings: &Settings) -> Result<(Client, String), OciError> {
    let loopback = is_loopback(name);
    let http = client(name, settings, loopback)?;
    let base = base(name, &http, loopback).await?;
    Ok((http, base))
}

/// The credentials for a registry, if there are any.
pub(crate) async fn login(name: &str, settings: &Settings) -> Result<Option<Login>, OciError> {
    let (credentials, asked) = (settings.credentials.clone(), name.to_owned());
    let found = tokio::task::spawn_blocking(move || credentials.find(&asked)).await;
    found.map_err(|e| crate::manifest::senseless("a credential helper", &e))?
}

/// Scheme, host and port of a registry.
async fn base(name: &str, http: &Client, loopback: bool) -> Result<String, OciError> {
    let host = host(name);
    let encrypted = format!("https://{host}");
    if !loopback {
        return Ok(encrypted);
    }
    let Err(refusal) = http.get(format!("{encrypted}/v2/")).send().await else {
        return Ok(encrypted);
    };
    let plain = format!("http://{host}");
    match http.get(format!("{plain}/v2/")).send().await {
        Ok(answer) if answer.status() != 400 => Ok(plain),
        _ => Err(unreachable(name, &refusal)),
    }
}

/// The whole body of an answer, unless it is longer than `most`.
pub(crate) async fn body(
    mut answer: Response,
    most: u64,
    registry: &str,
) -> Result<Vec<u8>, OciError> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| unreachable(registry, &e))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > most {
            let what = format!("an answer of {registry}");
            return Err(crate::manifest::senseless(&what, &"it is too long"));
        }
    }
    Ok(bytes)
}

/// Why a registry could not be spoken to.
pub(crate) fn unreachable(registry: &str, error: &reqwest::Error) -> OciError {
    let (registry, why) = (registry.to_owned(), cause(error));
    if is_untrusted(error) {
        OciError::Untrusted { registry, why }
    } else {
        OciError::NoRoute { registry, why }
    }
}

fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        // What an I/O error wraps is not its source, but the error itself.
        let wrapped = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        source = wrapped.map_or_else(|| e.source(), |inner| Some(inner as &dyn std::error::Error));
    }
    false
}

/// What is at the bottom of an error.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    shown(&last.to_string())
}
