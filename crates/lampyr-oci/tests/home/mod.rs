//! A home for blobs, and images to fill it with.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::path::PathBuf;

use lampyr_oci::{Blobs, Image, OciError, Platform, Reference, Settings, pull};
use lampyr_store::Store;
use lampyr_test_registry::{Layout, Packing, Tar};
use lampyr_types::NoProgress;
use serde_json::json;

pub(crate) const PLATFORM: Platform =
    Platform { architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" } };

pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) blobs: Blobs,
    pub(crate) settings: Settings,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(&Store::open(&dir.path().join("home")).unwrap());
        Self { dir, blobs, settings: Settings::default() }
    }

    pub(crate) fn pull(&self, reference: &str) -> Result<Image, OciError> {
        let reference: Reference = reference.parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pull(&self.blobs, &reference, &PLATFORM, &self.settings, &NoProgress))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/blobs").join(name)
    }

    /// The lengths of all blobs together.
    pub(crate) fn bytes(&self) -> u64 {
        let blobs = std::fs::read_dir(self.path("sha256")).unwrap();
        blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).sum()
    }

    pub(crate) fn is_empty(&self, name: &str) -> bool {
        std::fs::read_dir(self.path(name)).map_or(true, |mut all| all.next().is_none())
    }
}

pub(crate) fn layer(seed: u64, len: usize) -> Vec<u8> {
    // Noise does not pack, so that lengths are what they seem.
    let mut state = seed;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    Tar::default().file(&format!("file-{seed}"), &noise.take(len).collect::<Vec<_>>()).finish()
}

pub(crate) fn one_image(layers: &[Vec<u8>]) -> Layout {
    let mut layout = Layout::default();
    let config = json!({"Env": ["A=b"], "Cmd": ["sh"], "WorkingDir": "/srv", "User": "1:2"});
    layout.image("x", layers, Packing::Gzip, &config);
    layout
}
