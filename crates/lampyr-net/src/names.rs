//! The resolver that a guest sees: it answers for names that are open, and
//! remembers what it said.

use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lampyr_proto::Card;
use tokio::task::JoinSet;

use crate::compose::say;
use crate::dns::{Kind, MAX_ADDRESSES, Question, Said, nobody};
use crate::domain::Domain;
use crate::framing::Outbox;
use crate::gate::Ends;
use crate::ledger::Denied;
use crate::peer::Peer;
use crate::peers::Peers;
use crate::pins::Pins;
use crate::policy::Reason;
use crate::reach::{Reach, reach};
use crate::resolver::resolve;
use crate::shared::Shared;

/// Where the resolver is, at the gateway.
pub(crate) const PORT: u16 = 53;
/// The most questions at once.
const MAX_QUESTIONS: usize = 64;
/// The name of this host, for its guests.
pub const HOST_NAME: &str = "host.lampyr.internal";
/// How long that holds, in seconds.
const HOST_SECONDS: u32 = 60;
/// A guest does not ask again sooner, in seconds.
const LEAST_SECONDS: u32 = 5;

pub(crate) struct Names {
    card: Card,
    pins: Pins,
    asked: JoinSet<(Question, Ends, Said)>,
}

impl Names {
    pub(crate) fn new(card: Card) -> Self {
        Self { card, pins: Pins::default(), asked: JoinSet::new() }
    }

    /// The names that gave this address.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<Domain> {
        self.pins.names(address, Instant::now())
    }

    /// Takes a question.
    pub(crate) fn ask(
        &mut self,
        ends: Ends,
        payload: &[u8],
        out: &mut Outbox,
        peers: Option<&Peers>,
        shared: &Shared,
    ) {
        let Some(question) = Question::read(payload) else {
            let Some((name, answer)) = nobody(payload) else { return };
            shared.deny(Denied::name(&name, Reason::NoRule));
            return say(&self.card, out, ends.there, ends.guest, &answer);
        };
        let now = if question.name.as_str() == HOST_NAME && shared.policy().has_host() {
            Some(Self::of_host(&question))
        } else if let Some(peer) = peers.and_then(|peers| peers.named(&question.name)) {
            Some(Self::of_peer(&question, peer))
        } else {
            self.refuse(&question, shared)
        };
        match now {
            Some(answer) => say(&self.card, out, ends.there, ends.guest, &answer),
            None => {
                let servers = shared.servers.clone();
                self.asked.spawn(async move {
                    let said = resolve(&servers, &question.name, question.kind).await;
                    (question, ends, said)
                });
            }
        }
    }

    fn of_host(question: &Question) -> Vec<u8> {
        let gateway: [IpAddr; 1] = [Card::GATEWAY_V4.into()];
        let addresses = if question.kind == Kind::V4 { &gateway[..] } else { &[] };
        question.answer(addresses, HOST_SECONDS)
    }

    fn of_peer(question: &Question, peer: &Peer) -> Vec<u8> {
        let addresses: &[IpAddr] = match question.kind {
            Kind::V4 => &[peer.v4.into()],
            Kind::V6 => &[peer.v6.into()],
            Kind::Other => &[],
        };
        question.answer(addresses, LEAST_SECONDS)
    }

    /// The answer where nobody needs to be asked.
    fn refuse(&self, question: &Question, shared: &Shared) -> Option<Vec<u8>> {
        if let Err(reason) = shared.policy().resolves(&question.name) {
            shared.deny(Denied::name(question.name.as_str(), reason));
            return Some(question.no_name());
        }
        if question.kind == Kind::Other {
            return Some(question.answer(&[], LEAST_SECONDS));
        }
        (self.asked.len() >= MAX_QUESTIONS).then(|| question.failed())
    }

    /// Passes on what servers have said.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>, out: &mut Outbox, shared: &Shared) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(done)) = self.asked.poll_join_next(cx) {
            any = true;
            let Ok((question, ends, said)) = done else { continue };
            let answer = self.answer(&question, said, shared);
            let (from, to): (SocketAddr, SocketAddr) = (ends.there, ends.guest);
            say(&self.card, out, from, to, &answer);
        }
        any
    }

    fn answer(&mut self, question: &Question, said: Said, shared: &Shared) -> Vec<u8> {
        let (addresses, seconds) = match said {
            Said::Addresses(addresses, seconds) => (addresses, seconds.max(LEAST_SECONDS)),
            Said::NoName => return question.no_name(),
            Said::Cut | Said::Failed => return question.failed(),
        };
        let none = addresses.is_empty();
        let mut good = addresses;
        good.retain(|address| Self::may_give(&question.name, *address, shared));
        good.truncate(MAX_ADDRESSES);
        // A name whose every address is shut is as good as none.
        if good.is_empty() && !none && question.kind == Kind::V4 {
            return question.no_name();
        }
        for address in &good {
            let valid = Duration::from_secs(seconds.into());
            self.pins.pin(*address, &question.name, valid, Instant::now());
        }
        question.answer(&good, seconds)
    }

    fn may_give(name: &Domain, address: IpAddr, shared: &Shared) -> bool {
        let verdict = match reach(address) {
            Reach::Nowhere if address.is_ipv6() => return false,
            Reach::Here => Err(Reason::Host),
            _ => shared.policy().reaches(address, name),
        };
        if let Err(reason) = verdict {
            shared.deny(Denied::name(name.as_str(), reason));
        }
        verdict.is_ok()
    }
}
