//! Who may ask: nobody whom a web page sends, and by a port nobody without the
//! token.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{Answer, ApiError};

/// What is asked without a token, too: it says nothing of anybody's sandboxes.
const OPEN: [&str; 2] = ["/v1/health", "/openapi.json"];

/// Who may ask.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whoever can connect: to a socket of which the system sees to that, or to
    /// a port that was said to be for everybody.
    Anyone,
    /// Whoever shows this token.
    Token(String),
}

/// Lets through who may ask.
pub(crate) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    match judge(&access, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn judge(access: &Access, uri: &Uri, headers: &HeaderMap) -> Answer<()> {
    let host = text(headers, header::HOST).unwrap_or_default();
    if !is_plain_host(host) {
        let what = "the Host of a request must be an address or localhost";
        return Err(ApiError::refused(StatusCode::FORBIDDEN, what));
    }
    if let Some(origin) = text(headers, header::ORIGIN)
        && origin != format!("http://{host}")
    {
        let what = "a web page of another origin has no access";
        return Err(ApiError::refused(StatusCode::FORBIDDEN, what));
    }
    match access {
        Access::Token(token) if !OPEN.contains(&uri.path()) => shows(headers, token),
        _ => Ok(()),
    }
}

/// A page can have a name of its own lead to this host, but no address.
fn is_plain_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn shows(headers: &HeaderMap, token: &str) -> Answer<()> {
    let shown = text(headers, header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
    // Hashes are compared in a time that tells nothing.
    let right = |shown: &str| blake3::hash(shown.as_bytes()) == blake3::hash(token.as_bytes());
    if shown.is_some_and(right) {
        return Ok(());
    }
    Err(ApiError::refused(StatusCode::UNAUTHORIZED, "the request does not show the token").hint(
        "send the header `Authorization: Bearer TOKEN`; the file `token` of LAMPYR_HOME has it",
    ))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // Bytes that are no text are somebody's whom we do not know.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(access: &Access, path: &str, headers: &[(&str, &str)]) -> Result<(), StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        judge(access, &path.parse().unwrap(), &map).map_err(|e| e.into_response().status())
    }

    #[test]
    fn no_web_page_gets_in() {
        let anyone = Access::Anyone;
        let asked = |headers: &[(&str, &str)]| judged(&anyone, "/v1/sandboxes", headers);
        for host in ["127.0.0.1:80", "localhost", "LOCALHOST:1", "[::1]:7777", "10.0.0.1"] {
            assert_eq!(asked(&[("host", host)]), Ok(()), "{host}");
            let origin = format!("http://{host}");
            assert_eq!(asked(&[("host", host), ("origin", &origin)]), Ok(()), "{host}");
        }
        for host in ["", "evil.example", "evil.example:80", "localhost.evil.example", "[::1"] {
            assert_eq!(asked(&[("host", host)]), Err(StatusCode::FORBIDDEN), "{host}");
        }
        for origin in ["null", "https://localhost", "http://localhost:81", "http://evil.example"] {
            let headers = [("host", "localhost"), ("origin", origin)];
            assert_eq!(asked(&headers), Err(StatusCode::FORBIDDEN), "{origin}");
        }
    }

    #[test]
    fn a_port_is_for_who_shows_the_token() {
        let token = Access::Token("secret".into());
        let asked =
            |path, shown| judged(&token, path, &[("host", "127.0.0.1"), ("authorization", shown)]);
        assert_eq!(asked("/v1/sandboxes", "Bearer secret"), Ok(()));
        for shown in
            ["", "secret", "Bearer", "Bearer ", "Bearer secret ", "bearer secret", "Basic secret"]
        {
            assert_eq!(asked("/v1/sandboxes", shown), Err(StatusCode::UNAUTHORIZED), "{shown}");
        }
        assert_eq!(asked("/v1/health", ""), Ok(()));
    }
}
