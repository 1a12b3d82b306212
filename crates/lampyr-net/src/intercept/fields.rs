//! The heads of requests and responses, as they go on: pure functions.

use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::basic;
use super::mask::Mask;
use super::pattern::Values;
use crate::carriage::{OF_ONE_HOP, OF_PARTS};
use crate::domain::Domain;
use crate::secret::{Secret, USUAL_HEADER};

/// Makes the head of a request what the server is to see.
pub(super) fn outgoing(headers: &mut HeaderMap, secrets: &[Secret], host: &Domain) {
    drop_hop(headers);
    for name in OF_PARTS {
        headers.remove(name);
    }
    // In what is compressed nobody finds a value.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for secret in secrets.iter().filter(|secret| secret.host() == host) {
        let Ok(name) = HeaderName::from_bytes(secret.header().as_bytes()) else { continue };
        if let header::Entry::Occupied(mut entry) = headers.entry(name) {
            entry.iter_mut().for_each(|value| put(value, secret));
        }
    }
}

/// Makes the head of a request say that its body comes in chunks.
pub(super) fn in_chunks(headers: &mut HeaderMap) {
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Puts a value where its placeholder is, be it inside `Basic` credentials.
fn put(field: &mut HeaderValue, secret: &Secret) {
    let Ok(text) = field.to_str() else { return };
    let told = if text.contains(secret.placeholder()) {
        Some(text.replace(secret.placeholder(), secret.value()))
    } else if secret.header() == USUAL_HEADER {
        basic::put(text, secret)
    } else {
        None
    };
    if let Some(Ok(mut told)) = told.map(HeaderValue::try_from) {
        told.set_sensitive(true);
        *field = told;
    }
}

/// Makes the head of a response what the guest may see.
pub(super) fn incoming(headers: &HeaderMap, values: &Values) -> HeaderMap {
    let mut own = headers.clone();
    drop_hop(&mut own);
    let kept = own.iter().filter(|(name, _)| !holds(name.as_str(), values));
    let masked = kept.filter_map(|(name, value)| {
        let masked = HeaderValue::from_bytes(&Mask::whole(values, value.as_bytes()));
        Some((name.clone(), masked.ok()?))
    });
    masked.collect()
}

/// Whether a header's very name holds a value. It comes in lower case.
fn holds(name: &str, values: &Values) -> bool {
    values.iter().any(|value| value.is_in_lower(name))
}

/// Whether a body is sent as it is, so that a value in it can be seen.
/// `aws-chunked` is what a client has put around what it stored; what a server
/// answers with is without it.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let mut content = listed(headers, &header::CONTENT_ENCODING);
    let plain = [&b""[..], b"identity", b"aws-chunked"];
    // Chunks in chunks would cut a value, so there is one layer of them.
    let mut transfer = listed(headers, &header::TRANSFER_ENCODING);
    content.all(|coding| plain.iter().any(|plain| coding.eq_ignore_ascii_case(plain)))
        && transfer.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        && transfer.next().is_none()
}

