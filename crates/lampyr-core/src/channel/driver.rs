//! The task that owns the connection.

use std::collections::HashMap;
use std::sync::Arc;

use lampyr_proto::{
    Decoder, Event, Frame, Greeting, GreetingScanner, Kind, Lane, ReceiveWindow, WINDOW, WireError,
    decode_message, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{ChannelError, Incoming};

/// Commands wait while more than this is still to be written, in bytes.
const HIGH_WATER: usize = 1 << 20;
/// More messages than this on one stream are a flood. A process has three.
const MAX_EVENTS: u32 = 16;

/// What streams ask of the driver.
#[derive(Debug)]
pub(super) enum Command {
    /// Opens a stream; the driver gives it a number. Nothing behind the request
    /// is written until `hold` ends, where there is one.
    Open {
        request: Vec<u8>,
        incoming: mpsc::UnboundedSender<Incoming>,
        input: Arc<Semaphore>,
        number: oneshot::Sender<u32>,
        hold: Option<oneshot::Receiver<()>>,
    },
    /// Sends a frame of this kind on the stdin lane.
    Send { stream: u32, kind: Kind, payload: Vec<u8> },
    /// So many bytes of a lane were taken.
    Taken { stream: u32, lane: Lane, length: usize },
    /// Nobody listens to the stream any more.
    Forget { stream: u32 },
}

/// One stream as the driver sees it.
struct Open {
    incoming: mpsc::UnboundedSender<Incoming>,
    input: Arc<Semaphore>,
    windows: [ReceiveWindow; 2],
    events: u32,
}

pub(super) struct Driver {
    connection: UnixStream,
    inbox: mpsc::Receiver<Command>,
    /// The greeting whose echo has not come yet.
    echo: Option<(Greeting, GreetingScanner)>,
    decoder: Decoder,
    streams: HashMap<u32, Open>,
    next: u32,
    out: Vec<u8>,
    sent: usize,
    hold: Option<Hold>,
}

/// What is written no further than a point, for a while.
struct Hold {
    at: usize,
    until: oneshot::Receiver<()>,
}

impl Driver {
    pub(super) fn new(
        connection: UnixStream,
        inbox: mpsc::Receiver<Command>,
        greeting: Greeting,
    ) -> Self {
        Self {
            connection,
            inbox,
            echo: Some((greeting, GreetingScanner::default())),
            decoder: Decoder::default(),
            streams: HashMap::new(),
            next: 1,
            out: greeting.to_bytes().to_vec(),
            sent: 0,
            hold: None,
        }
    }

    /// Runs until the conversation is over, and says why it is.
    pub(super) async fn run(mut self) -> ChannelError {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if let Err(e) = self.turn(&mut buffer).await {
                return e;
            }
        }
    }

    async fn turn(&mut self, buffer: &mut [u8]) -> Result<(), ChannelError> {
        let (mut reader, mut writer) = self.connection.split();
        let pending = self.out.len() - self.sent;
        let end = self.hold.as_ref().map_or(self.out.len(), |hold| hold.at);
        tokio::select! {
            read = reader.read(buffer) => match read {
                Ok(n) if n > 0 => self.hear(&buffer[..n])?,
                _ => return Err(ChannelError::Closed),
            },
            () = released(&mut self.hold) => self.hold = None,
            written = writer.write(&self.out[self.sent..end]), if end > self.sent => match written {
                Ok(n) if n > 0 => self.wrote(n),
                _ => return Err(ChannelError::Closed),
            },
            command = self.inbox.recv(), if pending < HIGH_WATER => match command {
                Some(command) => self.obey(command),
                None => return Err(ChannelError::Closed),
            },
        }
        Ok(())
    }

    fn wrote(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.out.len() && self.hold.is_none() {
            self.out.clear();
            self.sent = 0;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { request, incoming, input, number, hold } => {
                let stream = self.next;
                self.next = self.next.wrapping_add(1);
                let windows = [ReceiveWindow::default(); 2];
                self.streams.insert(stream, Open { incoming, input, windows, events: 0 });
                encode(&mut self.out, stream, Kind::Open, Lane::Stdin, &request);
                if let Some(until) = hold {
                    self.hold = Some(Hold { at: self.out.len(), until });
                }
                let _ = number.send(stream);
            }
            Command::Send { stream, kind, payload } => {
                encode(&mut self.out, stream, kind, Lane::Stdin, &payload);
            }
            Command::Taken { stream, lane, length } => self.taken(stream, lane, length),
            Command::Forget { stream } => {
                if self.streams.remove(&stream).is_some() {
                    encode(&mut self.out, stream, Kind::Close, Lane::Stdin, &[]);
                }
            }
        }
    }

    fn taken(&mut self, stream: u32, lane: Lane, length: usize) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        if let Some(more) = open.window(lane).and_then(|w| w.consume(length)) {
            encode(&mut self.out, stream, Kind::Credit, lane, &more.to_le_bytes());
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match &mut self.echo {
            None => self.decoder.feed(bytes),
            Some((greeting, scanner)) => match scanner.feed(bytes, |found| found == greeting) {
                None => return Ok(()),
                Some((_, rest)) => {
                    self.echo = None;
                    self.decoder.feed(&rest);
                }
            },
        }
        while let Some(frame) = self.decoder.next_frame()? {
            // Frames of a stream that was forgotten may still be under way.
            if let Some(open) = self.streams.get_mut(&frame.stream) {
                open.take(frame)?;
            }
        }
        Ok(())
    }
}

/// Waits until nothing is held any more; for ever where nothing is.
async fn released(hold: &mut Option<Hold>) {
    match hold {
        Some(hold) => drop((&mut hold.until).await),
        None => std::future::pending().await,
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whoever waits for credit hears that there will be none.
        self.input.close();
    }
}

impl Open {
    fn window(&mut self, lane: Lane) -> Option<&mut ReceiveWindow> {
        match lane {
            Lane::Stdin => None,
            Lane::Stdout => Some(&mut self.windows[0]),
            Lane::Stderr => Some(&mut self.windows[1]),
        }
    }

    /// The message switch of the host.
    fn take(&mut self, frame: Frame) -> Result<(), WireError> {
        match frame.kind {
            Kind::Data => self.data(frame),
            Kind::Message => self.event(&frame.payload),
            Kind::Credit if frame.lane == Lane::Stdin => self.credit(&frame),
            Kind::Credit => Err(WireError::OutOfPlace("credit for an output")),
            Kind::Open | Kind::End | Kind::Close => {
                Err(WireError::OutOfPlace("frame that only a host may send"))
            }
        }
    }

    fn data(&mut self, frame: Frame) -> Result<(), WireError> {
        if frame.payload.is_empty() {
            return Err(WireError::Length(0));
        }
        let window = self.window(frame.lane).ok_or(WireError::OutOfPlace("byte on stdin"))?;
        window.arrive(frame.payload.len())?;
        let _ = self.incoming.send(Incoming::Data(frame.lane, frame.payload));
        Ok(())
    }

    fn event(&mut self, payload: &[u8]) -> Result<(), WireError> {
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Err(WireError::OutOfPlace("flood of messages"));
        }
        let event: Event = decode_message(payload)?;
        let _ = self.incoming.send(Incoming::Event(event));
        Ok(())
    }

    fn credit(&mut self, frame: &Frame) -> Result<(), WireError> {
        let more = frame.credit()? as usize;
        if self.input.available_permits() + more > WINDOW as usize {
            return Err(WireError::Overrun);
        }
        self.input.add_permits(more);
        Ok(())
    }
}
