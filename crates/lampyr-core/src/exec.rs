//! Running one process in a guest: bytes in, bytes out, an end.

use std::path::Path;

use lampyr_proto::{Event, Exec, Exited, Lane, Request};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::channel::{Channel, Incoming, Input, Stream};
use crate::{Error, Output, OutputStream};

/// Where a process's standard input comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Nowhere: it is at its end at once.
    Empty,
    /// Our own standard input.
    Ours,
    /// A file or a tree of this host, packed.
    Tree(&'a Path),
}

/// Runs `exec` to its end. Dropping the future ends it in the guest.
pub(crate) async fn exec(
    channel: &Channel,
    exec: Exec,
    source: Source<'_>,
    output: &mut dyn Output,
) -> Result<Exited, Error> {
    Asked::ask(channel, exec).await?.finish(source, output).await
}

/// A process that a guest was asked for. Dropping it ends it there.
pub(crate) struct Asked {
    channel: Channel,
    stream: Stream,
}

impl Asked {
    /// Asks for a process and does not wait for it.
    pub(crate) async fn ask(channel: &Channel, exec: Exec) -> Result<Self, Error> {
        let stream = channel.open(&Request::Exec(Box::new(exec))).await?;
        Ok(Self { channel: channel.clone(), stream })
    }

    /// Feeds it and hears it to its end.
    pub(crate) async fn finish(
        mut self,
        source: Source<'_>,
        output: &mut dyn Output,
    ) -> Result<Exited, Error> {
        let feeding = feed(self.stream.input(), source);
        tokio::pin!(feeding);
        let mut fed = false;
        loop {
            tokio::select! {
                done = &mut feeding, if !fed => {
                    fed = true;
                    done?;
                }
                incoming = self.stream.next() => match incoming {
                    Some(Incoming::Data(lane, bytes)) => deliver(output, lane, &bytes)?,
                    Some(Incoming::Event(Event::Exited(exited))) => return Ok(exited),
                    Some(Incoming::Event(Event::Failed(why))) => return Err(Error::Agent(why)),
                    Some(Incoming::Event(_)) => {}
                    None => return Err(self.channel.verdict().into()),
                },
            }
        }
    }
}

fn deliver(output: &mut dyn Output, lane: Lane, bytes: &[u8]) -> Result<(), Error> {
    let stream = match lane {
        Lane::Stderr => OutputStream::Stderr,
        Lane::Stdin | Lane::Stdout => OutputStream::Stdout,
    };
    output.write(stream, bytes).map_err(Error::Output)
}

/// Sends all of `source`. A process that has ended needs no more of it, and a
/// channel that is gone is noticed by whoever reads from it.
async fn feed(input: Input, source: Source<'_>) -> Result<(), Error> {
    match source {
        Source::Empty => {}
        Source::Ours => forward(tokio::io::stdin(), &input).await?,
        Source::Tree(path) => feed_tree(path, &input).await?,
    }
    let _ = input.end().await;
    Ok(())
}

async fn forward(mut from: impl AsyncReadExt + Unpin, to: &Input) -> Result<(), Error> {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.send(&buffer[..n]).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn feed_tree(path: &Path, input: &Input) -> Result<(), Error> {
    let at = |source| Error::Path { path: path.to_owned(), source };
    let (sink, from) = pipe::pipe().map_err(at)?;
    let sink = std::fs::File::from(sink.into_blocking_fd().map_err(at)?);
    let tree = path.to_owned();
    let packing = tokio::task::spawn_blocking(move || lampyr_tree::pack(&tree, sink));
    forward(from, input).await?;
    match packing.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Error::Copy { what: path.display().to_string(), why: e.to_string() }),
        Err(e) => Err(Error::Copy { what: path.display().to_string(), why: e.to_string() }),
    }
}