/// The members of a list, which can be in several fields.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(name).iter();
    fields.flat_map(|field| field.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

/// Whether a request is for this host.
pub(super) fn is_for(uri: &Uri, headers: &HeaderMap, host: &Domain) -> bool {
    let named: Vec<_> = headers.get_all(header::HOST).iter().collect();
    let good = |authority: &str| {
        authority.parse::<http::uri::Authority>().is_ok_and(|authority| {
            !authority.as_str().contains('@')
                && Domain::parse(authority.host()).as_ref() == Ok(host)
        })
    };
    let [field] = named.as_slice() else { return false };
    let line = uri.authority().is_none_or(|authority| good(authority.as_str()));
    line && field.to_str().is_ok_and(good)
}

fn drop_hop(headers: &mut HeaderMap) {
    let listed = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let listed = listed.flat_map(|value| value.split(','));
    let named: Vec<HeaderName> = listed.filter_map(|name| name.trim().parse().ok()).collect();
    for name in OF_ONE_HOP.iter().chain(&named).filter(|name| **name != header::HOST) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::values;
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use zeroize::Zeroizing;

    fn host(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn secret(host_name: &str, header: &str) -> Secret {
        let value = Zeroizing::new("the-real-value".to_owned());
        Secret::new("TOKEN", host(host_name), header, value).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_value_goes_into_its_header_and_no_other() {
        let secret = secret("a.example.com", "Authorization");
        let bearer = format!("Bearer {}", secret.placeholder());
        let given = [("authorization", bearer.as_str()), ("x-other", &bearer)];
        let mut own = headers(&given);
        outgoing(&mut own, std::slice::from_ref(&secret), &host("a.example.com"));
        assert_eq!(own["authorization"], "Bearer the-real-value");
        assert_eq!(own["x-other"], bearer.as_str());
        let mut others = headers(&given);
        outgoing(&mut others, &[secret], &host("b.example.com"));
        assert_eq!(others["authorization"], bearer.as_str());
    }

    #[test]
    fn credentials_are_looked_into_in_one_header() {
        let rows = [("authorization", true), ("proxy-authorization", false), ("x-key", false)];
        for (name, goes) in rows {
            let secret = secret("a.example.com", name);
            let basic = |inside: &str| format!("Basic {}", STANDARD.encode(inside));
            let given = basic(&format!("x:{}", secret.placeholder()));
            let mut own = headers(&[(name, &given)]);
            outgoing(&mut own, &[secret], &host("a.example.com"));
            let expected = if goes { basic("x:the-real-value") } else { given };
            assert_eq!(own[name], expected.as_str());
        }
    }

    #[test]
    fn what_is_of_one_hop_stays_there() {
        let given = [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("range", "bytes=0-3"),
            ("request-range", "bytes=0-3"),
            ("accept-charset", "utf-16"),
            ("accept-encoding", "gzip"),
            ("accept", "*/*"),
        ];
        let mut own = headers(&given);
        outgoing(&mut own, &[], &host("a.example.com"));
        assert_eq!(own, headers(&[("accept", "*/*"), ("accept-encoding", "identity")]));
    }

    #[test]
    fn a_response_has_no_value_in_its_head() {
        let values = values(&[secret("a.example.com", "Authorization")]);
        let given = headers(&[
            ("x-echo", "Bearer the-real-value!"),
            ("x-the-real-value", "1"),
            ("x-dtp0agutcmvhbc12ywx1zq", "1"),
            ("x-sent", "Basic dTp0aGUtcmVhbC12YWx1ZQ=="),
            ("content-length", "3"),
            ("alt-svc", "h3=\":443\""),
        ]);
        let expected = headers(&[
            ("x-echo", "Bearer **************!"),
            ("x-sent", "Basic dT********************=="),
            ("content-length", "3"),
        ]);
        assert_eq!(incoming(&given, &values), expected);
    }

    #[test]
    fn only_a_plain_body_can_be_seen_through() {
        let rows = [
            ("transfer-encoding", "Chunked", true),
            ("transfer-encoding", "gzip, chunked", false),
            ("transfer-encoding", "chunked, chunked", false),
            ("content-encoding", "", true),
            ("content-encoding", "Identity", true),
            ("content-encoding", "aws-chunked", true),
            ("content-encoding", "br", false),
            ("content-encoding", "aws-chunked,gzip", false),
            ("content-encoding", "identity\", gzip", false),
        ];
        for (name, value, plain) in rows {
            assert_eq!(is_plain(&headers(&[(name, value)])), plain, "{name}: {value}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        let mut twice_over = HeaderMap::new();
        for (name, value) in twice {
            twice_over.append(name, value.parse().unwrap());
        }
        assert!(!is_plain(&twice_over));
    }

    #[test]
    fn a_request_is_for_one_host() {
        let is_for_a = |uri: &str, hosts: &[(&'static str, &str)]| {
            is_for(&uri.parse().unwrap(), &headers(hosts), &host("a.example.com"))
        };
        assert!(is_for_a("/", &[("host", "A.example.com:443")]));
        assert!(is_for_a("https://a.example.com/", &[("host", "a.example.com")]));
        assert!(!is_for_a("/", &[]));
        assert!(!is_for_a("/", &[("host", "b.example.com")]));
        assert!(!is_for_a("/", &[("host", "a.example.com"), ("host", "b.example.com")]));
        assert!(!is_for_a("/", &[("host", "x@a.example.com")]));
        assert!(!is_for_a("https://b.example.com/", &[("host", "a.example.com")]));
    }
}
