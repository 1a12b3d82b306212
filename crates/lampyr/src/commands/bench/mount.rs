//! The rows on mounts: a directory of this host's in a session.

use std::path::Path;
use std::time::Duration;

use crate::core_api::{self as core, Host, Mount, MountSource, RunRequest, SessionClient};
use crate::failure::Failure;

use super::super::session::owner;
use super::session::{FILE, exec, like, rate};
use super::table::{Row, Unit};

/// Small files that are made for a row.
const FILES: u32 = 2000;

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
    let (each, at_once) = (FILES / 4, "done & done; wait");
    let one = format!("mkdir /m/d; cd /m/d; for i in $(seq {FILES}); do echo x > f$i; done");
    let four = format!(
        "mkdir /m/e; cd /m/e; for w in 1 2 3 4; do for i in $(seq {each}); do echo x > $w.$i; {at_once}"
    );
    let one = exec(&client, &one).await?;
    let four = exec(&client, &four).await?;
    let (mb, per_second) =
        (Unit::MbPerSecond, |took: Duration| f64::from(FILES) / took.as_secs_f64());
    let files = "a shell writes small new files in a mount: looked up, made, written, closed";
    Ok(vec![
        Row::one("mount, read", "1 GB that the guest has not seen yet", mb, rate(FILE, read)),
        Row::one("mount, write", "256 MB into a new file", mb, rate(FILE / 4, write)),
        Row::one("mount, small files", files, Unit::PerSecond, per_second(one)),
        Row::one(
            "mount, small files from 4",
            "the same, four shells at once",
            Unit::PerSecond,
            per_second(four),
        ),
    ])
}
