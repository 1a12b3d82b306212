//! A user-mode network for one guest, shut but for what a policy opens.
//!
//! The policy ([`Policy`]) is pure: it is asked about connections and knows no
//! sockets.

mod address;
mod domain;
mod file;
mod policy;
mod rule;

pub use address::{Class, class};
pub use domain::Domain;
pub use file::{BadFile, MAX_FILE, read as read_policy, schema};
pub use policy::{BadPolicy, MAX_RULES, Policy, Reason, Verdict};
pub use rule::{BadRule, Flow, Group, Protocol, Rule, Target};
