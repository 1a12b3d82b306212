//! `--net`, `--policy` and what belongs to them.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::args::{MachineArgs, PolicySetArgs};
use lampyr_types::{BadQuantity, Name, Size};

use crate::bad_input::{BadInput, BadValue};
use crate::core_api::{Access, MAX_POLICY_FILE, Policy, Private, limits, read_policy};
use crate::env_vars::Env;

use super::secrets::Wanted;
use super::session::sid;
use super::transfer::existing;

/// What the VM may reach, and with what, whose values are still to be asked
/// for; `None`: it has no network card.
pub(super) fn net(args: &MachineArgs, env: &Env) -> Result<(Option<Access>, Wanted), BadInput> {
    let policy = policy(args.net.as_deref(), args.policy.as_deref())?;
    let secrets = Wanted::read(&args.secret, policy.as_ref(), env)?;
    let rate = args.net_rate.as_deref().map(rate).transpose()?;
    let private = args.network.as_deref().map(private).transpose()?;
    // A VM on a private network has a card that reaches nothing else.
    let policy = policy.or_else(|| private.is_some().then(Policy::default));
    if policy.is_none() && rate.is_some() {
        return Err(BadInput::RateOfNothing);
    }
    Ok((policy.map(|policy| Access { rate, private, ..policy.into() }), secrets))
}

/// A place on a private network, under the VM's own name.
fn private(given: &str) -> Result<Private, BadInput> {
    network_name("--network", given).map(|network| Private { network, name: None })
}

/// The name of a private network.
pub(crate) fn network_name(flag: &'static str, given: &str) -> Result<Name, BadInput> {
    let bad = |e| BadInput::Flag { flag, reason: BadValue::Name(e), example: "backend" };
    given.parse().map_err(bad)
}

fn rate(given: &str) -> Result<u64, BadInput> {
    let bad = |reason| BadInput::Flag { flag: "--net-rate", reason, example: "1MB" };
    let rate: Size = given.parse().map_err(|e: BadQuantity| bad(e.into()))?;
    Ok(limits::rate(rate).map_err(|e| bad(e.into()))?.as_bytes())
}

fn policy(net: Option<&str>, file: Option<&str>) -> Result<Option<Policy>, BadInput> {
    match (net, file) {
        (_, Some(path)) => policy_file("--policy", path).map(Some),
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

/// Reads a policy file, which `what` asks for.
pub(crate) fn policy_file(what: &'static str, given: &str) -> Result<Policy, BadInput> {
    let text = short_file(what, given)?;
    read_policy(&text).map_err(|source| BadInput::PolicyFile { path: PathBuf::from(given), source })
}

/// Reads a file that people write, which is not long.
pub(super) fn short_file(what: &'static str, given: &str) -> Result<String, BadInput> {
    let path = existing(what, given).map_err(|e| match e {
        BadInput::NotFound { what, path } => BadInput::NoFile { what, path },
        other => other,
    })?;
    let unreadable = |source| BadInput::Unreadable { path: path.clone(), source };
    let file = File::open(&path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_POLICY_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_POLICY_FILE {
        return Err(BadInput::FileSize { what, path });
    }
    String::from_utf8(bytes).map_err(|_| BadInput::NotText { what, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_refused_in_words() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"rules = ['\xff']").unwrap();
        let given = file.path().to_str().unwrap();
        let text = format!("the policy: {given} is not text in UTF-8");
        let rows = [
            ("/dev/zero", "the policy: /dev/zero is too long to be one", "is it the right file?"),
            ("/nowhere", "the policy: /nowhere not found", "it must be a file on this host"),
            (given, &text, "is it the right file?"),
        ];
        for (given, expected, hint) in rows {
            let error = policy_file("the policy", given).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.hint().as_str()), (expected, hint));
        }
    }
}
