//! Snapshots that do not fit this host: a good one whose description is
//! rewritten, with digests that are right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lampyr_oci::Digest;
use lampyr_store::{Part, at, read_json, write_json};
use lampyr_types::Name;
use serde_json::{Value, json};

use crate::{Error, Origin, SnapshotRequest, create_snapshot, start_attached, stop_session};

use super::scene::{Scene, request_of};
use super::{Look, Wrong, require};

/// A way in which a snapshot does not fit: what is rewritten, and the word that
/// tells of it in the refusal.
struct Misfit {
    what: &'static str,
    rewrite: fn(&mut Value, &mut Value),
    told: &'static str,
}

const MISFITS: [Misfit; 4] = [
    Misfit {
        what: "another engine and machine",
        rewrite: |config, _| config["engine"] = json!("an engine of tomorrow"),
        told: "an engine of tomorrow",
    },
    Misfit {
        what: "another architecture",
        rewrite: |config, _| config["arch"] = json!("pdp11"),
        told: "pdp11",
    },
    Misfit {
        what: "a newer agent and kernel",
        rewrite: |config, _| config["generation"] = json!(4_000_000),
        told: "protocol 4000000",
    },
    Misfit {
        what: "a newer format",
        rewrite: |_, manifest| {
            manifest["layers"][0]["mediaType"] = json!("application/vnd.lampyr.memory.v99");
        },
        told: "application/vnd.lampyr.memory.v99",
    },
];

pub(super) async fn look(scene: &Scene<'_>) -> Look {
    let store = &scene.home.host.store;
    let whole: Name = "whole".parse().map_err(|_| Error::NotOurs)?;
    let wanted = SnapshotRequest {
        name: whole.clone(),
        overwrite: true,
        with_secrets: true,
        labels: BTreeMap::new(),
    };
    create_snapshot(&scene.home.host, &scene.parent.sid, &wanted).await?;
    let layout = Layout(store.dir(Part::Snapshots).map_err(Error::from)?);
    for misfit in &MISFITS {
        layout.rewrite(misfit)?;
        let origin = Origin::Snapshot("misfit".parse().map_err(|_| Error::NotOurs)?);
        let request = request_of(scene.home, origin)?;
        match start_attached(&scene.home.host, &request, scene.owner()).await {
            Ok(_) => {
                return Err(Wrong::Seen(format!("a snapshot with {} was launched", misfit.what)));
            }
            Err(e) => {
                let named = e.to_string().contains(misfit.told);
                require(named, || format!("the refusal of {} says: {e}", misfit.what))?;
            }
        }
    }
    let request = request_of(scene.home, Origin::Snapshot(whole))?;
    let (id, leash) = start_attached(&scene.home.host, &request, scene.owner()).await?;
    stop_session(scene.home.path(), &id.to_string(), Duration::ZERO).await?;
    drop(leash);
    let what: Vec<_> = MISFITS.iter().map(|misfit| misfit.what).collect();
    Ok(format!("refused by name: {}; the snapshot as it was starts", what.join(", ")))
}

/// The layout of a home's snapshots, as anybody may read it.
struct Layout(PathBuf);

impl Layout {
    /// Adds a snapshot `misfit` that is what `whole` is but for one thing.
    fn rewrite(&self, misfit: &Misfit) -> Result<(), Error> {
        let path = self.0.join("index.json");
        let mut index: Value = read_json(&path)?;
        let mut entry = named(&index, "whole").ok_or(Error::NotOurs)?;
        let mut manifest = self.read(&entry["digest"])?;
        let mut config = self.read(&manifest["config"]["digest"])?;
        (misfit.rewrite)(&mut config, &mut manifest);
        self.keep(&config, &mut manifest["config"])?;
        self.keep(&manifest, &mut entry)?;
        entry["annotations"][NAMED] = json!("misfit");
        let others = index["manifests"].as_array_mut().ok_or(Error::NotOurs)?;
        others.retain(|one| one["annotations"][NAMED] != "misfit");
        others.push(entry);
        Ok(write_json(&path, &index)?)
    }

    fn read(&self, digest: &Value) -> Result<Value, Error> {
        let digest = digest.as_str().and_then(|d| d.strip_prefix("sha256:"));
        Ok(read_json(&self.blob(digest.ok_or(Error::NotOurs)?))?)
    }

    /// Keeps `value` as a blob, and writes down in `entry` which.
    fn keep(&self, value: &Value, entry: &mut Value) -> Result<(), Error> {
        let bytes = value.to_string();
        let digest = Digest::of(bytes.as_bytes());
        let path = self.blob(&digest.hex());
        std::fs::write(&path, &bytes).map_err(at(&path))?;
        entry["digest"] = json!(digest.to_string());
        entry["size"] = json!(bytes.len());
        Ok(())
    }

    fn blob(&self, hex: &str) -> PathBuf {
        self.0.join(Path::new("blobs/sha256")).join(hex)
    }
}

const NAMED: &str = "org.opencontainers.image.ref.name";

fn named(index: &Value, name: &str) -> Option<Value> {
    let all = index["manifests"].as_array()?;
    all.iter().find(|one| one["annotations"][NAMED] == name).cloned()
}
