//! Requests of a guest's, one after another, passed on to the real server.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::HeaderValue;
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::end::{End, Sent};
use super::fields;
use super::handshake::Handshake;
use super::mask::Mask;
use super::pattern::Values;
use super::socket::WebSocket;
use crate::domain::Domain;
use crate::secret::Secret;

/// The most bytes of a head, and of what is read ahead.
const MAX_HEAD: usize = 64 << 10;
/// The most fields of one.
const MAX_FIELDS: usize = 200;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// The way to the real server.
struct Server {
    sender: Mutex<client::SendRequest<Incoming>>,
    turn: Plain<Turn>,
    /// Whether the guest has all that was said to it.
    sent: Sent,
}

/// What is spoken.
enum Turn {
    /// Requests and responses.
    Http,
    /// The same, and the next response can be the last.
    Asked,
    /// From now on, frames.
    Agreed(WebSocket),
}

impl Server {
    /// Takes the next turn; returns the last one.
    fn turn(&self, next: Turn) -> Turn {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut turn, next)
    }

    fn speaks_http(&self) -> bool {
        matches!(*self.turn.lock().unwrap_or_else(PoisonError::into_inner), Turn::Http)
    }
}

/// Whom requests are for, and what is put in and taken out.
pub(super) struct Exchange {
    pub(super) host: Domain,
    pub(super) secrets: Arc<[Secret]>,
    pub(super) values: Values,
}

impl Exchange {
    /// Passes on what the guest asks, until one of the two has enough.
    pub(super) async fn serve(
        &self,
        guest: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        real: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<()> {
        let (guest, real) = (End::new(guest), End::new(real));
        let mut builder = client::Builder::new();
        builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS).title_case_headers(true);
        let handshake = builder.handshake(TokioIo::new(real)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let (sender, turn) = (Mutex::new(sender), Plain::new(Turn::Http));
        let server = Server { sender, turn, sent: guest.sent() };
        let service = service_fn(|request| self.pass_on(request, &server));
        let serving = listener().serve_connection(TokioIo::new(guest), service);
        let mut serving = pin!(serving.with_upgrades());
        let (mut connection, mut over) = (pin!(connection.with_upgrades()), false);
        let done = loop {
            tokio::select! {
                _ = &mut connection, if !over => {
                    over = true;
                    // The server has said its last word; the guest is to hear
                    // it. What answers an upgrade ends this by itself.
                    if server.speaks_http() {
                        serving.as_mut().graceful_shutdown();
                    }
                }
                done = &mut serving => break done,
            }
        };
        done.map_err(io::Error::other)?;
        let Turn::Agreed(socket) = server.turn(Turn::Http) else { return Ok(()) };
        if !over {
            connection.await.map_err(io::Error::other)?;
        }
        socket.relay(&self.values).await
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        server: &Server,
    ) -> Result<Answer, hyper::Error> {
        let wish = Handshake::read(&request);
        if let Some(refused) = self.refuse(&request, wish.as_ref()) {
            return Ok(refused);
        }
        let mut sender = server.sender.lock().await;
        // A server that is gone is for the guest to see: it may try again.
        sender.ready().await?;
        Ok(match wish {
            Some(wish) => self.upgrade(request, &wish, &mut sender, server).await,
            None => self.heard(sender.send_request(self.outgoing(request)).await, server),
        })
    }

    /// Passes on a wish for a WebSocket. After any answer but a WebSocket the
    /// connection is over: nobody could say what the guest's next bytes are.
    async fn upgrade(
        &self,
        mut request: Request<Incoming>,
        wish: &Handshake,
        sender: &mut client::SendRequest<Incoming>,
        server: &Server,
    ) -> Answer {
        server.turn(Turn::Asked);
        let guest = hyper::upgrade::on(&mut request);
        let mut request = self.outgoing(request);
        Handshake::outgoing(request.headers_mut());
        let response = match sender.send_request(request).await {
            Ok(response) if wish.is_met(&response) => return self.agree(response, guest, server),
            other => other,
        };
        let mut answer = self.heard(response, server);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    fn heard(&self, response: hyper::Result<Response<Incoming>>, server: &Server) -> Answer {
        match response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let why = "the server switches to what it was not asked for";
                said(StatusCode::BAD_GATEWAY, why)
            }
            Ok(response) => self.incoming(response, server),
            Err(e) => said(StatusCode::BAD_GATEWAY, &format!("the server failed: {e}")),
        }
    }

