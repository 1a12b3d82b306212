//! Headers that say how a message is carried, and not what it is.

use http::header::{self, HeaderName};

/// What is between two ends of one connection, and goes no further.
pub(crate) const OF_ONE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // Whoever expects something hears of it from us.
    header::EXPECT,
    // Another way to the server, around us.
    header::ALT_SVC,
];
/// What would let a value come back in parts, or in other bytes.
pub(crate) const OF_PARTS: [HeaderName; 4] = [
    header::RANGE,
    header::IF_RANGE,
    // Some servers still know it as a range.
    HeaderName::from_static("request-range"),
    header::ACCEPT_CHARSET,
];
/// What goes on, and in words of ours or of its own alone.
const OF_THE_WAY: [HeaderName; 6] = [
    header::ACCEPT_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
];

/// Whether it is one of them: what is in it does not reach a server as it is.
pub(crate) fn is_of_it(name: &HeaderName) -> bool {
    OF_ONE_HOP.contains(name) || OF_PARTS.contains(name) || OF_THE_WAY.contains(name)
}
