//! The rows on launches: each to the result of a first command.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::core_api::{self as core, Access, Domain, Error, Host, Policy, RunRequest, Secret};
use crate::failure::Failure;

use super::table::Row;

/// Who is never reached: nothing is asked of it.
const SERVER: &str = "api.example.com";

/// Measures the launch alone.
pub(super) async fn rows(host: &Host, run: &RunRequest, n: usize) -> Result<Vec<Row>, Error> {
    let definition = "from the request to the result of a first `sh -c true`, in one process";
    let took = in_turns(host, [run], n).await?;
    Ok(vec![Row::times("launch to first exec result", definition, &took[0])])
}

/// Measures what a network and a secret add to it: one after the other and
/// again, so that what the host does meanwhile happens to all.
pub(super) async fn with_network(
    host: &Host,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let [open, secret] = accesses()?;
    let [open, secret] =
        [open, secret].map(|access| RunRequest { net: Some(access), ..run.clone() });
    let [without, open, secret] = in_turns(host, [run, &open, &secret], n).await?;
    let definition = "the launch to a first exec result again, in turns with the next two";
    let card = "the same of a VM with a network card, in turns with the ones before and after";
    let kept = "the same of a VM with `--secret` and its network, in turns with the two before";
    Ok(vec![
        Row::times("launch, in turns", definition, &without),
        Row::times("launch with a network", card, &open),
        Row::times("launch with a secret", kept, &secret),
    ])
}

/// Launches from snapshots count likewise.
pub(super) async fn once(host: &Host, run: &RunRequest) -> Result<Duration, Error> {
    let start = Instant::now();
    let mut machine = core::launch(host, run).await?;
    machine.exec("true").await?;
    let took = start.elapsed();
    machine.end().await;
    Ok(took)
}

async fn in_turns<const N: usize>(
    host: &Host,
    runs: [&RunRequest; N],
    n: usize,
) -> Result<[Vec<Duration>; N], Error> {
    // The first launch may have to bake the template.
    for run in runs {
        core::launch(host, run).await?.end().await;
    }
    let mut took = [const { Vec::new() }; N];
    for _ in 0..n {
        for (run, took) in runs.iter().zip(&mut took) {
            took.push(once(host, run).await?);
        }
    }
    Ok(took)
}

fn accesses() -> Result<[Access; 2], Failure> {
    let failed = |e: String| Failure::System { what: "give a VM a network", source: io(e) };
    let policy = Policy::of([SERVER]).map_err(|e| failed(e.to_string()))?;
    let server = Domain::parse(SERVER).map_err(|e| failed(e.to_string()))?;
    let value = Zeroizing::new("none that opens anything".to_owned());
    let secret = Secret::new("TOKEN", server, core::USUAL_HEADER, value);
    let secrets = vec![secret.map_err(|e| failed(e.to_string()))?];
    Ok([policy.clone().into(), Access { policy, secrets, ..Access::default() }])
}

fn io(why: String) -> std::io::Error {
    std::io::Error::other(why)
}
