//! A WebSocket server that tells whoever speaks to it with what it was opened.

use std::io::{Read, Write};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, coding::CloseCode};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Message, Result};

/// Agrees, or lies that it does, or refuses; then speaks to the end.
pub(super) fn serve(mut stream: impl Read + Write, request: &str, note: &impl Fn(String)) {
    let header = |name: &str| {
        let all = request.lines().filter_map(|line| line.split_once(": "));
        let mut named = all.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.next().map_or("", |(_, value)| value)
    };
    let (secret, key) = (header("Authorization"), header("Sec-WebSocket-Key"));
    let (status, accept) = match request.split(' ').nth(1) {
        Some("/socket/lies") => ("101 Switching Protocols", derive_accept_key(b"another")),
        Some("/socket/refuses") => ("403 Forbidden", String::new()),
        _ => ("101 Switching Protocols", derive_accept_key(key.as_bytes())),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nX-Echo: {secret}\r\nContent-Length: 0\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).is_ok() {
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        let ended = speak(&mut socket, secret, note);
        note(format!("web socket ended: {ended:?}"));
    }
}

fn speak<S: Read + Write>(
    socket: &mut WebSocket<S>,
    secret: &str,
    note: &impl Fn(String),
) -> Result<()> {
    loop {
        let Message::Text(said) = socket.read()? else { continue };
        note(format!("web socket heard {:?}", said.as_str()));
        match said.as_str() {
            // Each byte in a frame of its own, and in between others that tell it, too.
            "pieces" => pieces(socket, secret)?,
            "end" => {
                let reason = secret.to_owned().into();
                socket.close(Some(CloseFrame { code: CloseCode::Normal, reason }))?;
            }
            said => socket.send(Message::text(format!("{said}: {secret}")))?,
        }
    }
}

fn pieces<S: Read + Write>(socket: &mut WebSocket<S>, secret: &str) -> Result<()> {
    for (n, byte) in secret.bytes().enumerate() {
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        let last = n + 1 == secret.len();
        let piece = Frame::message(vec![byte], OpCode::Data(kind), last);
        socket.send(Message::Frame(piece))?;
        if n % 10 == 5 {
            socket.send(Message::Ping(secret.to_owned().into()))?;
        }
    }
    Ok(())
}
