//! This host, ready to run machines: the store, the engine, the kit.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use lampyr_engine::{Accel, Engine, EngineError};
use lampyr_image::{Arch, DEFAULT_IMAGE, Image, ImageError, ImageRef, Kit, Registries};
use lampyr_net::Program;
use lampyr_proto::Card;
use lampyr_store::{Part, Store};
use lampyr_types::Progress;

use crate::{Error, accel};

/// Which accelerator to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelChoice {
    /// The fastest one that really works here.
    Auto,
    /// This one or none.
    Only(Accel),
}

/// Makes engines; the composition root knows how.
pub trait Engines: Send + Sync {
    /// An engine with this accelerator.
    fn with(&self, accel: Accel) -> Result<Arc<dyn Engine>, EngineError>;

    /// The same, but for its machines' network cards: the engine itself gives
    /// those a network, where it can, whose gateway is this host's loopback.
    fn with_own_network(
        &self,
        accel: Accel,
        _gateway: Ipv4Addr,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        Err(EngineError::Unavailable {
            what: format!("this engine has no network of its own with {accel}"),
            hint: "use another engine".into(),
        })
    }

    /// The accelerators that this system could have, best first. The last one
    /// always works.
    fn candidates(&self) -> Vec<Accel>;

    /// Whether the accelerator can be opened at all; where it cannot, one
    /// sentence on why.
    fn obstacle(&self, accel: Accel) -> Option<String>;

    /// The engine's program and version, for people.
    fn describe(&self) -> Result<String, EngineError>;
}

/// What a host is opened with.
pub struct HostSettings {
    /// The state directory.
    pub home: PathBuf,
    /// Which accelerator to use.
    pub accel: AccelChoice,
    /// Who makes the engines.
    pub engines: Arc<dyn Engines>,
    /// The guest agent's program.
    pub agent: &'static [u8],
    /// How registries are spoken to.
    pub registries: Registries,
    /// The program that becomes the network of a VM.
    pub network: Program,
    /// Who hears of long work.
    pub progress: Arc<dyn Progress>,
}

/// A host that can run machines.
#[derive(Clone)]
pub struct Host {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) accel: Accel,
    pub(crate) kit: Kit,
    pub(crate) registries: Registries,
    pub(crate) network: Program,
    pub(crate) progress: Arc<dyn Progress>,
}

impl Host {
    /// Opens this host: looks for the engine, makes the state directory and the
    /// guest kit where they are missing, and finds out which accelerator works.
    pub async fn open(settings: &HostSettings) -> Result<Self, Error> {
        let store = Store::open(&settings.home)?;
        // Whoever shows output puts what is too long for an envelope there.
        store.dir(Part::Outputs)?;
        // Without an engine nothing that is made or fetched is of any use.
        settings.engines.describe()?;
        let kit = Kit::ensure(&store, Arch::HOST, settings.agent, &*settings.progress)?;
        let accel = accel::choose(&store, &kit, settings).await?;
        let engine = settings.engines.with(accel)?;
        let (registries, progress) = (settings.registries.clone(), settings.progress.clone());
        let network = settings.network.clone();
        Ok(Self { store, engine, accel, kit, registries, network, progress })
    }

    /// The same, with an engine that gives its machines a network itself.
    pub fn with_own_network(&self, engines: &dyn Engines) -> Result<Self, Error> {
        let engine = engines.with_own_network(self.accel, Card::GATEWAY_V4)?;
        Ok(Self { engine, ..self.clone() })
    }

    /// The accelerator in use.
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// An image by what it is called. The default one is made where it is
    /// missing, and one of a registry's is fetched.
    pub(crate) async fn image(&self, image: &ImageRef) -> Result<Image, Error> {
        let found = match image {
            ImageRef::Name(name) if name.as_str() == DEFAULT_IMAGE => {
                Image::ensure_default(&self.store, &*self.progress)
            }
            _ => Image::find_any(&self.store, image),
        };
        match (found, image) {
            (Err(ImageError::NoImage { .. }), ImageRef::Reference(reference)) => {
                let progress = &*self.progress;
                Ok(Image::pull(&self.store, reference, &self.registries, progress).await?)
            }
            (found, _) => Ok(found?),
        }
    }
}
