//! Building snapshots.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::SnapshotConfig;
use crate::error::{Error, Told};
use crate::events::{Event, Events};
use crate::http::{Answer, Ask, broken, send};
use crate::output::whole;
use crate::say::say;
use crate::server::server;
use crate::snapshots::Snapshot;

/// How to build a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    overwrite: bool,
    debug_builder: bool,
    verbose: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { overwrite: true, debug_builder: false, verbose: false }
    }
}

impl BuildOptions {
    /// As usual.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an earlier snapshot of the name is replaced, which it is where
    /// nothing is said; else it is an error.
    #[must_use]
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }

    /// Whether the builder, `NAME-builder`, is left running to look at.
    #[must_use]
    pub fn debug_builder(self, debug_builder: bool) -> Self {
        Self { debug_builder, ..self }
    }

    /// Whether steps, and what they say, are told on standard error.
    #[must_use]
    pub fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }
}

/// How the build of a snapshot goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a build has one, at its end")]
pub enum BuildEvent {
    /// A step begins.
    #[non_exhaustive]
    Step {
        /// Which, from 1.
        index: usize,
        /// Of how many.
        count: usize,
        /// What it is called.
        description: String,
    },
    /// Bytes that the step says on standard output.
    Stdout(Vec<u8>),
    /// Bytes that it says on standard error.
    Stderr(Vec<u8>),
    /// The snapshot is there. Nothing comes after it.
    Built(Snapshot),
}

/// Builds a snapshot: starts `NAME-builder` from the image, takes the steps in
/// order, keeps what came of it, and removes the builder. Where nothing has
/// changed since it was built before, that one is the answer.
///
/// A step that fails is an [`Error::Setup`], and leaves an earlier snapshot of
/// the name as it was. Dropping the future breaks the build off.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{BuildOptions, Error, SnapshotConfig, build_snapshot, shell};
///
/// let config = SnapshotConfig::new("tools", "default")
///     .step("mkdir /work")
///     .step(shell("cat /work/missing").described("read it"));
/// match build_snapshot(&config, BuildOptions::new()).await {
///     Err(Error::Setup(why)) => {
///         assert_eq!((why.step(), why.step_name()), (2, "read it"));
///         assert!(why.output().contains("No such file"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub async fn build_snapshot(
    config: &SnapshotConfig,
    options: BuildOptions,
) -> Result<Snapshot, Error> {
    let mut build = build_snapshot_stream(config, options).await?;
    while let Some(event) = build.recv().await? {
        if let BuildEvent::Built(snapshot) = event {
            return Ok(snapshot);
        }
    }
    Err(broke_off())
}

/// Begins to build a snapshot, to be heard as it goes.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{BuildEvent, BuildOptions, SnapshotConfig, build_snapshot_stream};
/// # use lampyr_sdk::{RemoveOptions, remove_snapshot};
///
/// let config = SnapshotConfig::new("tools", "default").step("echo so it goes");
/// # remove_snapshot("tools", RemoveOptions::new()).await?;
/// let mut build = build_snapshot_stream(&config, BuildOptions::new()).await?;
/// while let Some(event) = build.recv().await? {
///     match event {
///         BuildEvent::Step { index, count, .. } => assert_eq!((index, count), (1, 1)),
///         BuildEvent::Stdout(bytes) => assert_eq!(bytes, b"so it goes\n"),
///         BuildEvent::Built(snapshot) => assert_eq!(snapshot.name, "tools"),
///         _ => {}
///     }
/// }
/// # remove_snapshot("tools", RemoveOptions::new()).await?;
/// # Ok(())
/// # }
/// ```
pub async fn build_snapshot_stream(
    config: &SnapshotConfig,
    options: BuildOptions,
) -> Result<BuildStream, Error> {
    let BuildOptions { overwrite, debug_builder, verbose } = options;
    let asked = json!({"config": config, "overwrite": overwrite, "debugBuilder": debug_builder});
    let ask = Ask::post("/v1/snapshots/build").json(&asked)?.events();
    let answer = send(&*server().await?, ask).await?;
    Ok(BuildStream { answer, events: Events::default(), built: false, verbose })
}

