//! The streams of a guest's to another one, so that it can be told when that
//! one is gone.

use std::collections::HashMap;

use crate::crossing::Segment;
use crate::gate::Ends;

/// The most streams that are known at once.
const MAX_STREAMS: usize = 1024;

/// What is known of a stream.
#[derive(Debug)]
struct Stream {
    /// Which byte the guest wants next.
    next: u32,
    /// Whether the guest has said all, and whether the other one has.
    said: bool,
    heard: bool,
    /// How many segments had come before its last one.
    age: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    all: HashMap<Ends, Stream>,
    clock: u64,
}

impl Streams {
    /// The guest sends this.
    pub(crate) fn sends(&mut self, segment: Segment) {
        let Segment { ends, next: Some(next), last } = segment else {
            self.all.remove(&segment.ends);
            return;
        };
        self.clock += 1;
        let known = self.all.get(&ends);
        let (said, heard) = known.map_or((last, false), |old| (old.said || last, old.heard));
        if said && heard {
            self.all.remove(&ends);
            return;
        }
        if known.is_none() && self.all.len() >= MAX_STREAMS {
            self.forget();
        }
        self.all.insert(ends, Stream { next, said, heard, age: self.clock });
    }

    /// The guest hears this.
    pub(crate) fn hears(&mut self, segment: Segment) {
        let Ends { guest, there } = segment.ends;
        let own = Ends { guest: there, there: guest };
        match self.all.get_mut(&own) {
            Some(stream) if segment.last => stream.heard = true,
            _ => {}
        }
    }

    /// Those that live, and which byte the guest wants next of each.
    pub(crate) fn living(self) -> impl Iterator<Item = (Ends, u32)> {
        self.all.into_iter().map(|(ends, stream)| (ends, stream.next))
    }

    /// Makes room: what has ended on one side goes first, then what was silent
    /// for longest.
    fn forget(&mut self) {
        let rank = |stream: &Stream| (!(stream.said || stream.heard), stream.age);
        let first = self.all.iter().min_by_key(|(_, stream)| rank(stream)).map(|(ends, _)| *ends);
        if let Some(ends) = first {
            self.all.remove(&ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(port: u16, last: bool) -> Segment {
        let ends = Ends { guest: ([10, 0, 0, 1], port).into(), there: ([10, 0, 0, 2], 80).into() };
        Segment { ends, next: Some(7), last }
    }

    fn turned(segment: Segment) -> Segment {
        let Ends { guest, there } = segment.ends;
        Segment { ends: Ends { guest: there, there: guest }, ..segment }
    }

    #[test]
    fn a_stream_that_was_closed_is_forgotten_whoever_was_first() {
        let mut streams = Streams::default();
        streams.sends(segment(1, true));
        streams.hears(turned(segment(1, true)));
        streams.sends(segment(1, false));
        streams.sends(segment(2, false));
        streams.hears(turned(segment(2, true)));
        streams.sends(segment(2, true));
        assert_eq!(streams.living().count(), 0);
    }

    #[test]
    fn those_that_live_are_told_however_many_have_come_and_gone() {
        let mut streams = Streams::default();
        streams.sends(segment(1, false));
        for port in 2..5000 {
            streams.sends(segment(port, false));
            streams.sends(segment(port, true));
        }
        assert!(streams.all.len() <= MAX_STREAMS);
        assert!(streams.living().any(|(ends, next)| (ends.guest.port(), next) == (1, 7)));
    }

    #[test]
    fn of_too_many_the_last_ones_are_known() {
        let mut streams = Streams::default();
        for port in 1..=2000 {
            streams.sends(segment(port, false));
        }
        let mut ports: Vec<_> = streams.living().map(|(ends, _)| ends.guest.port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, (2001 - MAX_STREAMS as u16..=2000).collect::<Vec<_>>());
    }
}
