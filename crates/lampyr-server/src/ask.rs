//! What is asked, read with care: a body that is no request is told in the
//! words of every other failure.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::prelude::{BASE64_STANDARD, Engine};
use lampyr_core::limits;
use lampyr_types::{Name, SandboxId, Size, Span};
use serde::de::DeserializeOwned;

use crate::error::{Answer, ApiError};

/// The longest body that is JSON, in bytes: a standard input may be in it.
pub(crate) const MAX_BODY: usize = 32 << 20;
/// How long a client may take to send one.
const BODY_WAIT: Duration = Duration::from_mins(1);

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        if request.body().size_hint().lower() > MAX_BODY as u64 {
            let what = format!("the body is longer than {MAX_BODY} bytes");
            return Err(ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, what));
        }
        let body = tokio::time::timeout(BODY_WAIT, Bytes::from_request(request, state)).await;
        let late = |_| ApiError::refused(StatusCode::REQUEST_TIMEOUT, "the body does not come");
        let body = body.map_err(late)?;
        let body = body.map_err(|e| ApiError::refused(e.status(), e.body_text()))?;
        let empty = body.iter().all(u8::is_ascii_whitespace);
        object("the body", if empty { b"{}" } else { &body }).map(Self)
    }
}

/// Reads a JSON object. An array of an object's values, which serde takes for
/// one, is none.
pub(crate) fn object<T: DeserializeOwned>(what: &str, json: &[u8]) -> Answer<T> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(why("it is no JSON object", what));
    }
    let read = axum::Json::<T>::from_bytes(json);
    read.map(|axum::Json(value)| value).map_err(|e| why(reason(&e.body_text()), what))
}

/// What axum says, without where in axum it says so.
fn reason(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, why)| why)
}

/// What is wrong with a request, in a sentence of ours.
fn why(text: &str, what: &str) -> ApiError {
    ApiError::usage(format!("{what} is not what this route takes: {}", in_words(text)))
        .hint("/openapi.json says what it takes")
}

/// Says what was expected in words of JSON's, rather than with a type of ours.
fn in_words(text: &str) -> String {
    let Some((found, expected)) = text.split_once(", expected ") else { return text.to_owned() };
    let (expected, place) = expected.split_at(expected.find(" at line ").unwrap_or(expected.len()));
    let expected = match expected.split(' ').next().unwrap_or_default() {
        "struct" | "map" => "an object",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number",
        _ => match expected {
            "a map" => "an object",
            "a sequence" => "an array",
            other => other,
        },
    };
    format!("{found}, expected {expected}{place}")
}

/// A query.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let unread = |e: QueryRejection| why(reason(&e.body_text()), "the query");
        read.map(|axum::extract::Query(value)| Self(value)).map_err(unread)
    }
}

/// The sandbox that a path names: by its id or its name.
pub(crate) struct Sandbox(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Sandbox {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = axum::extract::Path::<Vec<(String, String)>>::from_request_parts(parts, state);
        let path = path.await.map_err(|e: PathRejection| ApiError::usage(e.body_text()))?;
        let word = path.0.into_iter().find(|(key, _)| key == "sandbox").map(|(_, word)| word);
        sandbox("the path", &word.unwrap_or_default()).map(Self)
    }
}

/// What a sandbox is called: its id or its name.
pub(crate) fn sandbox(what: &str, word: &str) -> Answer<String> {
    if word.parse::<Name>().is_ok() || word.parse::<SandboxId>().is_ok() {
        return Ok(word.to_owned());
    }
    let what = format!("{what} has neither the id nor the name of a sandbox");
    Err(ApiError::refused(StatusCode::NOT_FOUND, what))
}

/// A size as everywhere: `512M`.
pub(crate) fn size(what: &str, text: &str) -> Answer<Size> {
    text.parse().map_err(|e| ApiError::usage(format!("{what}: {e}")))
}

/// A span of time as everywhere: `1500ms`.
pub(crate) fn span(what: &str, text: &str) -> Answer<Span> {
    let text = if text == "0" { "0s" } else { text };
    text.parse().map_err(|e| ApiError::usage(format!("{what}: {e}")))
}

