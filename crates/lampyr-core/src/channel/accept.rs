//! The serving end of a channel: what a client asks, and the way to answer.
//!
//! It speaks the same protocol as the agent does, so that a client talks to a
//! session as the host talks to a guest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lampyr_proto::{
    Control, Decoder, Event, Frame, GreetingScanner, Kind, Lane, MAX_PAYLOAD, ReceiveWindow,
    Request, WINDOW, WireError, decode_message, encode, encode_message,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::stream::Gone;

/// More signals and resizes than this at once are passed over.
const MAX_CONTROLS: usize = 64;
/// Frames that may wait for a client to read them.
const MAX_FRAMES: usize = 64;

/// One request of a client.
pub(crate) struct Served {
    pub(crate) request: Request,
    pub(crate) input: ClientInput,
    pub(crate) controls: mpsc::Receiver<Control>,
    pub(crate) answer: Answer,
}

/// What a client sends to the standard input of what it asked for.
pub(crate) struct ClientInput {
    number: u32,
    pieces: mpsc::UnboundedReceiver<Piece>,
    window: Arc<Mutex<ReceiveWindow>>,
    out: mpsc::Sender<Outgoing>,
}

/// A piece of a standard input.
pub(crate) enum Piece {
    Data(Vec<u8>),
    End,
}

/// The way back to a client.
#[derive(Clone)]
pub(crate) struct Answer {
    number: u32,
    out: mpsc::Sender<Outgoing>,
    credit: [Arc<Semaphore>; 2],
}

/// One open request as the connection sees it.
struct Open {
    pieces: mpsc::UnboundedSender<Piece>,
    controls: mpsc::Sender<Control>,
    window: Arc<Mutex<ReceiveWindow>>,
    credit: [Arc<Semaphore>; 2],
}

/// Serves a connection until the client is gone; `serve` is given each request.
pub(crate) async fn accept(connection: UnixStream, serve: impl FnMut(Served)) {
    let (reader, writer) = connection.into_split();
    let (out, frames) = mpsc::channel(MAX_FRAMES);
    tokio::spawn(write(writer, frames));
    let connection = Connection { reader, out, streams: HashMap::new(), serve };
    // A client that breaks a rule is a client that is gone.
    let _ = connection.run().await;
}

/// What a connection's writer is given.
enum Outgoing {
    Frame(Vec<u8>),
    /// Say when everything before this was written.
    Flush(oneshot::Sender<()>),
}

async fn write(mut writer: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(out) = outgoing.recv().await {
        match out {
            Outgoing::Frame(frame) => {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
            Outgoing::Flush(done) => drop(done.send(())),
        }
    }
}

struct Connection<F> {
    reader: OwnedReadHalf,
    out: mpsc::Sender<Outgoing>,
    streams: HashMap<u32, Open>,
    serve: F,
}

impl<F: FnMut(Served)> Connection<F> {
    async fn run(mut self) -> Result<(), WireError> {
        let mut buffer = vec![0; 128 * 1024];
        let mut decoder = Decoder::default();
        let mut greeting = Some(GreetingScanner::default());
        loop {
            let n = self.reader.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                return Ok(());
            }
            match &mut greeting {
                None => decoder.feed(&buffer[..n]),
                Some(scanner) => {
                    let Some((found, rest)) = scanner.feed(&buffer[..n], |_| true) else {
                        continue;
                    };
                    let _ = self.out.send(Outgoing::Frame(found.to_bytes().to_vec())).await;
                    greeting = None;
                    decoder.feed(&rest);
                }
            }
            while let Some(frame) = decoder.next_frame()? {
                self.take(frame)?;
            }
        }
    }

    /// The frame switch of a session's socket.
    fn take(&mut self, frame: Frame) -> Result<(), WireError> {
        if frame.kind == Kind::Open {
            return self.open(&frame);
        }
        // What was asked may just have ended.
        let Some(open) = self.streams.get_mut(&frame.stream) else { return Ok(()) };
        match frame.kind {
            Kind::Data => open.data(frame.payload)?,
            Kind::End => drop(open.pieces.send(Piece::End)),
            Kind::Message => drop(open.controls.try_send(decode_message(&frame.payload)?)),
            Kind::Credit => open.credit(&frame)?,
            Kind::Close => drop(self.streams.remove(&frame.stream)),
            Kind::Open => {}
        }
        Ok(())
    }

    fn open(&mut self, frame: &Frame) -> Result<(), WireError> {
        self.streams.retain(|_, open| !open.pieces.is_closed());
        if self.streams.contains_key(&frame.stream) {
            return Err(WireError::OutOfPlace("request on a stream that is in use"));
        }
        let request = decode_message(&frame.payload)?;
        let (open, served) = pair(frame.stream, request, &self.out);
        self.streams.insert(frame.stream, open);
        (self.serve)(served);
        Ok(())
    }
}