    fn refuse(&self, request: &Request<Incoming>, wish: Option<&Handshake>) -> Option<Answer> {
        let (parts, head) = (request.headers(), request.method());
        let upgrades = parts.contains_key(header::UPGRADE) && wish.is_none();
        if *head == Method::CONNECT || upgrades {
            let why = "a host with a secret is spoken to in HTTP/1.1 and over WebSockets alone";
            return Some(said(StatusCode::NOT_IMPLEMENTED, why));
        }
        let why = format!("this connection is for {} alone", self.host);
        let (own, other) = (&self.host, StatusCode::MISDIRECTED_REQUEST);
        (!fields::is_for(request.uri(), parts, own)).then(|| said(other, &why))
    }

    fn outgoing(&self, request: Request<Incoming>) -> Request<Incoming> {
        let (mut parts, body) = request.into_parts();
        fields::outgoing(&mut parts.headers, &self.secrets, &self.host);
        if body.size_hint().exact().is_none() {
            // Else a GET would be sent without its body.
            fields::in_chunks(&mut parts.headers);
        }
        let path = parts.uri.path_and_query().cloned();
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.headers_mut() = parts.headers;
        request
    }

    /// The server's word that frames follow, which the guest is to hear first.
    fn agree(&self, mut response: Response<Incoming>, guest: OnUpgrade, server: &Server) -> Answer {
        let real = hyper::upgrade::on(&mut response);
        server.turn(Turn::Agreed(WebSocket { guest, real }));
        let empty = Empty::new().map_err(|never| match never {});
        let mut answer = Response::new(empty.boxed());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = fields::incoming(response.headers(), &self.values);
        Handshake::incoming(answer.headers_mut());
        answer
    }

    /// Nothing of a response but its status, its headers and its body goes on.
    fn incoming(&self, response: Response<Incoming>, server: &Server) -> Answer {
        let (parts, body) = response.into_parts();
        if !body.is_end_stream() && !fields::is_plain(&parts.headers) {
            let why = "the server compresses its answer, in which a secret could hide";
            return said(StatusCode::BAD_GATEWAY, why);
        }
        let (mask, sent) = (Mask::new(&self.values), server.sent.clone());
        let masked = Masked { body, mask, sent, over: None };
        let mut answer = Response::new(masked.boxed());
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = fields::incoming(&parts.headers, &self.values);
        answer
    }
}

/// Says the same to whatever the guest asks.
pub(super) async fn excuse(guest: impl AsyncRead + AsyncWrite + Unpin + 'static, why: &str) {
    let answer =
        |_: Request<Incoming>| async { Ok::<_, hyper::Error>(said(StatusCode::BAD_GATEWAY, why)) };
    let mut builder = listener();
    let serving =
        builder.keep_alive(false).serve_connection(TokioIo::new(guest), service_fn(answer));
    let _ = serving.await;
}

fn listener() -> server::Builder {
    let mut builder = server::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS).title_case_headers(true);
    // Who has said all may still wait for an answer.
    builder.auto_date_header(false).half_close(true);
    builder
}

/// An answer of ours.
fn said(status: StatusCode, why: &str) -> Answer {
    let body = Full::from(format!("lampyr: {why}\n")).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    *answer.version_mut() = Version::HTTP_11;
    answer
}

/// A body without the values. Trailers end here.
struct Masked {
    body: Incoming,
    mask: Mask,
    sent: Sent,
    /// How it has ended.
    over: Option<Result<(), hyper::Error>>,
}

impl Masked {
    /// What comes of the next frame.
    fn clear(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Vec<u8> {
        match frame.transpose() {
            Ok(Some(frame)) => frame.into_data().map_or(Vec::new(), |data| self.mask.feed(&data)),
            ended => {
                self.sent.is_not_all();
                self.over = Some(ended.map(drop));
                self.mask.end()
            }
        }
    }
}

impl Body for Masked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while self.over.is_none() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let clear = self.clear(frame);
            if !clear.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(clear.into()))));
            }
        }
        if matches!(self.over, Some(Err(_))) {
            ready!(self.sent.poll_all(cx));
        }
        Poll::Ready(self.over.replace(Ok(())).and_then(Result::err).map(Err))
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod tests;
