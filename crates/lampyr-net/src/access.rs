//! All that a guest is given of the network.

use serde::{Deserialize, Serialize};

use lampyr_types::Name;

use crate::domain::Domain;
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
    /// The private network that it is on.
    pub private: Option<Private>,
}

/// A place on a private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// What the network is called.
    pub network: Name,
    /// What the VM is called there; `None`: by its own host name.
    pub name: Option<Domain>,
}

impl From<Policy> for Access {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}
