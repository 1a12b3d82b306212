//! The life of a session as a pure function.
//!
//! ```text
//!      Stop, quiet for the TTL, or orphaned
//!  Serving ------------------------------> Ending --+-- nothing runs any more, or
//!     |                                      |      |   the grace is over
//!     |          the machine ended           |      v
//!     +--------------------------------------+--> Over
//! ```
//!
//! Time is an argument, so that the tests need no clock.

use std::time::{Duration, Instant};

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// What runs was asked to end, and has until then.
    Ending(Instant),
    /// There is nothing more to do but to remove it.
    Over(Why),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody asked for it.
    Stopped,
    /// Nobody wanted anything for its TTL.
    Quiet,
    /// Who it was attached to is gone.
    Orphaned,
    /// Its machine ended by itself.
    Crashed,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    /// A request came.
    Began,
    /// A request was answered.
    Answered,
    /// Somebody wants it to end, and gives what runs this long.
    Stop(Duration),
    /// Who started it is gone.
    Orphaned,
    /// Whether who started it is there matters no more.
    Detached,
    /// The machine ended by itself.
    MachineEnded,
    /// Time went by.
    Tick,
}

/// A session's life so far.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    phase: Phase,
    why: Why,
    requests: u64,
    quiet_since: Instant,
    ttl: Option<Duration>,
    attached: bool,
}

impl Life {
    /// A session that is born now; with a `ttl` it ends after so much quiet,
    /// and where it is `attached`, with who started it.
    pub(crate) fn new(now: Instant, ttl: Option<Duration>, attached: bool) -> Self {
        let (phase, why) = (Phase::Serving, Why::Stopped);
        Self { phase, why, requests: 0, quiet_since: now, ttl, attached }
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// How many requests are being served.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// When it wants to hear of a [`Happening::Tick`].
    pub(crate) fn wakes(&self) -> Option<Instant> {
        match self.phase {
            Phase::Serving if self.requests == 0 => self.quiet_since.checked_add(self.ttl?),
            Phase::Ending(until) => Some(until),
            Phase::Serving | Phase::Over(_) => None,
        }
    }

    /// Lives through a happening.
    pub(crate) fn live(&mut self, what: Happening, now: Instant) {
        match what {
            Happening::Began => self.requests += 1,
            Happening::Answered => self.requests = self.requests.saturating_sub(1),
            Happening::Stop(grace) if self.phase == Phase::Serving => {
                self.end(Why::Stopped, now.checked_add(grace).unwrap_or(now));
            }
            Happening::Orphaned if self.attached && self.phase == Phase::Serving => {
                self.end(Why::Orphaned, now);
            }
            Happening::Detached => self.attached = false,
            Happening::MachineEnded if !matches!(self.phase, Phase::Over(_)) => {
                self.phase = Phase::Over(Why::Crashed);
            }
            Happening::Stop(_)
            | Happening::Orphaned
            | Happening::MachineEnded
            | Happening::Tick => {}
        }
        if matches!(what, Happening::Began | Happening::Answered) {
            self.quiet_since = now;
        }
        self.grow_old(now);
    }

    fn end(&mut self, why: Why, until: Instant) {
        self.why = why;
        self.phase = Phase::Ending(until);
    }

    fn grow_old(&mut self, now: Instant) {
        if self.phase == Phase::Serving && self.wakes().is_some_and(|at| at <= now) {
            self.end(Why::Quiet, now);
        }
        if let Phase::Ending(until) = self.phase
            && (self.requests == 0 || until <= now)
        {
            self.phase = Phase::Over(self.why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            4 => Just(Happening::Began),
            4 => Just(Happening::Answered),
            1 => (0_u64..100).prop_map(|ms| Happening::Stop(Duration::from_millis(ms))),
            1 => Just(Happening::Orphaned),
            1 => Just(Happening::Detached),
            1 => Just(Happening::MachineEnded),
            4 => Just(Happening::Tick),
        ]
    }

    proptest! {
        #[test]
        fn any_life_keeps_the_rules(
            ttl in proptest::option::of(1_u64..50),
            attached: bool,
            happenings in proptest::collection::vec((happening(), 0_u64..40), 0..60),
        ) {
            let born = Instant::now();
            let mut life = Life::new(born, ttl.map(Duration::from_millis), attached);
            let (mut now, mut running, mut asked, mut busy) = (born, 0_u64, false, born);
            let mut attached = attached;
            for (what, ms) in happenings {
                now += Duration::from_millis(ms);
                let before = life.phase();
                life.live(what, now);
                match what {
                    Happening::Began => running += 1,
                    Happening::Answered => running = running.saturating_sub(1),
                    Happening::Stop(_) => asked = true,
                    Happening::Detached => attached = false,
                    _ => {}
                }
                match (before, life.phase()) {
                    // What is over stays over, for the same reason.
                    (Phase::Over(why), after) => prop_assert_eq!(after, Phase::Over(why)),
                    (_, Phase::Over(Why::Crashed)) => {
                        prop_assert_eq!(what, Happening::MachineEnded);
                    }
                    (_, Phase::Over(Why::Stopped)) => prop_assert!(asked),
                    (_, Phase::Over(Why::Orphaned)) => {
                        prop_assert!(attached);
                        prop_assert_eq!(what, Happening::Orphaned);
                    }
                    // Quiet means that nothing ran, and for long enough.
                    (_, Phase::Over(Why::Quiet)) => {
                        prop_assert_eq!(running, 0);
                        prop_assert!(now - busy >= Duration::from_millis(ttl.unwrap()));
                    }
                    // Whoever waits for an end waits for something.
                    (_, Phase::Ending(until)) => prop_assert!(running > 0 && until > now),
                    (_, Phase::Serving) => prop_assert!(!asked),
                }
                if matches!(what, Happening::Began | Happening::Answered) {
                    busy = now;
                }
            }
        }

        #[test]
        fn every_end_comes(grace in 0_u64..1000, running in 0_u64..5) {
            let now = Instant::now();
            let mut life = Life::new(now, None, false);
            for _ in 0..running {
                life.live(Happening::Began, now);
            }
            life.live(Happening::Stop(Duration::from_millis(grace)), now);
            if let Some(at) = life.wakes() {
                life.live(Happening::Tick, at);
            }
            prop_assert_eq!(life.phase(), Phase::Over(Why::Stopped));
        }
    }

    #[test]
    fn an_orphan_ends_unless_it_was_detached() {
        let now = Instant::now();
        for (attached, detached, ends) in
            [(true, false, true), (true, true, false), (false, false, false)]
        {
            let mut life = Life::new(now, None, attached);
            if detached {
                life.live(Happening::Detached, now);
            }
            life.live(Happening::Began, now);
            life.live(Happening::Orphaned, now);
            assert_eq!(life.phase() == Phase::Over(Why::Orphaned), ends);
        }
    }

    #[test]
    fn a_ttl_counts_from_the_last_answer() {
        let born = Instant::now();
        let second = |s| born + Duration::from_secs(s);
        let mut life = Life::new(born, Some(Duration::from_secs(10)), false);
        assert_eq!(life.wakes(), Some(second(10)));
        life.live(Happening::Began, second(5));
        assert_eq!(life.wakes(), None);
        life.live(Happening::Tick, second(100));
        assert_eq!(life.phase(), Phase::Serving);
        life.live(Happening::Answered, second(100));
        assert_eq!(life.wakes(), Some(second(110)));
        life.live(Happening::Tick, second(110));
        assert_eq!(life.phase(), Phase::Over(Why::Quiet));
    }
}
