//! Images put together by hand, in an OCI layout.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// A directory with blobs and an index.
#[derive(Debug)]
pub struct Layout {
    dir: TempDir,
    images: Vec<Value>,
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The name of this host's processors among images.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

impl Default for Layout {
    fn default() -> Self {
        let dir = tempfile::Builder::new().prefix("lampyr-layout-").tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, images: Vec::new() }
    }
}

impl Layout {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a blob is.
    pub fn blob(&self, digest: &str) -> std::path::PathBuf {
        self.dir.path().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn keep(&self, media: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.blob(&digest), bytes).unwrap();
        json!({"mediaType": media, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image of archives, the lowest first; returns its digest.
    pub fn image(
        &mut self,
        tag: &str,
        layers: &[Vec<u8>],
        packing: Packing,
        config: &Value,
    ) -> String {
        self.image_for(architecture(), tag, layers, packing, config)
    }

    /// The same for any kind of processor.
    pub fn image_for(
        &mut self,
        architecture: &str,
        tag: &str,
        layers: &[Vec<u8>],
        packing: Packing,
        config: &Value,
    ) -> String {
        let mut image = self.manifest(architecture, layers, packing, config);
        let digest = image["digest"].as_str().unwrap().to_owned();
        image["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.images.push(image);
        let index = json!({"schemaVersion": 2, "manifests": self.images});
        std::fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        digest
    }

    fn manifest(
        &self,
        architecture: &str,
        layers: &[Vec<u8>],
        packing: Packing,
        config: &Value,
    ) -> Value {
        let contents: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({"architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": contents}});
        let config = config.to_string();
        let config = self.keep("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| self.keep(&format!("{LAYER}{}", packing.ending()), &packing.pack(layer)))
            .collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        self.keep(kind, manifest.to_string().as_bytes())
    }
}

impl Packing {
    fn ending(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }

    fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => gzip(bytes),
            Self::Zstd => zstd(bytes),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// An archive being put together, whatever it may hold.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tar {
    /// Adds an entry of any kind: its name is not looked at.
    #[must_use]
    pub fn entry(self, kind: u8, name: &str, link: &str, contents: &[u8]) -> Self {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        self.with_mode(kind, mode, name, link, contents)
    }

    fn with_mode(mut self, kind: u8, mode: u32, name: &str, link: &str, contents: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_500_000_000);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, name: &str, contents: &[u8]) -> Self {
        self.entry(b'0', name, "", contents)
    }

    /// Adds a file that can be run.
    #[must_use]
    pub fn program(self, name: &str, contents: &[u8]) -> Self {
        self.with_mode(b'0', 0o755, name, "", contents)
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, name: &str) -> Self {
        self.entry(b'5', name, "", b"")
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, b"")
    }

    /// Adds another name of a file.
    #[must_use]
    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, b"")
    }

    /// The archive.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}