/// How long something may take.
pub(crate) fn timeout(what: &str, text: &str) -> Answer<Span> {
    match span(what, text)? {
        none if none.as_millis() == 0 => Err(ApiError::usage(format!("{what}: the least is 1ms"))),
        some => Ok(some),
    }
}

/// Bytes, as text or in base64.
pub(crate) fn bytes(what: &str, text: Option<String>, base64: Option<&str>) -> Answer<Vec<u8>> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(ApiError::usage(format!("there is both {what} and {what}_bytes")))
        }
        (None, Some(base64)) => BASE64_STANDARD
            .decode(base64)
            .map_err(|e| ApiError::usage(format!("{what}_bytes is no base64: {e}"))),
        (text, None) => Ok(text.unwrap_or_default().into_bytes()),
    }
}

/// A path in a sandbox, which has no directory to be relative to.
pub(crate) fn absolute(what: &str, path: &str) -> Answer<()> {
    plain(what, path)?;
    if path.starts_with('/') {
        return Ok(());
    }
    let path: String = path.chars().take(80).collect();
    Err(ApiError::usage(format!("{what} '{path}': a path in a sandbox must be absolute")))
}

/// Refuses NUL bytes, which a guest could not pass on.
pub(crate) fn plain(what: &str, text: &str) -> Answer<()> {
    let nul = text.contains('\0');
    if nul { Err(ApiError::usage(format!("{what} has a NUL byte in it"))) } else { Ok(()) }
}

/// Environment variables, whose names are neither empty nor have a `=`.
pub(crate) fn variables(env: BTreeMap<String, String>) -> Answer<Vec<(String, String)>> {
    for (key, value) in &env {
        plain("env", key)?;
        plain("env", value)?;
        if key.is_empty() || key.contains('=') {
            let key: String = key.chars().take(80).collect();
            return Err(ApiError::usage(format!("env: '{key}' is no name of a variable")));
        }
    }
    Ok(env.into_iter().collect())
}

/// What is noted about something, by keys that are neither empty nor have a `=`.
pub(crate) fn labels(labels: BTreeMap<String, String>) -> Answer<BTreeMap<String, String>> {
    limits::labels(&labels).map_err(|e| ApiError::usage(format!("labels: {e}")))?;
    Ok(labels)
}

/// A mode as people write it: `0644`.
pub(crate) fn mode(text: Option<&str>) -> Answer<Option<u32>> {
    let Some(text) = text else { return Ok(None) };
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    let bad = || ApiError::usage(format!("mode: '{}' is no octal mode", text.escape_debug()));
    mode.map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is only read")]
    struct Asked {
        name: String,
        cpus: Option<u32>,
        size: Option<Inner>,
        env: Option<BTreeMap<String, String>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is only read")]
    struct Inner {
        rows: u16,
    }

    #[test]
    fn a_body_is_an_object_and_a_refusal_speaks_of_its_keys() {
        let cases = [
            (r#"["d", 1]"#, "it is no JSON object"),
            (r#""d""#, "it is no JSON object"),
            ("null", "it is no JSON object"),
            (r#"{"name": 1}"#, "name: invalid type: integer `1`, expected a string"),
            (
                r#"{"name": "d", "cpus": "x"}"#,
                "cpus: invalid type: string \"x\", expected a whole number",
            ),
            (r#"{"name": "d", "size": 3}"#, "size: invalid type: integer `3`, expected an object"),
            (r#"{"name": "d", "env": []}"#, "env: invalid type: sequence, expected an object"),
            ("{}", "missing field `name`"),
            ("{", "EOF"),
        ];
        for (json, expected) in cases {
            let said = object::<Asked>("the body", json.as_bytes()).unwrap_err().to_string();
            assert!(said.starts_with("the body is not what this route takes: "), "{said}");
            assert!(said.contains(expected), "{json}: {said}");
            assert!(!said.contains("Asked") && !said.contains("struct"), "{json}: {said}");
        }
        assert_eq!(object::<Asked>("the body", b" {\"name\": \"d\"}").unwrap().name, "d");
    }
}
