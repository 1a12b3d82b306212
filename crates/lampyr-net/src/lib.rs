//! A user-mode network for one guest, shut but for what a policy opens.
//!
//! The policy ([`Policy`]) is pure: it is asked about connections and knows no
//! sockets. The process behind [`Network`] hears a guest's Ethernet frames, ends
//! its streams and datagrams itself, and makes connections of its own for
//! those that are open. It needs no privilege, no interface and no route of
//! the host's, and no file. With the stacks of other guests it makes a private network.

mod access;
mod address;
mod asker;
mod card;
mod carriage;
mod compose;
mod control;
mod crossing;
mod datagrams;
mod dns;
mod domain;
mod entropy;
mod explain;
mod far;
mod file;
mod framing;
mod gate;
mod guard;
mod hello;
mod intercept;
mod keeper;
mod ledger;
mod names;
mod network;
mod opened;
mod outlook;
mod peer;
mod peers;
mod pins;
mod policy;
mod process;
mod queue;
mod rate;
mod reach;
mod relay;
mod request;
mod resolver;
mod rule;
mod secret;
mod shared;
mod stack;
mod streams;

pub use access::{Access, Private};
pub use address::{Class, class};
pub use asker::Mark;
pub use crossing::{Crossing, Segment, crossing};
pub use dns::{Kind, Question, Said, ask, hear as hear_answer};
pub use domain::{Domain, NoDomain};
pub use file::{BadFile, MAX_FILE, document, read as read_policy, schema};
pub use framing::{Broken, Inbox, MAX_FRAME, Outbox};
pub use gate::{Ends, Heard, hear};
pub use guard::{Guard, MAX_HELD, Need};
pub use hello::{Hello, compose as compose_hello, read as read_hello};
pub use lampyr_jail::Means;
pub use ledger::{Denied, Suggestion, Traffic};
pub use names::HOST_NAME;
pub use network::{Beginning, Network, Program};
pub use outlook::Outlook;
pub use peer::{BadPeerName, MAX_PEERS, Peer, Wire, peer_name};
pub use policy::{BadPolicy, MAX_RULES, Policy, Reason, Verdict};
pub use process::{be_network, serve_here};
pub use rule::{BadRule, Flow, Group, Protocol, Rule, Target};
pub use secret::{BadSecret, Secret, USUAL_HEADER};
