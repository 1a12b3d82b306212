//! A client's request as a stream of the guest's: bytes and messages go
//! through, each way at the pace of whoever takes them.

use lampyr_proto::{Control, Event, Exec, Request};
use tokio::sync::mpsc;

use crate::channel::{Answer, ClientInput, Incoming, Input, Piece, Served, Stream};

use super::owner::{Session, comes};

/// Runs a process for a client. It ends with the client.
pub(super) async fn exec(session: &Session, served: Served, exec: Exec) {
    let Served { input, controls, answer, .. } = served;
    let meter = session.meter(&exec);
    let opened = session.channel().open(&Request::Exec(Box::new(exec))).await;
    let Ok(stream) = opened else { return session.tell_fate(&answer).await };
    let to_guest = stream.input();
    let ended = tokio::select! {
        biased;
        ended = outputs(stream, &answer) => ended,
        () = inputs(input, &to_guest) => return,
        () = messages(controls, session, &to_guest) => return,
    };
    match ended {
        Some(mut event) => {
            if let Event::Exited(exited) = &mut event {
                meter.read(exited).await;
            }
            let _ = answer.say(&event).await;
        }
        None => session.tell_fate(&answer).await,
    }
}

/// Passes output on to the end, and returns the last word; `None` where the
/// channel ended before it.
async fn outputs(mut stream: Stream, answer: &Answer) -> Option<Event> {
    loop {
        match stream.next().await? {
            Incoming::Data(lane, bytes) => {
                // A client that is gone is noticed by whoever reads from it.
                let _ = answer.send(lane, &bytes).await;
            }
            Incoming::Event(event @ (Event::Exited(_) | Event::Failed(_))) => return Some(event),
            Incoming::Event(_) => {}
        }
    }
}

/// Passes input on; returns when the client is gone.
async fn inputs(mut from: ClientInput, to: &Input) {
    while let Some(piece) = from.next().await {
        match piece {
            Piece::Data(bytes) => {
                let _ = to.send(&bytes).await;
                from.taken(bytes.len()).await;
            }
            Piece::End => drop(to.end().await),
        }
    }
}

/// Passes signals on, the owner's own among them.
async fn messages(mut from: mpsc::Receiver<Control>, session: &Session, to: &Input) {
    let mut ending = session.ending();
    loop {
        tokio::select! {
            control = from.recv() => match control {
                Some(control) => drop(to.control(&control).await),
                // The client is gone, which is for `inputs` to say.
                None => std::future::pending().await,
            },
            () = comes(&mut ending) => {
                let _ = to.control(&Control::Signal(session.stop_signal())).await;
                std::future::pending::<()>().await;
            }
        }
    }
}
