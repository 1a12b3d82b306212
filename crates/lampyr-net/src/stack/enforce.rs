//! Another policy for what goes on already.

use super::Stack;
use crate::domain::Domain;
use crate::ledger::Denied;
use crate::policy::Verdict;
use crate::rule::{Flow, Protocol};

impl Stack {
    /// Ends what a new policy does not allow.
    pub(super) fn enforce(&mut self) {
        let (policy, shared) = (self.shared.policy(), self.shared.clone());
        let deny = |there, names: &[Domain], proto, reason| {
            let name = names.first().map(Domain::to_string);
            shared.deny(Denied::connection(there, name, proto, reason));
        };
        for relay in self.streams.values_mut() {
            if let Err(reason) = relay.heed(&policy) {
                deny(relay.there, relay.names(), "tcp", reason);
                relay.cut(&mut self.sockets);
            }
        }
        self.parted.retain_mut(|relay| match relay.heed(&policy) {
            Ok(()) => true,
            Err(reason) => {
                deny(relay.there, relay.names(), "tcp", reason);
                false
            }
        });
        self.datagrams.keep(|ends, names| {
            let (address, port, protocol) = (ends.there.ip(), ends.there.port(), Protocol::Udp);
            let verdict = policy.judge(&Flow { address, port, protocol, names });
            if let Verdict::Deny(reason) = verdict {
                deny(ends.there, names, "udp", reason);
            }
            !matches!(verdict, Verdict::Deny(_))
        });
        self.judge_anew();
        self.poll();
    }

    /// Judges what we are connecting as if it began now.
    fn judge_anew(&mut self) {
        for (ends, mut held) in std::mem::take(&mut self.held) {
            match self.judge(ends.there, held.opened.names().to_vec()) {
                Ok(open) => {
                    (held.opened, held.guard) = open;
                    self.held.insert(ends, held);
                }
                Err(reason) => {
                    let name = held.opened.names().first().map(Domain::to_string);
                    self.shared.deny(Denied::connection(ends.there, name, "tcp", reason));
                    self.queue.heard.push_back(held.frame);
                }
            }
        }
    }
}
