//! The rows on sessions: measured through the socket of a real owner.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lampyr_types::NoProgress;
use tokio::sync::mpsc;

use crate::core_api::{
    self as core, CopyIn, CopyOut, ExecRequest, Host, Output, RunRequest, SessionClient,
    SessionRequest,
};
use crate::failure::Failure;

use super::super::session::owner;
use super::said::Nowhere;
use super::table::{Row, Unit};

/// Commands at once for the row on many.
const AT_ONCE: usize = 1000;
/// Bytes that a command says for the row on output.
const SAID: u64 = 100_000_000;
/// How long a session outlives a bench that was killed.
const TTL: Duration = Duration::from_mins(1);
/// Bytes of the file for the rows on copies.
pub(super) const FILE: usize = 1 << 30;

/// Measures a session from start to stop, with the file in `scratch`.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    scratch: &Path,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let sid =
        core::start_session(host, &like(run), owner(home, "session-owner")?).await?.to_string();
    let measured = measure(home, &sid, scratch, n).await?;
    core::stop_session(home, &sid, Duration::ZERO).await?;
    Ok(measured)
}

/// What the only session of this process is called.
pub(super) fn name() -> String {
    format!("bench-{}", std::process::id())
}

/// A session like the run.
pub(super) fn like(run: &RunRequest) -> SessionRequest {
    SessionRequest {
        name: name().parse().ok(),
        origin: run.origin.clone(),
        cpus: run.cpus,
        memory: run.memory.as_bytes(),
        disk_size: run.disk_size.as_bytes(),
        env: Vec::new(),
        workdir: None,
        attached: false,
        ttl_ms: Some(TTL.as_millis() as u64),
        checkpoints: 0,
        crowd: false,
        net: None,
        mounts: Vec::new(),
        forwards: Vec::new(),
    }
}

async fn measure(home: &Path, sid: &str, scratch: &Path, n: usize) -> Result<Vec<Row>, Failure> {
    let client = Arc::new(SessionClient::connect(home, sid).await?);
    for _ in 0..5 {
        exec(&client, "true").await?;
    }
    let mut rows = vec![single(&client, n).await?, whole(sid, n)?];
    rows.push(many(&client).await?);
    let took = exec(&client, &format!("head -c {SAID} /dev/zero")).await?;
    let definition = "`head -c 100000000 /dev/zero` in a session, all of it received";
    rows.push(Row::times("100 MB of output", definition, &[took]));
    rows.extend(copies(&client, scratch).await?);
    Ok(rows)
}

async fn single(client: &SessionClient, n: usize) -> Result<Row, Failure> {
    let mut took = Vec::new();
    for _ in 0..n {
        took.push(exec(client, "true").await?);
    }
    let definition = "`sh -c true` in a session, from a client of its socket";
    Ok(Row::times("exec in a session", definition, &took))
}

fn whole(sid: &str, n: usize) -> Result<Row, Failure> {
    let failed = |source| Failure::System { what: "run this program again", source };
    let program = std::env::current_exe().map_err(failed)?;
    let mut took = Vec::new();
    for _ in 0..n {
        let mut command = Command::new(&program);
        command.args(["exec", sid, "true"]).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        command.status().map_err(failed)?;
        took.push(start.elapsed());
    }
    let definition = "`lampyr exec SID true` as a whole process";
    Ok(Row::times("exec, whole process", definition, &took))
}

async fn many(client: &Arc<SessionClient>) -> Result<Row, Failure> {
    let start = Instant::now();
    let all: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { exec(&client, "true").await })
        })
        .collect();
    for one in all {
        one.await.map_err(|e| Failure::System { what: "wait", source: e.into() })??;
    }
    let each = start.elapsed() / AT_ONCE as u32;
    let definition = "1000 `sh -c true` at once on one session: the time for all, over 1000";
    Ok(Row::times("exec, each of 1000 at once", definition, &[each]))
}

async fn copies(client: &SessionClient, scratch: &Path) -> Result<Vec<Row>, Failure> {
    let (local, remote) = (scratch.join("file"), "/root/bench".to_owned());
    let start = Instant::now();
    client.copy_in(&CopyIn { local, remote: remote.clone() }, &NoProgress).await?;
    let into = start.elapsed();
    let start = Instant::now();
    client.copy_out(&CopyOut { remote, local: scratch.join("back") }, &NoProgress).await?;
    let definition = "one file of 1 GB, `lampyr cp` without the process";
    Ok(vec![
        Row::one("cp into a session", definition, Unit::MbPerSecond, rate(FILE, into)),
        Row::one("cp out of a session", definition, Unit::MbPerSecond, rate(FILE, start.elapsed())),
    ])
}

/// Makes a file of [`FILE`] bytes that nothing could make shorter.
pub(super) fn large(path: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::System { what: "make a large file", source };
    let mut file = std::fs::File::create(path).map_err(failed)?;
    let piece: Vec<u8> =
        (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for _ in 0..FILE / piece.len() {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok(())
}

/// Megabytes a second.
pub(super) fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// Runs a command to its end and says how long it took.
pub(super) async fn exec(client: &SessionClient, command: &str) -> Result<Duration, Failure> {
    hear(client, command, &mut Nowhere).await
}

/// Runs a command to its end and lets somebody hear what it says.
pub(super) async fn hear(
    client: &SessionClient,
    command: &str,
    output: &mut dyn Output,
) -> Result<Duration, Failure> {
    let request = ExecRequest {
        command: core::Command::Shell(command.to_owned()),
        env: Vec::new(),
        workdir: None,
        user: None,
        timeout: None,
        stdin: false,
        terminal: None,
    };
    let (_nobody, controls) = mpsc::channel(1);
    let start = Instant::now();
    client.exec(&request, output, controls).await?;
    Ok(start.elapsed())
}
