//! `--net` and `--policy`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::args::{MachineArgs, PolicySetArgs};
use crate::bad_input::BadInput;
use crate::core_api::{MAX_POLICY_FILE, Policy, read_policy};

use super::session::sid;
use super::transfer::existing;

/// What the VM may reach; `None`: it has no network card.
pub(super) fn net(args: &MachineArgs) -> Result<Option<Policy>, BadInput> {
    match (&args.net, &args.policy) {
        (_, Some(path)) => policy_file(path).map(Some),
        (Some(text), None) => Policy::parse(text).map_err(BadInput::Net),
        (None, None) => Ok(None),
    }
}

/// A session, and what it may reach from now on.
pub(crate) struct NewPolicy {
    /// The session.
    pub(crate) sid: String,
    /// What it may reach.
    pub(crate) policy: Policy,
}

impl NewPolicy {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &PolicySetArgs) -> Result<Self, BadInput> {
        let (net, policy) = (args.net.clone(), args.policy.clone());
        let policy = self::net(&MachineArgs { net, policy, ..MachineArgs::default() })?;
        // A card cannot go; one that reaches nothing is as good as none.
        Ok(Self { sid: sid(&args.sid)?, policy: policy.unwrap_or_default() })
    }
}

/// Reads a policy file.
pub(crate) fn policy_file(given: &str) -> Result<Policy, BadInput> {
    let path = existing("--policy", given)?;
    let unreadable = |source| BadInput::Unreadable { path: path.clone(), source };
    let file = File::open(&path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_POLICY_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_POLICY_FILE {
        return Err(BadInput::PolicySize(path));
    }
    read_policy(&text).map_err(|source| BadInput::PolicyFile { path: PathBuf::from(given), source })
}
