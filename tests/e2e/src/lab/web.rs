//! A web server over TLS, with an authority of its own. It tells whoever asks
//! all that they said, in ways that it is asked for.

mod socket;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::NamedTempFile;

/// The names that its certificate has.
const NAMES: [&str; 2] = ["secret.example.com", "twin.example.com"];

pub(super) struct Web {
    config: Arc<ServerConfig>,
    authority: NamedTempFile,
}

impl Web {
    pub(super) fn new() -> Self {
        let mut own = CertificateParams::new([]).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (own_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let authority = NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), own.self_signed(&own_key).unwrap().pem()).unwrap();
        let certificate = CertificateParams::new(NAMES.map(str::to_owned)).unwrap();
        let certificate = certificate.signed_by(&key, &Issuer::new(own, own_key)).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider);
        let config = versions.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.into()], key).unwrap();
        Self { config: Arc::new(config), authority }
    }

    pub(super) fn authority(&self) -> &Path {
        self.authority.path()
    }

    /// Serves a connection to its end.
    pub(super) fn serve(&self, stream: TcpStream, note: impl Fn(String)) {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let connection = ServerConnection::new(self.config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while let Some(request) = read(&mut stream) {
            let name = stream.conn.server_name().unwrap_or("nobody").to_owned();
            note(format!("web {name} heard {request:?}"));
            if request.starts_with("GET /socket") {
                return socket::serve(stream, &request, &note);
            }
            if answer(&mut stream, &request).is_err() {
                return;
            }
        }
    }
}

/// A request with its body, which is as long as its head says.
fn read(stream: &mut impl Read) -> Option<String> {
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        heard.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&heard).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    heard.extend(body);
    Some(String::from_utf8_lossy(&heard).into_owned())
}

fn answer(stream: &mut impl Write, request: &str) -> std::io::Result<()> {
    let first = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
    let echo = format!("X-Echo: {}\r\n", first.unwrap_or("nothing"));
    let path = request.split(' ').nth(1).unwrap_or_default();
    match path {
        "/redirect" => {
            let to = "Location: https://twin.example.com/echo\r\n";
            let head = format!("HTTP/1.1 302 Found\r\n{to}{echo}Content-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes())
        }
        // Git says who it is when it is asked.
        "/git/info/refs?service=git-upload-pack" if first.is_none() => {
            let asked = "WWW-Authenticate: Basic realm=\"git\"\r\n";
            write!(stream, "HTTP/1.1 401 Unauthorized\r\n{asked}Content-Length: 0\r\n\r\n")
        }
        // What it was sent as `Basic`, in other clothes.
        "/decoded" => {
            let sent = first.unwrap_or_default().trim_start_matches("Basic ");
            let decoded = STANDARD.decode(sent).unwrap_or_default();
            let decoded = String::from_utf8_lossy(&decoded);
            let body = format!("{{\"raw\": \"{sent}\", \"decoded\": \"{decoded}\"}}\n");
            let length = body.len();
            let heads = format!("X-Raw: {sent}\r\nX-Decoded: {decoded}\r\n{echo}");
            write!(stream, "HTTP/1.1 200 OK\r\n{heads}Content-Length: {length}\r\n\r\n{body}")
        }
        // Each byte alone, so that nothing comes in one piece.
        "/chunks" => {
            write!(stream, "HTTP/1.1 200 OK\r\n{echo}Transfer-Encoding: chunked\r\n\r\n")?;
            for byte in request.bytes() {
                stream.write_all(&[b'1', b'\r', b'\n', byte, b'\r', b'\n'])?;
                stream.flush()?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
        _ => {
            let length = request.len();
            write!(stream, "HTTP/1.1 200 OK\r\n{echo}Content-Length: {length}\r\n\r\n{request}")
        }
    }?;
    stream.flush()
}
