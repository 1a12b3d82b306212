//! Server-Sent Events, as our server writes them: each has a name and one line
//! of data. No I/O.

use serde_json::{Map, Value};

use crate::error::Error;

/// The longest event that our server sends, in bytes, and much more.
const MAX_EVENT: usize = 8 << 20;

/// An event: its name, and the object that is its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Map<String, Value>,
}

/// A stream of events that is fed bytes.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// A line whose end has not come yet, after what was read already.
    held: Vec<u8>,
    /// How much of that has no end of a line in it.
    searched: usize,
    name: String,
}

impl Events {
    /// Takes what came.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next event, once it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(line) = self.line() {
            let line = String::from_utf8(line).map_err(|_| gibberish())?;
            let (key, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match key {
                "event" => value.clone_into(&mut self.name),
                "data" => {
                    let data = serde_json::from_str(value).map_err(|_| gibberish())?;
                    return Ok(Some(Event { name: std::mem::take(&mut self.name), data }));
                }
                // A comment keeps the connection alive; an empty line ends an event.
                _ => {}
            }
        }
        if self.held.len() > MAX_EVENT { Err(gibberish()) } else { Ok(None) }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.held[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.held.len();
            return None;
        };
        self.searched = 0;
        let rest = self.held.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.held, rest);
        line.pop();
        Some(line)
    }
}

fn gibberish() -> Error {
    Error::connection("lampyr's server sent an event that is none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn all(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<(String, Value)> {
        let (mut events, mut told) = (Events::default(), Vec::new());
        for piece in pieces {
            events.feed(&piece);
            while let Some(event) = events.next().unwrap() {
                told.push((event.name, event.data.into()));
            }
        }
        told
    }

    const STREAM: &str = "event: step\ndata: {\"index\":1}\n\n:\n\nevent: output\n\
        data: {\"data\":\"gr\u{fc}n\\n\"}\n\nevent:built\ndata:{}\n\n";

    fn expected() -> Vec<(String, Value)> {
        vec![
            ("step".into(), json!({"index": 1})),
            ("output".into(), json!({"data": "gr\u{fc}n\n"})),
            ("built".into(), json!({})),
        ]
    }

    #[test]
    fn events_may_be_split_at_any_byte() {
        let bytes = STREAM.as_bytes();
        assert_eq!(all(bytes.iter().map(|byte| vec![*byte])), expected());
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(all([first.to_vec(), second.to_vec()]), expected(), "{at}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..=8).map(|_| {
            events.feed(&piece);
            events.next().is_err()
        });
        assert_eq!(refused.filter(|refused| *refused).count(), 1);
    }

    #[test]
    fn data_that_is_no_object_is_refused() {
        for line in ["data: 1\n", "data: {\n", "data: \n"] {
            let mut events = Events::default();
            events.feed(line.as_bytes());
            assert!(events.next().is_err(), "{line}");
        }
        let mut events = Events::default();
        events.feed(b"data: {\"\xff\":1}\n");
        assert!(events.next().is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(pieces in any::<Vec<Vec<u8>>>()) {
            let mut events = Events::default();
            for piece in pieces {
                events.feed(&piece);
                while let Ok(Some(_)) = events.next() {}
            }
        }
    }
}
