//! The rows on mounts: a directory of this host's in a session.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::core_api::{self as core, Host, Mount, MountSource, RunRequest, SessionClient};
use crate::failure::Failure;

use super::super::session::owner;
use super::said::Said;
use super::session::{FILE, exec, hear, like, rate};
use super::table::{Row, Unit};

/// Small files that are made for a row.
const FILES: u32 = 2000;

/// Makes, writes and closes them from so many threads, and says how many that
/// were in a second: neither its start counts, nor what a shell does besides.
const PROGRAM: &str = r#"
import os, sys, threading, time
where, files, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.mkdir(where)
def make(first):
    for i in range(first, files, threads):
        file = os.open(f"{where}/{i}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.write(file, b"x")
        os.close(file)
begun = time.monotonic()
all = [threading.Thread(target=make, args=(i,)) for i in range(threads)]
for one in all: one.start()
for one in all: one.join()
print(files / (time.monotonic() - begun))
"#;

/// Measures a mount of `scratch` from start to stop.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    scratch: &Path,
) -> Result<Vec<Row>, Failure> {
    let source = MountSource::Directory(scratch.to_owned());
    let mut request = like(run);
    request.mounts = vec![Mount { source, guest: "/m".to_owned(), readonly: false }];
    let sid = core::start_session(host, &request, owner(home, "session-owner")?).await?.to_string();
    let measured = measure(home, &sid).await?;
    core::stop_session(home, &sid, Duration::ZERO).await?;
    Ok(measured)
}

async fn measure(home: &Path, sid: &str) -> Result<Vec<Row>, Failure> {
    let client = SessionClient::connect(home, sid).await?;
    let read = exec(&client, "cat /m/file > /dev/null").await?;
    let write = exec(&client, "head -c 268435456 /dev/zero > /m/out").await?;
    let one = small_files(&client, 1).await?;
    let four = small_files(&client, 4).await?;
    let shell = format!("mkdir /m/d; cd /m/d; for i in $(seq {FILES}); do echo x > f$i; done");
    let shell = f64::from(FILES) / exec(&client, &shell).await?.as_secs_f64();
    let mb = Unit::MbPerSecond;
    let files = "a program makes small files in a mount: looked up, made, written, closed";
    Ok(vec![
        Row::one("mount, read", "1 GB that the guest has not seen yet", mb, rate(FILE, read)),
        Row::one("mount, write", "256 MB into a new file", mb, rate(FILE / 4, write)),
        Row::one("mount, small files", files, Unit::PerSecond, one),
        Row::one("mount, small files from 4", "the same, four threads", Unit::PerSecond, four),
        Row::one("mount, small files by sh", "the same, in a shell's loop", Unit::PerSecond, shell),
    ])
}

/// How many small files so many threads make in a second.
async fn small_files(client: &SessionClient, threads: u32) -> Result<f64, Failure> {
    let mut said = Said::default();
    let command = format!("python3 -c '{PROGRAM}' /m/by{threads} {FILES} {threads}");
    hear(client, &command, &mut said).await?;
    let failed = |e| Failure::System { what: "count small files", source: io::Error::other(e) };
    said.0.trim().parse().map_err(failed)
}
