//! Guests that speak the protocol and then do as they please.

use std::sync::Arc;

use lampyr_engine::fake::Peer;
use lampyr_proto::{
    Decoder, Event, Exec, Exited, Frame, GREETING_LEN, Kind, Lane, Request, Welcome,
    decode_message, encode, encode_message,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A guest that behaves until it is to run something, and then says `answer`
/// of the stream and what was to be run.
pub(crate) fn peer(answer: impl Fn(u32, Exec) -> Vec<u8> + Send + Sync + 'static) -> Peer {
    let answer = Arc::new(answer);
    Peer::Play(Arc::new(move |channel| {
        let answer = answer.clone();
        Box::pin(async move {
            let _ = play(channel, &*answer).await;
            // A machine does not end because the host hangs up.
            std::future::pending::<()>().await;
        })
    }))
}

async fn play(
    mut channel: UnixStream,
    answer: &(dyn Fn(u32, Exec) -> Vec<u8> + Send + Sync),
) -> std::io::Result<()> {
    let mut greeting = [0; GREETING_LEN];
    channel.read_exact(&mut greeting).await?;
    channel.write_all(&greeting).await?;
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 65536]);
    loop {
        let n = channel.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        decoder.feed(&buffer[..n]);
        while let Ok(Some(frame)) = decoder.next_frame() {
            if frame.kind == Kind::Open {
                channel.write_all(&reply(&frame, answer)).await?;
            }
        }
    }
}

fn reply(frame: &Frame, answer: &(dyn Fn(u32, Exec) -> Vec<u8> + Send + Sync)) -> Vec<u8> {
    let stream = frame.stream;
    match decode_message(&frame.payload).unwrap() {
        Request::Hello(_) => {
            event(stream, &Event::Welcome(Welcome { generation: 1, kernel: "none".into() }))
        }
        Request::Resumed(_) | Request::Quiesce => event(stream, &Event::Done),
        Request::Exec(exec) => answer(stream, *exec),
        other => event(stream, &Event::Failed(format!("a guest was asked for {other:?}"))),
    }
}

/// A frame with an event.
pub(crate) fn event(stream: u32, event: &Event) -> Vec<u8> {
    frame(stream, Kind::Message, Lane::Stdin, &encode_message(event))
}

/// A frame with the end of a process.
pub(crate) fn exited(stream: u32, code: i32) -> Vec<u8> {
    event(stream, &Event::Exited(Exited { code: Some(code), ..Exited::default() }))
}

pub(crate) fn frame(stream: u32, kind: Kind, lane: Lane, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, stream, kind, lane, payload);
    out
}
