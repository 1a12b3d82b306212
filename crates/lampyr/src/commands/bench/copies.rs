//! The rows on snapshots, forks and undo.

use std::path::Path;
use std::time::{Duration, Instant};

use lampyr_types::Name;

use crate::core_api::{
    self as core, ForkRequest, Host, Origin, RunRequest, SessionClient, SessionRequest,
    SnapshotRequest,
};
use crate::failure::Failure;

use super::super::session::owner;
use super::launches;
use super::session::{exec, like, name};
use super::table::{Row, Unit};

/// What is in the snapshot: a program that has run, and a tree of files.
const BAKED: &str = "python3 -c 'import json'; mkdir /root/tree; cd /root/tree; \
    for i in $(seq 200); do head -c 1000000 /dev/urandom > $i; done; cat * >/dev/null; sync";
/// Forks at once.
const FORKS: u32 = 20;

/// Measures copies of a session from start to stop.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let mut rows = undo(host, home, run, n).await?;
    let sid = start(host, home, &like(run)).await?;
    let client = SessionClient::connect(home, &sid).await?;
    exec(&client, "true").await?;
    rows.push(pauses(host, home, &sid, n).await?);
    rows.extend(forks(host, home, &sid).await?);
    exec(&client, BAKED).await?;
    take(host, &sid).await?;
    core::stop_session(home, &sid, Duration::ZERO).await?;
    let launched = from_snapshot(host, run, n).await;
    core::remove_snapshot(home, &snapshot()?, false)?;
    rows.push(launched?);
    Ok(rows)
}

async fn start(host: &Host, home: &Path, request: &SessionRequest) -> Result<String, Failure> {
    Ok(core::start_session(host, request, owner(home, "session-owner")?).await?.to_string())
}

fn snapshot() -> Result<Name, Failure> {
    name().parse().map_err(|_| missing("a name for the snapshot"))
}

fn missing(what: &'static str) -> Failure {
    Failure::System { what, source: std::io::ErrorKind::NotFound.into() }
}

async fn take(host: &Host, sid: &str) -> Result<Duration, Failure> {
    let labels = std::collections::BTreeMap::new();
    let request =
        SnapshotRequest { name: snapshot()?, overwrite: true, with_secrets: false, labels };
    Ok(core::create_snapshot(host, sid, &request).await?.pause)
}

async fn pauses(host: &Host, home: &Path, sid: &str, n: usize) -> Result<Row, Failure> {
    let mut took = Vec::new();
    for _ in 0..(n / 4).max(2) {
        took.push(take(host, sid).await?);
    }
    core::remove_snapshot(home, &snapshot()?, false)?;
    let definition = "how long a session stands still while it is saved";
    Ok(Row::times("pause of a snapshot", definition, &took))
}

async fn forks(host: &Host, home: &Path, sid: &str) -> Result<Vec<Row>, Failure> {
    let start = Instant::now();
    let wanted = ForkRequest { count: FORKS, attached: true, with_secrets: false };
    let program = || owner(home, "session-owner").map_err(std::io::Error::other);
    let forked = core::fork(host, sid, wanted, program).await?;
    let mut alone = Vec::new();
    for (sid, _leash) in &forked.sessions {
        let client = SessionClient::connect(home, &sid.to_string()).await?;
        exec(&client, "true").await?;
    }
    let took = start.elapsed();
    for (sid, _leash) in &forked.sessions {
        let client = SessionClient::connect(home, &sid.to_string()).await?;
        alone.push(client.vitals().await?.memory_bytes.unwrap_or_default() as f64 / 1e6);
    }
    for (sid, _leash) in &forked.sessions {
        core::stop_session(home, &sid.to_string(), Duration::ZERO).await?;
    }
    let all = "from the request to the result of a first `sh -c true` in the last of them";
    let each = "what each of them has of this host's memory alone";
    Ok(vec![
        Row::times("20 forks of a session", all, &[took]),
        Row::many("memory of each of 20 forks", each, Unit::Mb, alone),
    ])
}

async fn from_snapshot(host: &Host, run: &RunRequest, n: usize) -> Result<Row, Failure> {
    let request = RunRequest { origin: Origin::Snapshot(snapshot()?), ..run.clone() };
    core::launch(host, &request).await?.end().await;
    let mut took = Vec::new();
    for _ in 0..n {
        took.push(launches::once(host, &request).await?);
    }
    let definition = "with Python and a tree of 200 MB, to the result of a first `sh -c true`";
    Ok(Row::times("launch from a snapshot", definition, &took))
}

async fn undo(host: &Host, home: &Path, run: &RunRequest, n: usize) -> Result<Vec<Row>, Failure> {
    let sid = start(host, home, &SessionRequest { checkpoints: 3, ..like(run) }).await?;
    let client = SessionClient::connect(home, &sid).await?;
    let (mut commands, mut undone) = (Vec::new(), Vec::new());
    for _ in 0..n {
        commands.push(exec(&client, "true").await?);
    }
    for _ in 0..n {
        exec(&client, "echo x >> /root/x").await?;
        let start = Instant::now();
        client.undo(None).await?;
        undone.push(start.elapsed());
    }
    core::stop_session(home, &sid, Duration::ZERO).await?;
    let remembered = "`sh -c true` in a session with --checkpoints 3";
    let back = "until the session is what it was before its last command";
    Ok(vec![
        Row::times("exec with checkpoints", remembered, &commands),
        Row::times("undo to the last point", back, &undone),
    ])
}
