//! Where the fuzzer begins: one small input for each thing that can be said.
//!
//! They are made here, with the protocol's own code, so that they never lag
//! behind it. `cargo run -p lampyr-fuzz --bin seeds` writes them.

use std::path::{Path, PathBuf};

use lampyr_net::{Domain, ask, compose_hello};
use lampyr_proto::{
    Card, Control, Event, Exec, Exited, Greeting, Hello, Job, Kind, Lane, Request, Resumed,
    Welcome, Window, encode, encode_message,
};

use crate::compose::compose;
use crate::network;

/// An input in `seeds/<target>/<name>`.
pub struct Seed {
    /// The target that it is for.
    pub target: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

impl Seed {
    /// Where it lies in the repository.
    pub fn path(&self) -> PathBuf {
        let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
        crate_root.join("seeds").join(self.target).join(self.name)
    }
}

/// All seeds of all targets.
pub fn all() -> Vec<Seed> {
    let of = |target, inputs: Vec<(&'static str, Vec<u8>)>| {
        inputs.into_iter().map(move |(name, bytes)| Seed { target, name, bytes })
    };
    let mut seeds: Vec<Seed> = of("frames", frames()).collect();
    seeds.extend(of("messages", messages()));
    seeds.extend(of("greeting", greetings()));
    seeds.extend(of("archive", archives()));
    seeds.extend(of("entries", entries()));
    seeds.extend(of("mount", mounts()));
    seeds.extend(of("network", networks()));
    seeds
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut host = Vec::new();
    encode(&mut host, 1, Kind::Open, Lane::Stdin, &encode_message(&request()));
    encode(&mut host, 1, Kind::Data, Lane::Stdin, b"input");
    encode(&mut host, 1, Kind::End, Lane::Stdin, b"");
    encode(&mut host, 1, Kind::Credit, Lane::Stdout, &65_536_u32.to_le_bytes());
    encode(&mut host, 1, Kind::Message, Lane::Stdin, &encode_message(&Control::Signal(15)));
    encode(&mut host, 1, Kind::Close, Lane::Stdin, b"");
    let mut guest = Vec::new();
    encode(&mut guest, 1, Kind::Data, Lane::Stderr, b"output");
    encode(&mut guest, 1, Kind::End, Lane::Stderr, b"");
    encode(&mut guest, 1, Kind::Message, Lane::Stdin, &encode_message(&exited()));
    encode(&mut guest, 1, Kind::Close, Lane::Stdin, b"");
    let giant = [&[1, 0, 0, 0], u32::MAX.to_le_bytes().as_slice(), &[3, 1, 0, 0]].concat();
    vec![("host", host), ("guest", guest), ("giant", giant)]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let resumed = Resumed {
        crowd: true,
        entropy: vec![7; 8],
        clock_ns: 1,
        hostname: "guest".into(),
        machine_id: "0".repeat(32),
        card: None,
        authority: None,
    };
    let welcome = Event::Welcome(Welcome { generation: 1, kernel: "6.12".into() });
    let argv = Request::Exec(Box::new(Exec::new(Job::Argv(vec!["ls".into(), "-l".into()]))));
    vec![
        ("hello", encode_message(&Request::Hello(Hello { generation: 1 }))),
        ("resumed", encode_message(&Request::Resumed(resumed))),
        ("shell", encode_message(&request())),
        ("argv", encode_message(&argv)),
        ("quiesce", encode_message(&Request::Quiesce)),
        ("welcome", encode_message(&welcome)),
        ("failed", encode_message(&Event::Failed("no such program".into()))),
        ("exited", encode_message(&exited())),
        ("signal", encode_message(&Control::Signal(9))),
        ("resize", encode_message(&Control::Resize(Window { rows: 24, columns: 80 }))),
    ]
}

fn request() -> Request {
    let mut exec = Exec::new(Job::Shell("uname -a".into()));
    exec.env = vec![("A".into(), "b".into())];
    exec.workdir = Some("/tmp".into());
    Request::Exec(Box::new(exec))
}

fn exited() -> Event {
    Event::Exited(Exited { code: Some(3), wall_us: 70_000, ..Exited::default() })
}

fn greetings() -> Vec<(&'static str, Vec<u8>)> {
    let [wanted, passed_over] = [2, 1].map(|first| Greeting([first; 16]).to_bytes());
    vec![
        ("behind-noise", [b"boot\r\n", wanted.as_slice(), b"rest"].concat()),
        ("second", [passed_over, wanted].concat()),
        ("cut-off", [&wanted[..20], &wanted].concat()),
    ]
}

/// What is honest and what is not, as the text that [`compose`] reads.
fn entries() -> Vec<(&'static str, Vec<u8>)> {
    let all = [
        ("tree", "d ./\nd a/\nf a/f text\nl a/l f\n"),
        ("record", "d ./\nx path long\nx mtime -12.5\nf short text\n"),
        ("holes", "x GNU.sparse.realsize 9\nm f 1,4,2, xy\n"),
        ("through-link", "d ./\nl l @\nf l/f evil\n"),
        ("replaced-link", "d ./\nl f @/f\nf f evil\n"),
        ("upwards", "d ./\nf ../canary/f evil\n"),
        ("absolute", "d ./\nx path @/f\nf f evil\n"),
        ("hard-link", "d ./\n1 h @/f\n"),
    ];
    all.map(|(name, text)| (name, text.as_bytes().to_vec())).to_vec()
}

/// Such archives as bytes, without the zeros at their end, which the target
/// adds.
fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let all = [
        ("tree", "d ./\nf f text\nl l f\n"),
        ("record", "x path long\nx mtime -12.5\nf short text\n"),
        ("holes", "x GNU.sparse.realsize 9\nm f 1,9,0,\n"),
        ("upwards", "d ./\nf ../canary/f evil\n"),
    ];
    all.map(|(name, text)| (name, trimmed(compose(text.as_bytes())))).to_vec()
}

