//! `--net`, `--policy` and what belongs to them.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::args::{MachineArgs, PolicySetArgs};
use lampyr_types::{BadQuantity, Size};

use crate::bad_input::BadInput;
use crate::core_api::{Access, MAX_POLICY_FILE, Policy, limits, read_policy};
use crate::env_vars::Env;

use super::secrets::secrets;
use super::session::sid;
use super::transfer::existing;

/// What the VM may reach, and with what; `None`: it has no network card.
pub(super) fn net(args: &MachineArgs, env: &Env) -> Result<Option<Access>, BadInput> {
    let policy = policy(args.net.as_deref(), args.policy.as_deref())?;
    let secrets = secrets(&args.secret, policy.as_ref(), env)?;
    let rate = args.net_rate.as_deref().map(rate).transpose()?;
    match policy {
        Some(policy) => Ok(Some(Access { policy, secrets, rate })),
        None if rate.is_some() => Err(BadInput::RateOfNothing),
        None => Ok(None),
    }
}

fn rate(given: &str) -> Result<u64, BadInput> {
    let bad = |reason| BadInput::Flag { flag: "--net-rate", reason, example: "1MB" };
    let rate: Size = given.parse().map_err(|e: BadQuantity| bad(e.into()))?;
    Ok(limits::rate(rate).map_err(|e| bad(e.into()))?.as_bytes())
}

fn policy(net: Option<&str>, file: Option<&str>) -> Result<Option<Policy>, BadInput> {
    match (net, file) {
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
        let policy = policy(args.net.as_deref(), args.policy.as_deref())?;
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
