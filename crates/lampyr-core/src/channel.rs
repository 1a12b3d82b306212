//! The host's end of the byte channel: many streams over one connection.
//!
//! One task, the driver, owns the connection. A [`Stream`] is one request:
//! its messages and bytes arrive at whoever holds it, and credit goes back as
//! they are taken, so that what waits here is bounded by the windows. A guest
//! that breaks a rule loses the connection, and every stream with it.

mod accept;
mod driver;
mod stream;

use std::time::Duration;

use lampyr_proto::{
    Event, GENERATION, Greeting, Hello, MAX_REQUEST, Request, Welcome, WireError, encode_message,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use accept::{Answer, ClientInput, Piece, Served, accept};
use driver::{Command, Driver};
pub(crate) use stream::{Input, Stream};

/// What a stream hears.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Bytes of a lane.
    Data(lampyr_proto::Lane, Vec<u8>),
    /// A message.
    Event(Event),
}

/// Why a channel does not work (any more).
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The other end is gone.
    #[error("the VM's channel was closed")]
    Closed,
    /// Nobody answered in time.
    #[error("the agent in the VM did not answer within {0} s")]
    Silent(u64),
    /// The agent broke the protocol.
    #[error("the agent in the VM sent {0}")]
    Broken(#[from] WireError),
    /// A request that no agent would take.
    #[error("the command and its variables are {0} bytes, more than can be passed on")]
    TooLong(usize),
    /// The agent said that it could not do it.
    #[error("the agent in the VM could not do it: {0}")]
    Refused(String),
}

/// A guest that stands still, and hears nothing.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Dropped, it lets the driver write again.
    _release: oneshot::Sender<()>,
}

/// How long what runs in a guest may take to stand still.
const FREEZE_WAIT: Duration = Duration::from_secs(10);
/// How long a guest may take to hear that it goes on.
const THAW_WAIT: Duration = Duration::from_secs(10);

/// A conversation with an agent.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<Option<ChannelError>>,
}

impl Channel {
    /// Greets the agent at the other end. Requests may follow at once; what
    /// comes back before the echo of the greeting belongs to an older
    /// conversation and is passed over.
    pub(crate) fn greet(connection: UnixStream) -> Self {
        let (commands, inbox) = mpsc::channel(64);
        let (verdict, ended) = watch::channel(None);
        let driver = Driver::new(connection, inbox, Greeting(crate::random::bytes()));
        tokio::spawn(async move {
            let _ = verdict.send(Some(driver.run().await));
        });
        Self { commands, ended }
    }

    /// Asks who the agent is, and waits no longer than `patience`.
    pub(crate) async fn hello(&self, patience: Duration) -> Result<Welcome, ChannelError> {
        let hello = Request::Hello(Hello { generation: GENERATION });
        match tokio::time::timeout(patience, self.ask(&hello)).await {
            Ok(Ok(Event::Welcome(welcome))) => Ok(welcome),
            Ok(Ok(_)) => Err(WireError::OutOfPlace("message other than a welcome").into()),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(ChannelError::Silent(patience.as_secs())),
        }
    }

    /// Stops all that runs in the guest, so that it can be copied: nothing more
    /// is said to it until the answer is given to [`Self::thaw`]. Where this
    /// fails, some of it may stand still.
    pub(crate) async fn freeze(&self) -> Result<Frozen, ChannelError> {
        let freezing = async {
            self.ask(&Request::Freeze).await?;
            // Asked once more, now as the last thing that is said: with the
            // answer the guest has heard all of it.
            let (release, until) = oneshot::channel();
            let request = encode_message(&Request::Freeze);
            let stream = Stream::open(&self.commands, request, Some(until)).await;
            self.answer(stream.map_err(|_| self.verdict())?).await?;
            Ok(Frozen { _release: release })
        };
        let frozen = tokio::time::timeout(FREEZE_WAIT, freezing).await;
        frozen.map_err(|_| ChannelError::Silent(FREEZE_WAIT.as_secs()))?
    }

    /// Lets what runs in the guest go on. It is told first what time it is, in
    /// nanoseconds since 1970: its clocks stood still, too.
    pub(crate) async fn thaw(
        &self,
        frozen: Option<Frozen>,
        clock_ns: u64,
    ) -> Result<(), ChannelError> {
        drop(frozen);
        let going = async {
            let told = self.open(&Request::Clock(clock_ns)).await?;
            self.ask(&Request::Thaw).await?;
            self.answer(told).await.map(drop)
        };
        let gone = tokio::time::timeout(THAW_WAIT, going).await;
        gone.map_err(|_| ChannelError::Silent(THAW_WAIT.as_secs()))?
    }

    /// Opens a stream for a request.
    pub(crate) async fn open(&self, request: &Request) -> Result<Stream, ChannelError> {
        let request = encode_message(request);
        if request.len() > MAX_REQUEST {
            return Err(ChannelError::TooLong(request.len()));
        }
        Stream::open(&self.commands, request, None).await.map_err(|_| self.verdict())
    }

    /// Asks something that has one answer.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Event, ChannelError> {
        let stream = self.open(request).await?;
        self.answer(stream).await
    }

    /// The one answer to what was asked.
    pub(crate) async fn answer(&self, mut stream: Stream) -> Result<Event, ChannelError> {
        match stream.next().await {
            Some(Incoming::Event(Event::Failed(why))) => Err(ChannelError::Refused(why)),
            Some(Incoming::Event(event)) => Ok(event),
            Some(Incoming::Data(..)) => Err(WireError::OutOfPlace("byte in an answer").into()),
            None => Err(self.verdict()),
        }
    }

    /// Whether the conversation is over.
    pub(crate) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Why the conversation is over.
    pub(crate) fn verdict(&self) -> ChannelError {
        self.ended.borrow().clone().unwrap_or(ChannelError::Closed)
    }

    /// Ends the conversation, of which nothing may be held any more, and waits
    /// until nobody reads from its connection.
    pub(crate) async fn close(self) {
        let Self { commands, mut ended } = self;
        drop(commands);
        let _ = ended.wait_for(Option::is_some).await;
    }
}
