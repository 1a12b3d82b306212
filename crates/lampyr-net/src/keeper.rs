//! Who looks after a network's process: tells it the host's name servers, and
//! puts somebody in its place when it ends by itself, so that the guest hears
//! a refusal instead of nothing.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use lampyr_proto::Card;

use crate::access::Access;
use crate::control::say;
use crate::network::{Beginning, Process, Program, StandIn, lock};
use crate::resolver::of_host;

/// How much stack it needs, in bytes: it does little.
const STACK: usize = 256 << 10;

/// Looks after a network's process from a thread. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Keeper {
    tether: Arc<Mutex<Tether>>,
    thread: Option<JoinHandle<()>>,
}

/// What ends the process that is there now.
#[derive(Debug)]
struct Tether {
    /// The line on which it asks; who looks after it sees its end.
    line: UnixStream,
    /// The network's own process, until it has ended.
    pid: Option<u32>,
    /// Whether nobody is to take its place.
    over: bool,
}

impl Keeper {
    /// Looks after `process`, which asks on `servers` and hears `card` on
    /// `line`. Whoever takes its place is `program`.
    pub(crate) fn start(
        process: Process,
        servers: UnixStream,
        program: Program,
        line: UnixStream,
        card: Card,
    ) -> io::Result<Self> {
        let tether = Tether { line: servers.try_clone()?, pid: Some(process.id()), over: false };
        let tether = Arc::new(Mutex::new(tether));
        let own = tether.clone();
        let keep = move || {
            answer(servers);
            drop(process);
            if let Some(stand_in) = replace(&own, &program, &line, card) {
                stand_in.wait();
            }
        };
        let thread = Builder::new().name("network".into()).stack_size(STACK).spawn(keep)?;
        Ok(Self { tether, thread: Some(thread) })
    }

    /// The network's own process.
    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.tether).pid
    }

    /// Ends the network's own process, if it is still there.
    pub(crate) fn end_first(&self) {
        let tether = lock(&self.tether);
        if tether.pid.is_some() {
            let _ = tether.line.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        {
            let mut tether = lock(&self.tether);
            tether.over = true;
            let _ = tether.line.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Says who the host's name servers are as often as it is asked, until nobody
/// is there.
fn answer(mut servers: UnixStream) {
    while servers.read_exact(&mut [0]).is_ok() && say(&mut servers, &of_host()).is_ok() {}
}

/// Puts somebody there who refuses everything, where that is still wanted.
fn replace(
    tether: &Mutex<Tether>,
    program: &Program,
    line: &UnixStream,
    card: Card,
) -> Option<StandIn> {
    let mut tether = lock(tether);
    tether.pid = None;
    if tether.over {
        return None;
    }
    let nothing = Access::default();
    let stand_in = Beginning::new(program, &nothing).and_then(|begun| begun.stand_in(line, card));
    let stand_in = stand_in.ok()?;
    tether.line = stand_in.line().ok()?;
    Some(stand_in)
}
