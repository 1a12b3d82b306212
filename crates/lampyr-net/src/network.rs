//! A network that runs: a thread of its own, and a handle.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use lampyr_proto::Card;
use tokio::sync::oneshot;

use crate::access::Access;
use crate::card;
use crate::intercept::Interceptor;
use crate::ledger::{Denied, Mark, Traffic};
use crate::peer::Wire;
use crate::peers::Peers;
use crate::policy::Policy;
use crate::shared::Shared;
use crate::stack::Stack;

/// The network of one guest. Dropping it ends it, and all its connections.
#[derive(Debug)]
pub struct Network {
    card: Card,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Serves the guest's card on `line`, framed as QEMU does it; with `wire`
    /// the guest is on a private network.
    pub fn start(line: UnixStream, access: Access, wire: Option<Wire>) -> io::Result<Self> {
        line.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let card = wire.as_ref().map_or_else(card::random, |wire| card::of(&wire.own));
        let shared = Arc::new(Shared::new(access)?);
        let (stop, stopped) = oneshot::channel::<()>();
        let own = shared.clone();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve_shared(line, card, own, wire) => {}
                    _ = stopped => {}
                }
            });
            // What is looked up or connected meanwhile is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("network".into()).spawn(serve)?;
        Ok(Self { card, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The guest's card.
    pub fn card(&self) -> Card {
        self.card
    }

    /// Whom the guest is to trust besides, as PEM, where it has secrets.
    pub fn authority(&self) -> Option<&str> {
        self.shared.interceptor.as_deref().map(Interceptor::authority)
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy()
    }

    /// Puts another policy in force; what it does not allow is closed.
    pub fn replace(&self, policy: Policy) {
        self.shared.replace(policy);
    }

    /// The rules that open what the guest has reached so far, and nothing else.
    pub fn rules(&self) -> Vec<String> {
        self.shared.rules()
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        self.shared.mark()
    }

    /// What went through and what was refused since then.
    pub fn since(&self, mark: &Mark) -> (Traffic, Vec<Denied>) {
        self.shared.since(mark)
    }
}

/// Serves a guest's card until the other end of `line` is gone, within a
/// runtime of the caller's.
pub async fn serve(line: UnixStream, card: Card, access: Access) -> io::Result<()> {
    serve_shared(line, card, Arc::new(Shared::new(access)?), None).await;
    Ok(())
}

async fn serve_shared(line: UnixStream, card: Card, shared: Arc<Shared>, wire: Option<Wire>) {
    let line = tokio::net::UnixStream::from_std(line);
    if let (Ok(line), Ok(peers)) = (line, wire.map(Peers::new).transpose()) {
        Stack::new(line, card, shared, peers).serve().await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
