//! Who gives out tokens for a registry, as Docker's specification has it:
//! signed claims about who may do what.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::gate::read_head;
use crate::{PASSWORD, USER, succeed};

/// What the registry and who gives out tokens call themselves.
pub(crate) const SERVICE: &str = "lampyr-tests";
/// A token to get tokens with.
pub const IDENTITY: &str = "an identity token";

/// Starts to give out tokens and returns where. The test's process ends it.
/// What begins with `public/` may be read by all.
pub(crate) fn give_out(dir: &Path) -> String {
    let script = "cd \"$1\" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
        -subj /CN=lampyr-tokens -keyout tokens.key -out tokens.pem";
    succeed(Command::new("sh").args(["-c", script, "sign"]).arg(dir));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://{}/token", listener.local_addr().unwrap());
    let dir = dir.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let dir = dir.clone();
            thread::spawn(move || drop(serve(stream, &dir)));
        }
    });
    place
}

fn serve(mut client: TcpStream, dir: &Path) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    let (words, known) = match head.strip_prefix("POST ") {
        Some(_) => {
            let mut form = vec![0; length(&head)];
            client.read_exact(&mut form)?;
            let form = String::from_utf8_lossy(&form).into_owned();
            let token = value(&form, "refresh_token");
            (form, Some(token == Some(IDENTITY.replace(' ', "+"))))
        }
        None => (query(&head), password(&head)),
    };
    if known == Some(false) || value(&words, "service").as_deref() != Some(SERVICE) {
        return write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let scope = value(&words, "scope").unwrap_or_default();
    let token = sign(dir, &claims(&scope.replace("%3A", ":").replace("%2F", "/"), known.is_some()));
    let body = json!({"token": token, "access_token": token, "expires_in": 60}).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn length(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    line.and_then(|len| len.parse().ok()).unwrap_or(0)
}

fn query(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    path.split_once('?').map_or("", |(_, query)| query).to_owned()
}

fn value(form: &str, key: &str) -> Option<String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// Whether the password is right, where one is given.
fn password(head: &str) -> Option<bool> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let (_, basic) = lines.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    let wanted = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    Some(basic.strip_prefix("Basic ") == Some(&wanted))
}

/// What a token says of who asks for a scope, `repository:<name>:<actions>`.
fn claims(scope: &str, known: bool) -> Value {
    let mut access = Vec::new();
    if let Some((name, actions)) =
        scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'))
    {
        let actions: Vec<_> = actions.replace("%2C", ",").split(',').map(str::to_owned).collect();
        let public = name.starts_with("public/") && actions == ["pull"];
        if known || public {
            access.push(json!({"type": "repository", "name": name, "actions": actions}));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({"iss": SERVICE, "aud": SERVICE, "sub": USER, "jti": now.to_string(), "iat": now,
        "nbf": now - 10, "exp": now + 60, "access": access})
}

/// Signs claims: `header.claims.signature`.
fn sign(dir: &Path, claims: &Value) -> String {
    let pem = std::fs::read_to_string(dir.join("tokens.pem")).unwrap();
    let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let pack = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", pack(&header), pack(claims));
    let signature = URL_SAFE_NO_PAD.encode(signature(&dir.join("tokens.key"), text.as_bytes()));
    format!("{text}.{signature}")
}

fn signature(key: &PathBuf, text: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(key);
    let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    child.wait_with_output().unwrap().stdout
}