/// A snapshot that is being built. Dropping it breaks the build off; an earlier
/// snapshot of the name is as it was then.
#[derive(Debug)]
pub struct BuildStream {
    answer: Answer,
    events: Events,
    built: bool,
    verbose: bool,
}

impl BuildStream {
    /// What happens next; nothing once the snapshot is there.
    pub async fn recv(&mut self) -> Result<Option<BuildEvent>, Error> {
        while !self.built {
            if let Some(event) = self.events.next()? {
                let Some(event) = read(event)? else { continue };
                self.built = matches!(event, BuildEvent::Built(_));
                if self.verbose {
                    tell(&event);
                }
                return Ok(Some(event));
            }
            let piece = self.answer.piece().await?;
            self.events.feed(&piece.ok_or_else(broke_off)?);
        }
        Ok(None)
    }
}

fn broke_off() -> Error {
    broken("it broke off before the snapshot was built")
}

#[derive(Deserialize)]
struct Step {
    index: usize,
    count: usize,
    description: String,
}

#[derive(Deserialize)]
struct Piece {
    stream: String,
    data: String,
    data_bytes: Option<String>,
}

/// What an event tells; one that this version does not know tells nothing.
fn read(Event { name, data }: Event) -> Result<Option<BuildEvent>, Error> {
    Ok(Some(match name.as_str() {
        "step" => {
            let Step { index, count, description } = made(data)?;
            BuildEvent::Step { index, count, description }
        }
        "output" => {
            let Piece { stream, data, data_bytes } = made(data)?;
            let bytes = whole(Some(data), data_bytes.as_deref());
            if stream == "stderr" { BuildEvent::Stderr(bytes) } else { BuildEvent::Stdout(bytes) }
        }
        "built" => BuildEvent::Built(made(data)?),
        "failed" => return Err(made::<Told>(data)?.failed(None)),
        _ => return Ok(None),
    }))
}

fn made<'de, T: Deserialize<'de>>(data: Map<String, Value>) -> Result<T, Error> {
    T::deserialize(Value::Object(data)).map_err(broken)
}

fn tell(event: &BuildEvent) {
    match event {
        BuildEvent::Step { index, count, description } => {
            say(&format!("[lampyr] {index}/{count} {description}\n"));
        }
        BuildEvent::Stdout(bytes) | BuildEvent::Stderr(bytes) => {
            say(&String::from_utf8_lossy(bytes));
        }
        BuildEvent::Built(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: Value) -> Event {
        let Value::Object(data) = data else { panic!("no object") };
        Event { name: name.into(), data }
    }

    #[test]
    fn events_are_told_apart() {
        let step = event("step", json!({"index": 1, "count": 2, "description": "a", "new": 1}));
        let BuildEvent::Step { index: 1, count: 2, .. } = read(step).unwrap().unwrap() else {
            panic!("no step");
        };
        let piece = json!({"stream": "stderr", "data": "\u{fffd}", "data_bytes": "/w=="});
        let piece = read(event("output", piece)).unwrap();
        assert_eq!(piece, Some(BuildEvent::Stderr(vec![0xff])));
        assert_eq!(read(event("of_tomorrow", json!({}))).unwrap(), None);
    }

    #[test]
    fn a_build_that_failed_is_an_error() {
        let failed = json!({"error": "connection_failed", "message": "no", "output": "what it said",
            "step": {"index": 1, "count": 1, "description": "a", "exit_code": 1}});
        let Err(Error::Setup(why)) = read(event("failed", failed)) else { panic!("no failure") };
        assert_eq!(why.output(), "what it said");
        let error = read(event("built", json!({}))).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::ConnectionFailed);
    }
}