/// Both ends of a request.
fn pair(number: u32, request: Request, out: &mpsc::Sender<Outgoing>) -> (Open, Served) {
    let (to_pieces, pieces) = mpsc::unbounded_channel();
    let (to_controls, controls) = mpsc::channel(MAX_CONTROLS);
    let window = Arc::new(Mutex::new(ReceiveWindow::default()));
    let credit = [(); 2].map(|()| Arc::new(Semaphore::new(WINDOW as usize)));
    let input = ClientInput { number, pieces, window: window.clone(), out: out.clone() };
    let answer = Answer { number, out: out.clone(), credit: credit.clone() };
    let open = Open { pieces: to_pieces, controls: to_controls, window, credit };
    (open, Served { request, input, controls, answer })
}

impl Open {
    fn data(&self, bytes: Vec<u8>) -> Result<(), WireError> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.arrive(bytes.len())?;
        let _ = self.pieces.send(Piece::Data(bytes));
        Ok(())
    }

    fn credit(&self, frame: &Frame) -> Result<(), WireError> {
        let more = frame.credit()? as usize;
        let credit = match frame.lane {
            Lane::Stdin => return Err(WireError::OutOfPlace("credit for an input")),
            Lane::Stdout => &self.credit[0],
            Lane::Stderr => &self.credit[1],
        };
        if credit.available_permits() + more > WINDOW as usize {
            return Err(WireError::Overrun);
        }
        credit.add_permits(more);
        Ok(())
    }
}

impl ClientInput {
    /// The next piece; `None` when the client wants no more of all this.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    /// So many bytes were passed on.
    pub(crate) async fn taken(&self, length: usize) {
        let more = self.window.lock().unwrap_or_else(PoisonError::into_inner).consume(length);
        if let Some(more) = more {
            let mut frame = Vec::new();
            encode(&mut frame, self.number, Kind::Credit, Lane::Stdin, &more.to_le_bytes());
            let _ = self.out.send(Outgoing::Frame(frame)).await;
        }
    }
}

impl Answer {
    /// Sends output, as fast as the client takes it.
    pub(crate) async fn send(&self, lane: Lane, bytes: &[u8]) -> Result<(), Gone> {
        let credit = &self.credit[usize::from(lane == Lane::Stderr)];
        for piece in bytes.chunks(MAX_PAYLOAD) {
            let granted = credit.acquire_many(piece.len() as u32).await.map_err(|_| Gone)?;
            granted.forget();
            self.frame(Kind::Data, lane, piece).await?;
        }
        Ok(())
    }

    /// Sends a message.
    pub(crate) async fn say(&self, event: &Event) -> Result<(), Gone> {
        self.frame(Kind::Message, Lane::Stdin, &encode_message(event)).await
    }

    /// Waits until all that was said is written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.out.send(Outgoing::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    async fn frame(&self, kind: Kind, lane: Lane, payload: &[u8]) -> Result<(), Gone> {
        let mut frame = Vec::with_capacity(payload.len() + lampyr_proto::HEADER);
        encode(&mut frame, self.number, kind, lane, payload);
        self.out.send(Outgoing::Frame(frame)).await.map_err(|_| Gone)
    }
}
