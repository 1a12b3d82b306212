//! The row on pools: measured with a real keeper.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::core_api::{self as core, Error, Host, PoolMachine, PoolRequest, RunRequest};
use crate::failure::Failure;

use super::super::session::owner;
use super::table::Row;

/// Machines that the pool holds.
const SIZE: u32 = 2;
/// How long it may take to be full again.
const REFILL: Duration = Duration::from_mins(1);

/// Measures claims from a pool that is full.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let definition = "`sh -c true` in a VM of a full pool, from looking for one to the result";
    let took = claims(host, home, run, n).await?;
    Ok(vec![Row::times("claim from a pool to result", definition, &took)])
}

/// How long claims from a full pool of what `run` would start take, each with a
/// first command.
pub(super) async fn claims(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Duration>, Failure> {
    let machine = PoolMachine {
        origin: run.origin.clone(),
        cpus: run.cpus,
        memory: run.memory.as_bytes(),
        disk_size: run.disk_size.as_bytes(),
    };
    let request = PoolRequest { machine, size: SIZE, ttl_ms: None };
    let id = core::start_pool(host, &request, owner(home, "pool-keeper")?).await?.to_string();
    let measured = claim(host, home, run, n).await;
    core::stop_pool(home, &id).await?;
    measured
}

async fn claim(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    for _ in 0..n {
        full(home).await?;
        let start = Instant::now();
        let claimed = core::claim(host, run).await?;
        let mut machine = claimed.ok_or_else(|| late("no VM of the pool could be claimed"))?;
        machine.exec("true").await?;
        took.push(start.elapsed());
        machine.end().await;
    }
    Ok(took)
}

/// Waits until the pool is full.
async fn full(home: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + REFILL;
    while !core::pools(home)?.iter().all(|(pool, ready)| *ready >= pool.size as usize) {
        if Instant::now() > deadline {
            return Err(late("the pool does not get full"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was made last comes to rest.
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

fn late(why: &str) -> Failure {
    Error::Agent(why.to_owned()).into()
}
