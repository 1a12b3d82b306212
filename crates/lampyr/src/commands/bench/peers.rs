//! The rows on private networks: from one VM to another.

use lampyr_types::Name;

use crate::core_api::{self as core, Access, Domain, Host, Private, RunRequest};
use crate::failure::Failure;

use super::guest::{Guest, Moved};
use super::server::BULK;
use super::session;
use super::table::Row;

/// Where the server in a VM listens, and what that VM is called.
const PORT: u16 = 7000;
const SERVER: &str = "server";
const ROWS: [&str; 3] =
    ["VM to VM, to the one", "VM to VM, from the one", "VM to VM, there and back"];

/// The server of this host's, as a guest can have it: see `server.rs`.
const SERVE: &str = r#"
import os, socket, sys, threading
port, size = map(int, sys.argv[1:])
listener, zeroes = socket.create_server(("", port)), bytes(1 << 17)
def answer(one):
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    what = one.recv(2, socket.MSG_WAITALL)
    if what == b"d\n":
        for at in range(0, size, len(zeroes)): one.sendall(zeroes[:size - at])
    elif what == b"u\n":
        left, buffer = size, bytearray(len(zeroes))
        while left: left -= one.recv_into(buffer)
        one.sendall(b"k")
    else:
        while what == b"p\n":
            one.sendall(b"a\n")
            what = one.recv(2, socket.MSG_WAITALL)
    one.close()
print(port, flush=True)
nothing = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(nothing, fd)
if os.fork() == 0:
    while True: threading.Thread(target=answer, args=(listener.accept()[0],)).start()
"#;

/// Measures what goes from one VM to another.
pub(super) async fn rows(host: &Host, run: &RunRequest, n: usize) -> Result<Vec<Row>, Failure> {
    let server = RunRequest { net: Some(place(SERVER)?), ..run.clone() };
    let client = RunRequest { net: Some(place("client")?), ..run.clone() };
    let mut server = Guest::Ours(Box::new(core::launch(host, &server).await?));
    let mut client = Guest::Ours(Box::new(core::launch(host, &client).await?));
    server.number(SERVE, &format!("{PORT} {BULK}")).await?;
    let mut moved = Moved::default();
    for _ in 0..(n / 6).max(1) {
        moved.once(&mut client, SERVER, PORT).await?;
    }
    client.end().await;
    server.end().await;
    let bulk = "200 MB over one TCP connection with another VM on a private network";
    let turn = "a line to that VM and one back, each of 200 on one connection";
    Ok(moved.rows(ROWS, [bulk, turn]))
}

/// A place on the private network of this bench.
fn place(name: &str) -> Result<Access, Failure> {
    let failed = |e: String| Failure::System {
        what: "name a private network",
        source: std::io::Error::other(e),
    };
    let network: Name = session::name().parse().map_err(|e| failed(format!("{e}")))?;
    let name = Domain::parse(name).map_err(|e| failed(e.to_string()))?;
    Ok(Access { private: Some(Private { network, name: Some(name) }), ..Access::default() })
}
