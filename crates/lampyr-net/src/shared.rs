//! What the stack and those who give it orders both look at.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::access::Access;
use crate::address::{Class, class};
use crate::domain::Domain;
use crate::intercept::Interceptor;
use crate::ledger::{Denied, Ledger, Position, Suggestion, Traffic};
use crate::policy::Policy;
use crate::resolver::Servers;

/// The policy in force and what came of it.
#[derive(Debug)]
pub(crate) struct Shared {
    policy: watch::Sender<Arc<Policy>>,
    /// Where the guest has secrets.
    pub(crate) interceptor: Option<Arc<Interceptor>>,
    /// Who knows the host's name servers.
    pub(crate) servers: Arc<Servers>,
    /// The most bytes a second, each way.
    pub(crate) rate: Option<u64>,
    ledger: Mutex<Ledger>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        access: Access,
        interceptor: Option<Arc<Interceptor>>,
        servers: Servers,
    ) -> Self {
        Self {
            policy: watch::Sender::new(Arc::new(access.policy)),
            interceptor,
            servers: Arc::new(servers),
            rate: access.rate,
            ledger: Mutex::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    pub(crate) fn replace(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    pub(crate) fn count(&self, sent: usize, received: usize) {
        self.sent.fetch_add(sent as u64, Relaxed);
        self.received.fetch_add(received as u64, Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.ledger().traffic.connections += 1;
    }

    pub(crate) fn deny(&self, denied: Denied) {
        self.ledger().deny(denied);
    }

    pub(crate) fn reach(&self, host: String, port: u16, proto: &'static str) {
        self.ledger().reach(host, port, proto);
    }

    /// Notes that somebody was reached whom these names lead to: a name opens
    /// public addresses only, and without one the address says it.
    pub(crate) fn reach_all(&self, names: &[Domain], there: SocketAddr, proto: &'static str) {
        for name in names {
            self.reach(name.to_string(), there.port(), proto);
        }
        if names.is_empty() || class(there.ip()) != Class::Public {
            self.reach(there.ip().to_canonical().to_string(), there.port(), proto);
        }
    }

    pub(crate) fn suggestion(&self) -> Suggestion {
        self.ledger().suggestion()
    }

    pub(crate) fn position(&self) -> Position {
        self.ledger().position()
    }

    pub(crate) fn since(&self, then: &Position) -> (Traffic, Vec<Denied>) {
        self.ledger().since(then)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.traffic.sent = self.sent.load(Relaxed);
        ledger.traffic.received = self.received.load(Relaxed);
        ledger
    }
}
