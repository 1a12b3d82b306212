//! Requests of a guest's, one after another, passed on to the real server.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::fields;
use super::mask::Mask;
use super::pattern::Values;
use crate::domain::Domain;
use crate::secret::Secret;

/// The most bytes of a head, and of what is read ahead.
const MAX_HEAD: usize = 64 << 10;
/// The most fields of one.
const MAX_FIELDS: usize = 200;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
type Sender = Mutex<client::SendRequest<Incoming>>;

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
        guest: impl AsyncRead + AsyncWrite + Unpin + 'static,
        real: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> hyper::Result<()> {
        let mut builder = client::Builder::new();
        builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS).title_case_headers(true);
        let (sender, connection) = builder.handshake(TokioIo::new(real)).await?;
        let sender = Mutex::new(sender);
        let service = service_fn(|request| self.pass_on(request, &sender));
        let mut serving = pin!(listener().serve_connection(TokioIo::new(guest), service));
        let mut connection = pin!(connection);
        tokio::select! {
            // The server has said its last word; the guest is to hear it.
            _ = &mut connection => serving.as_mut().graceful_shutdown(),
            done = &mut serving => return done,
        }
        serving.await
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        sender: &Sender,
    ) -> Result<Answer, hyper::Error> {
        if let Some(refused) = self.refuse(&request) {
            return Ok(refused);
        }
        let mut sender = sender.lock().await;
        // A server that is gone is for the guest to see: it may try again.
        sender.ready().await?;
        let response = match sender.send_request(self.outgoing(request)).await {
            Ok(response) => response,
            Err(e) => return Ok(said(StatusCode::BAD_GATEWAY, &format!("the server failed: {e}"))),
        };
        Ok(self.incoming(response))
    }

    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        let (parts, head) = (request.headers(), request.method());
        if *head == Method::CONNECT || parts.contains_key(header::UPGRADE) {
            let why = "a host with a secret is spoken to in plain HTTP/1.1, without upgrades";
            return Some(said(StatusCode::NOT_IMPLEMENTED, why));
        }
        let why = format!("this connection is for {} alone", self.host);
        let (own, other) = (&self.host, StatusCode::MISDIRECTED_REQUEST);
        (!fields::is_for(request.uri(), parts, own)).then(|| said(other, &why))
    }

    fn outgoing(&self, request: Request<Incoming>) -> Request<Incoming> {
        let (mut parts, body) = request.into_parts();
        fields::outgoing(&mut parts.headers, &self.secrets, &self.host);
        let path = parts.uri.path_and_query().cloned();
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.headers_mut() = parts.headers;
        request
    }

    /// Nothing of a response but its status, its headers and its body goes on.
    fn incoming(&self, response: Response<Incoming>) -> Answer {
        let (parts, body) = response.into_parts();
        if !fields::is_plain(&parts.headers) {
            let why = "the server compresses its answer, in which a secret could hide";
            return said(StatusCode::BAD_GATEWAY, why);
        }
        let masked = Masked { body, mask: Mask::new(&self.values), over: false };
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
    builder.auto_date_header(false);
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
    over: bool,
}

impl Body for Masked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while !self.over {
            let clear = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.mask.feed(&data),
                    Err(_trailers) => continue,
                },
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => {
                    self.over = true;
                    self.mask.end()
                }
            };
            if !clear.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(clear.into()))));
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests;
