//! What a command costs over the same through the session's socket: the server
//! says how long it took from there, in whole milliseconds.
//! `cargo run --release -p lampyr-sdk --example bench`

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::time::Instant;

use lampyr_sdk::{Error, LaunchOptions, run_in_sandbox};

const TIMES: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let times = run_in_sandbox(LaunchOptions::new("rs-bench"), async |sandbox| {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            let out = sandbox.exec("true").await?;
            let (whole, inside) = (begun.elapsed().as_secs_f64(), out.duration().as_secs_f64());
            // Half a millisecond is what cutting takes off in the middle.
            times.push((whole * 1e3, (whole - inside) * 1e3 - 0.5));
        }
        Ok::<_, Error>(times)
    });
    let (whole, over): (Vec<_>, Vec<_>) = times.await?.into_iter().unzip();
    let (whole, over) = (median(whole), median(over));
    println!("exec(\"true\"): {whole:.2} ms, {over:.2} ms of it over the socket's");
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
