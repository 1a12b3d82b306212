//! The rows on the network: between a VM and a server of ours on this host, by
//! turns with QEMU's own user networking.

use std::fmt::Display;

use crate::core_api::{self as core, Booted, Engines, Error, Host, RunRequest};
use crate::failure::Failure;

use super::connections;
use super::guest::{Guest, Moved};
use super::server::{PIECE, Server};
use super::session::rate;
use super::table::{Row, Unit};

/// This host, as a guest of ours calls it.
pub(super) const HOST: &str = "host.lampyr.internal";
/// The rows of each network.
const OURS: [&str; 4] = [
    "network, to the VM",
    "network, from the VM",
    "network, there and back",
    "network, 100 connections",
];
const PLAIN: [&str; 4] = [
    "plain QEMU network, to the VM",
    "plain QEMU network, from the VM",
    "plain QEMU network, there and back",
    "plain QEMU network, 100 connections",
];
/// Their definitions.
const BULK: &str = "200 MB over one TCP connection with a server on this host";
const TURN: &str = "a line to a server on this host and one back, each of 200 on one connection";
const MANY: &str = "2 MB to the VM over each of 100 connections at once, from the first one's \
    making to the last one's end";
const LIKE: &str = "the same through QEMU's own `-netdev user`, in turns with ours";

/// Measures what goes over a card.
pub(super) async fn rows(
    host: &Host,
    engines: &dyn Engines,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let server = Server::start()?;
    let run = RunRequest { net: Some(server.access()?), ..run.clone() };
    let mut rows = in_turns(host, engines, &run, server, (n / 6).max(1)).await?;
    rows.extend(connections::memory(host, &run, server).await?);
    Ok(rows)
}

async fn in_turns(
    host: &Host,
    engines: &dyn Engines,
    run: &RunRequest,
    server: Server,
    times: usize,
) -> Result<Vec<Row>, Failure> {
    let mut ours = Guest::Ours(Box::new(core::launch(host, run).await?));
    let mut plain = boot(host, engines, run).await;
    let (mut by_us, mut by_qemu) = (Over::default(), Over::default());
    for _ in 0..times {
        by_us.once(&mut ours, HOST, server).await?;
        if let Ok(plain) = &mut plain {
            by_qemu.once(plain, Booted::GATEWAY, server).await?;
        }
    }
    ours.end().await;
    let mut rows = by_us.rows(OURS, [BULK, TURN, MANY]);
    match plain {
        Ok(plain) => {
            plain.end().await;
            rows.extend(by_qemu.rows(PLAIN, [LIKE; 3]));
        }
        // A QEMU may have been built without it.
        Err(e) => rows.extend(PLAIN.map(|name| Row::absent(name, LIKE, e.to_string()))),
    }
    Ok(rows)
}

async fn boot(host: &Host, engines: &dyn Engines, run: &RunRequest) -> Result<Guest, Error> {
    let host = host.with_own_network(engines)?;
    Ok(Guest::Plain(core::boot_on_own_network(&host, run).await?))
}

/// What was measured over one network.
#[derive(Debug, Default)]
struct Over {
    moved: Moved,
    many: Vec<f64>,
}

impl Over {
    async fn once(
        &mut self,
        guest: &mut Guest,
        host: impl Display,
        server: Server,
    ) -> Result<(), Failure> {
        self.moved.once(guest, &host, server.port).await?;
        let took = connections::at_once(guest, host, server).await?;
        self.many.push(rate(connections::AT_ONCE * PIECE, took));
        Ok(())
    }

    fn rows(self, names: [&'static str; 4], definitions: [&'static str; 3]) -> Vec<Row> {
        let ([down, up, turns, many], [bulk, turn, each]) = (names, definitions);
        let mut rows = self.moved.rows([down, up, turns], [bulk, turn]);
        rows.push(Row::many(many, each, Unit::MbPerSecond, self.many));
        rows
    }
}
