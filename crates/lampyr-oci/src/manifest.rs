//! Manifests and configurations: what an image consists of and how it wants
//! to be run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, OciError};

/// The media types of manifests that are asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// The most layers of an image.
const MOST_LAYERS: usize = 4096;

/// A kind of processor, as images say it: `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The processor, such as `amd64`.
    pub architecture: &'static str,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)
    }
}

/// An image whose manifest and configuration are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of its configuration.
    pub config_digest: Digest,
    /// What it wants of whoever runs it.
    pub config: Config,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is called.
    pub digest: Digest,
    /// Its length in bytes, as it is kept.
    pub size: u64,
    /// The digest of what it unpacks to.
    pub contents: Digest,
}

/// What an image wants of whoever runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Environment variables, each `KEY=VALUE`.
    #[serde(
        rename = "Env",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What a command begins with.
    #[serde(
        rename = "Entrypoint",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// What is run where nothing else is asked for.
    #[serde(
        rename = "Cmd",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Where it runs.
    #[serde(
        rename = "WorkingDir",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub workdir: String,
    /// Who runs it: `user`, `user:group`, by name or number.
    #[serde(
        rename = "User",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// The signal that asks it to end.
    #[serde(
        rename = "StopSignal",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Whatever its maker wanted to say.
    #[serde(
        rename = "Labels",
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
}

/// Old writers say `null` where there is nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A pointer from a manifest to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformOf {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

/// A manifest of one image, or an index of several.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    schema_version: u32,
    /// What it is of, where it is of no image.
    #[serde(default)]
    pub(crate) artifact_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// The whole of a configuration.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    config: Config,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Self, OciError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| senseless(what, &e))?;
        if manifest.schema_version != 2 {
            return Err(senseless(what, &"it is of a version that is no longer in use"));
        }
        if manifest.layers.len() > MOST_LAYERS {
            return Err(senseless(what, &"it has too many layers"));
        }
        Ok(manifest)
    }

    /// The entry of an index that is for `platform`.
    pub(crate) fn select(&self, platform: &Platform, what: &str) -> Result<&Descriptor, OciError> {
        let fits = |of: &PlatformOf| of.os == "linux" && of.architecture == platform.architecture;
        let found = self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(fits));
        // An index with one image that does not say for what it is.
        let only = || match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        };
        found.or_else(only).ok_or_else(|| self.other_platforms(platform, what))
    }

    fn other_platforms(&self, platform: &Platform, what: &str) -> OciError {
        let platforms = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        let mut found: Vec<String> = platforms
            .filter(|of| of.os != "unknown")
            .map(|of| shown(&format!("{}/{}", of.os, of.architecture)))
            .collect();
        found.sort();
        found.dedup();
        found.truncate(12);
        if found.is_empty() {
            found.push("nothing".to_owned());
        }
        OciError::WrongArch { reference: what.to_owned(), wanted: platform.to_string(), found }
    }
}

impl Image {
    /// Puts together what a manifest and a configuration say.
    pub(crate) fn new(
        manifest: Digest,
        layers: &[Descriptor],
        config_digest: Digest,
        config: &[u8],
        platform: &Platform,
        what: &str,
    ) -> Result<Self, OciError> {
        let file: ConfigFile = serde_json::from_slice(config).map_err(|e| senseless(what, &e))?;
        let told = format!("{}/{}", file.os, file.architecture);
        if !file.architecture.is_empty() && told != platform.to_string() {
            let (reference, wanted) = (what.to_owned(), platform.to_string());
            return Err(OciError::WrongArch { reference, wanted, found: vec![shown(&told)] });
        }
        if file.rootfs.diff_ids.len() != layers.len() {
            return Err(senseless(what, &"its manifest and its configuration differ in layers"));
        }
        let pairs = layers.iter().zip(file.rootfs.diff_ids);
        let layers = pairs.map(|(layer, contents)| Layer {
            digest: layer.digest,
            size: layer.size,
            contents,
        });
        Ok(Self { manifest, config_digest, config: file.config, layers: layers.collect() })
    }
}

pub(crate) fn senseless(what: &str, why: &dyn fmt::Display) -> OciError {
    OciError::Senseless { what: what.to_owned(), why: shown(&why.to_string()) }
}

/// Somebody else's words, as a terminal can bear them.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD64: Platform = Platform { architecture: "amd64" };

    fn index(platforms: &[&str]) -> Manifest {
        let entries: Vec<_> = platforms
            .iter()
            .map(|platform| {
                let (os, architecture) = platform.split_once('/').unwrap();
                serde_json::json!({"mediaType": "m", "size": 1, "digest": Digest::of(platform.as_bytes()),
                    "platform": {"os": os, "architecture": architecture}})
            })
            .collect();
        let json = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        Manifest::parse(json.to_string().as_bytes(), "x").unwrap()
    }

    #[test]
    fn an_index_has_the_image_for_this_platform_or_says_which_it_has() {
        let index_of_two = index(&["linux/arm64", "linux/amd64", "unknown/unknown"]);
        let found = index_of_two.select(&AMD64, "x").unwrap();
        assert_eq!(found.digest, Digest::of(b"linux/amd64"));
        let error = index(&["windows/amd64", "linux/arm64"]).select(&AMD64, "x:1").unwrap_err();
        let said = "x:1 is not made for linux/amd64, only for linux/arm64, windows/amd64";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn a_configuration_may_say_null_and_must_fit_its_manifest() {
        let digest = Digest::of(b"");
        let image = |config: &str, layers: &[Descriptor]| {
            Image::new(digest, layers, digest, config.as_bytes(), &AMD64, "x")
        };
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"]},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        assert_eq!(image(config, &[]).unwrap().config.cmd, ["sh"]);
        let layer = Descriptor { media_type: "m".into(), digest, size: 1, platform: None };
        assert!(matches!(image(config, &[layer]), Err(OciError::Senseless { .. })));
        let other = config.replace("amd64", "riscv64");
        assert!(matches!(image(&other, &[]), Err(OciError::WrongArch { .. })));
    }

    #[test]
    fn old_manifests_are_refused_in_words() {
        let error = Manifest::parse(br#"{"schemaVersion": 1, "fsLayers": []}"#, "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "x makes no sense: it is of a version that is no longer in use"
        );
    }
}