/// What a kernel asks, as the chain that the target reads: [a request, a node,
/// and what follows].
fn mounts() -> Vec<(&'static str, Vec<u8>)> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    let named = |first: &[u32], name: &str| [words(first), name.into(), vec![0]].concat();
    let chain = |asked: &[(u8, u8, Vec<u8>)]| {
        let one = |(opcode, node, body): &(u8, u8, Vec<u8>)| {
            [&[*opcode, *node, body.len() as u8], body.as_slice()].concat()
        };
        asked.iter().flat_map(one).collect::<Vec<_>>()
    };
    let create = (35, 1, named(&[2, 0o644, 0, 0], "f"));
    let write = (16, 2, named(&[1, 0, 0, 0, 4, 0, 0, 0, 0, 0], "abc"));
    let read = (15, 2, words(&[1, 0, 0, 0, 99, 0, 0, 0, 0, 0]));
    let init = (26, 0, words(&[7, 37, 1 << 17, u32::MAX]));
    let file = vec![init, create.clone(), write, read, (3, 2, vec![0; 16])];
    let list = vec![(27, 1, vec![0; 8]), (28, 1, words(&[1, 0, 0, 0, 4096, 0, 0, 0, 0, 0]))];
    let tree = vec![
        (9, 1, named(&[0o755, 0], "d")),
        (1, 1, named(&[], "d")),
        create,
        (12, 1, [named(&[2, 0], "f"), b"g\0".to_vec()].concat()),
        (10, 2, named(&[], "g")),
    ];
    let link = vec![(1, 1, named(&[], "l")), (14, 2, words(&[2, 0])), (1, 2, named(&[], "f"))];
    let all = [("file", file), ("list", list), ("names", tree), ("link", link)];
    all.map(|(name, asked)| (name, chain(&asked))).to_vec()
}

/// What a guest says on its card, as the chain that the target reads, and the
/// beginnings of its streams.
fn networks() -> Vec<(&'static str, Vec<u8>)> {
    let chain = |kind: u8, body: &[u8]| [&[kind, body.len() as u8], body].concat();
    let name = Domain::parse("a.example.com").ok();
    let question = name.and_then(|name| ask(7, &name, lampyr_net::Kind::V4)).unwrap_or_default();
    let syn = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
    let length = (8 + question.len() as u16).to_be_bytes();
    let dns = [&[0x9c, 0x40, 0, 53], length.as_slice(), &[0, 0], &question].concat();
    let echo = [8, 0, 0, 0, 0, 1, 0, 1, b'h', b'i'];
    let solicit = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &Card::GATEWAY_V6.octets()].concat();
    let request = b"POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 2\r\n\r\nhi";
    let chunked =
        b"PUT / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let oversized = [&u32::MAX.to_be_bytes(), [0; 60].as_slice()].concat();
    let odd = network::odd(&dns).map(|(name, packet)| (name, chain(7, &packet)));
    let good = vec![
        ("arp", chain(0, &network::arp())),
        ("syn", chain(1, &syn)),
        ("dns", chain(2, &dns)),
        ("echo", chain(3, &echo)),
        ("syn-v6", chain(4, &syn)),
        ("neighbour", chain(6, &solicit)),
        ("all", [chain(0, &network::arp()), chain(1, &syn), chain(2, &dns)].concat()),
        ("frames", [&60_u32.to_be_bytes(), [0; 60].as_slice()].concat()),
        ("oversized", oversized),
        ("hello", compose_hello(Some("a.example.com"))),
        ("request", request.to_vec()),
        ("chunks", chunked.to_vec()),
    ];
    good.into_iter().chain(odd).collect()
}

fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}
