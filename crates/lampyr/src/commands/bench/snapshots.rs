//! The rows on what is launched from a snapshot.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lampyr_types::{Name, Size};

use crate::core_api::{self as core, Host, Origin, RunRequest, SessionClient, SnapshotRequest};
use crate::failure::Failure;

use super::super::session::owner;
use super::session::{exec, like, name};
use super::table::Row;
use super::{launches, missing, pool};

/// What is in a snapshot: a program that has run, and a tree of files.
const BAKED: &str = "python3 -c 'import email'; mkdir /root/tree; cd /root/tree; \
    for i in $(seq 200); do head -c 1000000 /dev/urandom > $i; done; cat * >/dev/null; sync";
const GIB: u64 = 1 << 30;

/// Measures launches from snapshots of machines of several sizes.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let sized = |memory: u64, disk: u64| RunRequest {
        memory: Size::bytes(memory),
        disk_size: Size::bytes(disk),
        ..run.clone()
    };
    let asked = [run.clone(), sized(GIB / 2, 2 * GIB), sized(4 * GIB, 20 * GIB)];
    let mut saved = Vec::new();
    let measured = measure(host, home, &asked, &mut saved, n).await;
    for snapshot in saved {
        core::remove_snapshot(home, &snapshot, false)?;
    }
    measured
}

/// The names of what has to be removed afterwards go into `saved`.
async fn measure(
    host: &Host,
    home: &Path,
    asked: &[RunRequest; 3],
    saved: &mut Vec<Name>,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let mut from = Vec::new();
    for run in asked {
        let snapshot = save(host, home, run, from.len()).await?;
        saved.push(snapshot.clone());
        from.push(RunRequest { origin: Origin::Snapshot(snapshot), ..run.clone() });
    }
    let [usual, small, large] = by_turns(host, &from, n).await?;
    let definition = "with Python and a tree of 200 MB, to the result of a first `sh -c true`";
    let waiting = "the same, of a full pool of the snapshot, from looking for one to the result";
    Ok(vec![
        Row::times("launch from a snapshot", definition, &usual),
        Row::times("the same, small", "512 MB of memory and a disk of 2 GB, by turns", &small),
        Row::times("the same, large", "4 GB of memory and a disk of 20 GB, by turns", &large),
        Row::times("the same, pool", waiting, &pool::claims(host, home, &from[0], n).await?),
    ])
}

/// Saves a machine that has been used.
async fn save(host: &Host, home: &Path, run: &RunRequest, number: usize) -> Result<Name, Failure> {
    let program = owner(home, "session-owner")?;
    let sid = core::start_session(host, &like(run), program).await?.to_string();
    exec(&SessionClient::connect(home, &sid).await?, BAKED).await?;
    let name: Name = format!("{}-{number}", name()).parse().map_err(|_| missing("a name"))?;
    let request = SnapshotRequest {
        name: name.clone(),
        overwrite: true,
        with_secrets: false,
        labels: BTreeMap::new(),
    };
    let taken = core::create_snapshot(host, &sid, &request).await;
    core::stop_session(home, &sid, Duration::ZERO).await?;
    taken?;
    Ok(name)
}

/// Launches each `n` times, by turns.
async fn by_turns(
    host: &Host,
    from: &[RunRequest],
    n: usize,
) -> Result<[Vec<Duration>; 3], Failure> {
    let mut took = [const { Vec::new() }; 3];
    for turn in 0..=n {
        for (run, took) in from.iter().zip(&mut took) {
            let once = launches::once(host, run).await?;
            // The first launch unpacks the snapshot.
            if turn > 0 {
                took.push(once);
            }
        }
    }
    Ok(took)
}
