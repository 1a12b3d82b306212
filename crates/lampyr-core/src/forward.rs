//! Ports of this host's loopback that lead to ports of a guest's: every
//! connection is a stream on the channel, and the guest has no network card.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use lampyr_proto::{Event, Exec, Job, Lane, Request};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Error;
use crate::channel::{Channel, Incoming, Stream};
use crate::exec::pour;

/// Connections that one port carries at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;

/// A port here that leads to a port there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The TCP port on 127.0.0.1 of this host.
    pub host: u16,
    /// The TCP port of the guest.
    pub guest: u16,
}

/// Ports that are ours, and lead nowhere yet.
pub(crate) struct Forwards(Vec<(TcpListener, u16)>);

/// Ports in use. Dropped, they are closed, and so is what goes through them.
pub(crate) struct Forwarding {
    ports: JoinSet<()>,
}

impl Forwarding {
    /// Closes the ports and waits until they are.
    pub(crate) async fn close(mut self) {
        self.ports.shutdown().await;
    }
}

impl Forwards {
    /// Takes all ports, or says which one is taken.
    pub(crate) async fn bind(forwards: &[Forward]) -> Result<Self, Error> {
        let mut bound = Vec::with_capacity(forwards.len());
        for forward in forwards {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, forward.host)).await;
            let taken = |source| Error::Port { port: forward.host, source };
            bound.push((listener.map_err(taken)?, forward.guest));
        }
        Ok(Self(bound))
    }

    /// Lets them lead to the guest that is at the end of `channel`. `busy` makes what is held for as long as a
    /// connection lasts.
    pub(crate) fn serve<B: Send + 'static>(
        self,
        channel: impl Fn() -> Channel + Clone + Send + 'static,
        busy: impl Fn() -> B + Clone + Send + 'static,
    ) -> Forwarding {
        let mut ports = JoinSet::new();
        for (listener, guest) in self.0 {
            ports.spawn(serve(listener, guest, channel.clone(), busy.clone()));
        }
        Forwarding { ports }
    }
}

async fn serve<B: Send + 'static>(
    listener: TcpListener,
    guest: u16,
    channel: impl Fn() -> Channel,
    busy: impl Fn() -> B,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((connection, _)) => {
                let (channel, held) = (channel(), busy());
                connections.spawn(async move {
                    let _ = carry(connection, guest, &channel).await;
                    drop((held, place));
                });
            }
            // Out of descriptors: some come back when a connection ends.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

/// Carries one connection until both ways are at their end.
async fn carry(connection: TcpStream, guest: u16, channel: &Channel) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let request = Request::Exec(Box::new(Exec::new(Job::Dial(guest))));
    let stream = channel.open(&request).await.map_err(io::Error::other)?;
    let input = stream.input();
    let (from, to) = connection.into_split();
    let outward = async {
        let _ = pour(from, &input, |_| {}).await;
        let _ = input.end().await;
        std::future::pending().await
    };
    tokio::select! {
        done = inward(stream, to) => done,
        never = outward => never,
    }
}

async fn inward(mut stream: Stream, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some(incoming) = stream.next().await {
        match incoming {
            Incoming::Data(Lane::Stdout, bytes) => to.write_all(&bytes).await?,
            // The guest says no more, and may still listen.
            Incoming::Event(Event::Done) => to.shutdown().await?,
            Incoming::Event(Event::Exited(_) | Event::Failed(_)) => return to.shutdown().await,
            Incoming::Data(..) | Incoming::Event(_) => {}
        }
    }
    Ok(())
}
