//! All that a guest is given of the network.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::secret::Secret;

/// What a guest may reach, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What it may reach.
    pub policy: Policy,
    /// What is put into its requests on their way out.
    pub secrets: Vec<Secret>,
    /// The most bytes a second, each way; `None`: as many as there are.
    pub rate: Option<u64>,
}

impl From<Policy> for Access {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}
