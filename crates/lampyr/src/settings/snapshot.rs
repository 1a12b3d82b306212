//! What the commands on snapshots are told.

use lampyr_types::Name;

use crate::args::SnapshotCreateArgs;
use crate::bad_input::BadInput;
use crate::core_api::SnapshotRequest;

use super::session::sid;
use super::volume::label;

/// A snapshot to take.
pub(crate) struct NewSnapshot {
    /// The session.
    pub(crate) sid: String,
    /// What to take.
    pub(crate) request: SnapshotRequest,
}

impl NewSnapshot {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &SnapshotCreateArgs) -> Result<Self, BadInput> {
        let labels = args.label.iter().map(|given| label(given)).collect::<Result<_, _>>()?;
        let (name, overwrite) = (snapshot_name(&args.name)?, !args.keep);
        let request = SnapshotRequest { name, overwrite, with_secrets: args.with_secrets, labels };
        Ok(Self { sid: sid(&args.sid)?, request })
    }
}

/// The name of a snapshot.
pub(crate) fn snapshot_name(given: &str) -> Result<Name, BadInput> {
    given.parse().map_err(BadInput::Name)
}
