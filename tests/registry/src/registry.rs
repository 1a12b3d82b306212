//! The distribution's registry as a process of one's own.

use std::fmt::Write as FmtWrite;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use tempfile::TempDir;

use crate::tokens::{SERVICE, give_out};
use crate::{Layout, succeed};

/// Who may use a registry that asks.
pub const USER: &str = "tester";
/// And with what.
pub const PASSWORD: &str = "a password: with a colon";

/// A registry on a free port of 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct TestRegistry {
    child: Child,
    dir: TempDir,
    port: u16,
    door: Door,
}

/// What a registry wants of whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Password,
    Token,
}

impl TestRegistry {
    /// One without encryption that asks nobody anything.
    pub fn plain() -> Self {
        Self::start(false, Door::Open)
    }

    /// One with a certificate that no system trusts.
    pub fn encrypted() -> Self {
        Self::start(true, Door::Open)
    }

    /// One that wants a password.
    pub fn with_password() -> Self {
        Self::start(false, Door::Password)
    }

    /// One with a certificate that no system trusts, which wants a password.
    pub fn encrypted_with_password() -> Self {
        Self::start(true, Door::Password)
    }

    /// One that wants a token, which somebody else gives out.
    pub fn with_tokens() -> Self {
        Self::start(false, Door::Token)
    }

    fn start(encrypted: bool, door: Door) -> Self {
        let dir = tempfile::Builder::new().prefix("lampyr-registry-").tempdir().unwrap();
        let config = configure(dir.path(), encrypted, door);
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let port = port(&mut child);
        Self { child, dir, port, door }
    }

    /// Its host and port.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Where it keeps what it has.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// The file in which it keeps a blob.
    pub fn stored(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.storage().join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Changes a bit in the middle of a blob.
    pub fn damage(&self, digest: &str) {
        let path = self.stored(digest);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// A credential file as `docker login` would leave it.
    pub fn credentials(&self, path: &Path) {
        let auths = serde_json::json!({self.name(): {"username": USER, "password": PASSWORD}});
        std::fs::write(path, serde_json::json!({"auths": auths}).to_string()).unwrap();
    }

    /// The manifest that has a name in it.
    pub fn manifest(&self, name: &str) -> serde_json::Value {
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";
        serde_json::from_slice(&self.ask("GET", name, accept, b"")).unwrap()
    }

    /// Gives another manifest the name, whose blobs it has.
    pub fn set_manifest(&self, name: &str, manifest: &serde_json::Value) {
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        self.ask("PUT", name, kind, manifest.to_string().as_bytes());
    }

    /// The body of its answer to a request about a manifest, which must be good.
    fn ask(&self, method: &str, name: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!("{method} /v2/{repository}/manifests/{tag} HTTP/1.0\r\n{fields}");
        let head = format!("{head}Host: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{text}");
        let end = text.find("\r\n\r\n").unwrap() + 4;
        answer.split_off(end)
    }

    /// Puts the image `tag` of a layout into it and returns its reference.
    pub fn push(&self, layout: &Layout, tag: &str, name: &str) -> String {
        self.fill(layout.path(), tag, name, &["--preserve-digests"])
    }

    /// The same for a layout wherever it is, with words for skopeo.
    pub fn fill(&self, layout: &Path, tag: &str, name: &str, words: &[&str]) -> String {
        let reference = format!("{}/{name}", self.name());
        let mut skopeo = self.skopeo("copy", "--dest");
        skopeo.args(words).arg(format!("oci:{}:{tag}", layout.display()));
        succeed(skopeo.arg(format!("docker://{reference}")));
        reference
    }

    /// Copies an image from it into a new layout at `path`, as `tag`.
    pub fn pull(&self, name: &str, path: &Path, tag: &str) {
        let mut skopeo = self.skopeo("copy", "--src");
        skopeo.arg(format!("docker://{}/{name}", self.name()));
        succeed(skopeo.arg(format!("oci:{}:{tag}", path.display())));
    }

    /// Begins a command of skopeo's; what is on this host's side is `side`.
    pub fn skopeo(&self, command: &str, side: &str) -> Command {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", command]).arg(format!("{side}-tls-verify=false"));
        if self.door != Door::Open {
            skopeo.arg(format!("{side}-creds={USER}:{PASSWORD}"));
        }
        skopeo
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(dir: &Path, encrypted: bool, door: Door) -> PathBuf {
    let shown = dir.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {shown}/storage\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n"
    );
    if encrypted {
        certify(dir);
        let _ =
            write!(text, "  tls:\n    certificate: {shown}/cert.pem\n    key: {shown}/key.pem\n");
    }
    match door {
        Door::Open => {}
        Door::Password => {
            let line = succeed(Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]));
            std::fs::write(dir.join("htpasswd"), line).unwrap();
            let _ =
                write!(text, "auth:\n  htpasswd:\n    realm: test\n    path: {shown}/htpasswd\n");
        }
        Door::Token => {
            let (place, name) = (give_out(dir), SERVICE);
            let _ = write!(
                text,
                "auth:\n  token:\n    realm: {place}\n    service: {name}\n    issuer: {name}\n    \
                 rootcertbundle: {shown}/tokens.pem\n"
            );
        }
    }
    let path = dir.join("config.yml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Makes an authority, `ca.pem`, and a certificate that it vouches for.
fn certify(dir: &Path) {
    let script = "set -e; cd \"$1\"; new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        openssl req -x509 $new -days 2 -subj '/CN=lampyr tests' -keyout ca.key -out ca.pem
        openssl req $new -subj '/CN=localhost' -keyout key.pem -out asked.pem
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > names
        openssl x509 -req -in asked.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile names -out cert.pem";
    succeed(Command::new("sh").args(["-c", script, "certify"]).arg(dir));
}

/// The port that the registry says it listens on. What it says later is read
/// and forgotten, so that it never waits for us.
fn port(child: &mut Child) -> u16 {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, found) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let _ = sender.send(digits.parse().unwrap());
            }
        }
    });
    found.recv_timeout(Duration::from_secs(20)).expect("the registry listens")
}
