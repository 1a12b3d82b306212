//! Many connections at once, made by a program in a guest.

use std::fmt::Display;
use std::time::Duration;

use crate::core_api::{self as core, Host, RunRequest};
use crate::failure::Failure;

use super::guest::Guest;
use super::network::HOST;
use super::process;
use super::server::{PIECE, Server};
use super::table::{Row, Unit};

/// Connections that bring something.
pub(super) const AT_ONCE: usize = 100;
/// Connections that are there.
const OPEN: usize = 1000;

/// Hears so many bytes over each of so many connections, and says how many
/// seconds that took.
const HEAR: &str = r#"
import selectors, socket, sys, time
host, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
begun, heard = time.monotonic(), 0
all = [socket.create_connection((host, port)) for _ in range(count)]
ready, buffer = selectors.DefaultSelector(), bytearray(1 << 16)
for one in all:
    one.sendall(b"s\n")
    one.setblocking(False)
    ready.register(one, selectors.EVENT_READ)
while ready.get_map():
    for key, _ in ready.select():
        more = key.fileobj.recv_into(buffer)
        heard += more
        if not more: ready.unregister(key.fileobj)
assert heard == count * size, heard
print(time.monotonic() - begun)
"#;

/// Opens so many connections, hears a line over each, and leaves a process
/// that keeps them.
const HOLD: &str = r#"
import os, signal, socket, sys
host, port, count = sys.argv[1], *map(int, sys.argv[2:])
all = [socket.create_connection((host, port)) for _ in range(count)]
for one in all: one.sendall(b"p\n")
for one in all: assert one.recv(2, socket.MSG_WAITALL) == b"a\n"
print(len(all), flush=True)
nothing = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(nothing, fd)
if os.fork() == 0: signal.pause()
"#;

/// How long it takes until each of 100 connections has brought 2 MB.
pub(super) async fn at_once(
    guest: &mut Guest,
    host: impl Display,
    server: Server,
) -> Result<Duration, Failure> {
    let words = format!("{host} {} {AT_ONCE} {PIECE}", server.port);
    Ok(Duration::from_secs_f64(guest.number(HEAR, &words).await?.max(f64::EPSILON)))
}

/// Measures the process that a VM's network is, before and after.
pub(super) async fn memory(
    host: &Host,
    run: &RunRequest,
    server: Server,
) -> Result<Vec<Row>, Failure> {
    let mut machine = core::launch(host, run).await?;
    machine.exec("true").await?;
    let pid = machine.network_pid();
    let before = process::pss(pid);
    let mut guest = Guest::Ours(Box::new(machine));
    guest.number(HOLD, &format!("{HOST} {} {OPEN}", server.port)).await?;
    let after = process::pss(pid);
    guest.end().await;
    let idle = "PSS of the process that an idle VM's network is";
    let held = "the same, with 1000 connections that have brought a line each";
    Ok(vec![
        row("memory of a network", idle, before),
        row("memory of a network, 1000 open", held, after),
    ])
}

/// Such a process lets nobody but root look into it.
fn row(name: &'static str, definition: &'static str, pss: f64) -> Row {
    if pss > 0.0 {
        return Row::one(name, definition, Unit::Mb, pss);
    }
    Row::absent(name, definition, "only root may count the memory of a sealed process".to_owned())
}
