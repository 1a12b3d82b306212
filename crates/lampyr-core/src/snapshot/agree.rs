//! What may be asked of a machine that was saved. It cannot be changed, only
//! said once more.

use std::fmt;

use lampyr_types::{Name, Size};

use crate::Access;

use super::Snapshot;

/// A machine as somebody asked for it. What is left out is as it was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskedMachine {
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Memory, in whole pages.
    pub memory: Option<Size>,
    /// The size of its root disk.
    pub disk_size: Option<Size>,
    /// Whether it is to have a network card.
    pub network: bool,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachinePart {
    /// Its virtual processors.
    Cpus,
    /// Its memory.
    Memory,
    /// The size of its root disk.
    DiskSize,
    /// Its network card.
    Network,
}

/// Something else was asked for than what was saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot '{name}' has {has}, and that cannot be changed")]
pub struct Differs {
    /// In what it differs.
    pub what: MachinePart,
    /// The snapshot.
    name: Name,
    /// What it has.
    has: String,
}

impl Snapshot {
    /// Whether a machine that is launched from it is what was asked for.
    ///
    /// # Errors
    ///
    /// Names the first thing that it is not.
    pub fn agrees(&self, asked: &AskedMachine) -> Result<(), Differs> {
        self.same(MachinePart::Cpus, asked.cpus, self.cpus)?;
        self.same(MachinePart::Memory, asked.memory, Size::bytes(self.memory))?;
        self.same(MachinePart::DiskSize, asked.disk_size, Size::bytes(self.disk_size))?;
        if asked.network && !self.network {
            return Err(self.differs(MachinePart::Network, "no network card"));
        }
        Ok(())
    }

    /// What it may reach. A card cannot go; one that reaches nothing is as good
    /// as none.
    pub fn reach(&self, asked: Option<Access>) -> Option<Access> {
        asked.or_else(|| self.network.then(Access::default))
    }

    fn same<T: PartialEq + fmt::Display>(
        &self,
        what: MachinePart,
        asked: Option<T>,
        has: T,
    ) -> Result<(), Differs> {
        let same = asked.is_none_or(|asked| asked == has);
        if same { Ok(()) } else { Err(self.differs(what, has)) }
    }

    fn differs(&self, what: MachinePart, has: impl fmt::Display) -> Differs {
        Differs { what, name: self.name.clone(), has: has.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_oci::Digest;

    fn saved(network: bool) -> Snapshot {
        Snapshot {
            name: "base".parse().unwrap(),
            digest: Digest::of(b""),
            created: jiff::Timestamp::UNIX_EPOCH,
            image: "default".to_owned(),
            cpus: 2,
            memory: 512 << 20,
            disk_size: 8 << 30,
            network,
            labels: std::collections::BTreeMap::new(),
            parent: None,
            own_bytes: 0,
            total_bytes: 0,
        }
    }

    #[test]
    fn what_was_saved_can_be_said_once_more_and_not_changed() {
        let same = AskedMachine {
            cpus: Some(2),
            memory: Some(Size::mib(512)),
            disk_size: Some(Size::mib(8192)),
            network: false,
        };
        assert_eq!(saved(false).agrees(&AskedMachine::default()), Ok(()));
        assert_eq!(saved(false).agrees(&same), Ok(()));
        assert_eq!(saved(true).agrees(&AskedMachine { network: true, ..same }), Ok(()));
        let rows = [
            (AskedMachine { cpus: Some(1), ..same }, MachinePart::Cpus, "2"),
            (AskedMachine { memory: Some(Size::mib(1024)), ..same }, MachinePart::Memory, "512MB"),
            (
                AskedMachine { disk_size: Some(Size::mib(1024)), ..same },
                MachinePart::DiskSize,
                "8GB",
            ),
            (AskedMachine { network: true, ..same }, MachinePart::Network, "no network card"),
        ];
        for (asked, what, has) in rows {
            let differs = saved(false).agrees(&asked).unwrap_err();
            assert_eq!(differs.what, what);
            let said = format!("snapshot 'base' has {has}, and that cannot be changed");
            assert_eq!(differs.to_string(), said);
        }
    }

    #[test]
    fn a_card_stays_and_reaches_nothing_unless_asked() {
        assert_eq!(saved(false).reach(None), None);
        assert_eq!(saved(true).reach(None), Some(Access::default()));
        let open = Access { rate: Some(1), ..Access::default() };
        assert_eq!(saved(true).reach(Some(open.clone())), Some(open));
    }
}
