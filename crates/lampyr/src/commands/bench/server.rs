//! A server on this host, for a guest to speak with.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::core_api::{Access, Policy};
use crate::failure::Failure;

/// Bytes that go each way over one connection.
pub(super) const BULK: usize = 200_000_000;
/// Bytes that come over each of many.
pub(super) const PIECE: usize = 2_000_000;

/// Where it listens, until this process ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) port: u16,
}

impl Server {
    pub(super) fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
        Ok(Self { port })
    }

    /// What a VM needs to reach it, and nothing else.
    pub(super) fn access(self) -> Result<Access, Failure> {
        let rules = Policy::of([format!("host:{}", self.port).as_str()]);
        Ok(rules.map_err(|e| failed(io::Error::other(e.to_string())))?.into())
    }
}

fn failed(source: io::Error) -> Failure {
    Failure::System { what: "serve on this host", source }
}

fn serve(stream: TcpStream) {
    std::thread::spawn(move || {
        let _ = stream.set_nodelay(true);
        // A guest that hangs up is for the other side to notice.
        let _ = answer(stream);
    });
}

/// Does what the first byte says: `d` gives bytes, `s` fewer of them, `u` takes
/// them, and `p` answers each line.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut line = [0; 2];
    stream.read_exact(&mut line)?;
    match line[0] {
        b'd' => give(BULK, &mut stream),
        b's' => give(PIECE, &mut stream),
        b'u' => {
            io::copy(&mut (&mut stream).take(BULK as u64), &mut io::sink())?;
            stream.write_all(b"k")
        }
        _ => loop {
            stream.write_all(b"a\n")?;
            stream.read_exact(&mut line)?;
        },
    }
}

fn give(bytes: usize, stream: &mut TcpStream) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes as u64), stream).map(|_| ())
}
