//! What a keeper has to do, as a pure function of what happened and when.
//!
//! It makes one member at a time, so that a host is never busier with members
//! than with what they are for. A member that could not be made, or ended
//! before anybody claimed it, is followed by a pause that doubles each time.
//!
//! Time is an argument, so that the tests need no clock.

use std::time::{Duration, Instant};

/// The pause after a first failure.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);
/// After so long without a failure the next one counts as the first.
const CALM: Duration = Duration::from_mins(10);

/// How long the first command of a claimed member has the processors to itself
/// while others are still ready.
const BREATH: Duration = Duration::from_millis(200);

/// What a keeper should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Make a member.
    Make,
    /// Nothing before then, if nothing happens.
    Wait(Option<Instant>),
    /// End: nobody has claimed a member for too long.
    End,
}

/// What happens to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    /// A member is being made.
    Begun,
    /// The member that was being made is ready.
    Ready,
    /// The member that was being made will never be ready.
    Failed,
    /// A member that was ready was claimed.
    Claimed,
    /// A member that was ready ended.
    Lost,
    /// A member that was ready is not what is wanted any more.
    Outdated,
}

/// The members of a pool.
#[derive(Debug)]
pub(super) struct Stock {
    size: u32,
    ready: u32,
    making: bool,
    failures: u32,
    /// Nothing is made before.
    not_before: Instant,
    quiet_since: Instant,
    ttl: Option<Duration>,
}

impl Stock {
    /// An empty pool that should hold `size` members; with a `ttl` it ends
    /// after so much quiet.
    pub(super) fn new(now: Instant, size: u32, ttl: Option<Duration>) -> Self {
        let (ready, making, failures) = (0, false, 0);
        Self { size, ready, making, failures, not_before: now, quiet_since: now, ttl }
    }

    /// What to do now.
    pub(super) fn duty(&self, now: Instant) -> Duty {
        let ends = self.ttl.and_then(|ttl| self.quiet_since.checked_add(ttl));
        if ends.is_some_and(|ends| ends <= now) {
            Duty::End
        } else if self.making || self.ready >= self.size {
            Duty::Wait(ends)
        } else if self.not_before <= now {
            Duty::Make
        } else {
            Duty::Wait(Some(ends.map_or(self.not_before, |ends| ends.min(self.not_before))))
        }
    }

    /// Lives through a happening.
    pub(super) fn live(&mut self, what: Happening, now: Instant) {
        match what {
            Happening::Begun => self.making = true,
            Happening::Ready => (self.making, self.ready) = (false, self.ready + 1),
            Happening::Claimed => {
                self.ready = self.ready.saturating_sub(1);
                (self.quiet_since, self.failures) = (now, 0);
                if self.ready > 0 {
                    self.not_before = self.not_before.max(now + BREATH);
                }
            }
            Happening::Failed => {
                self.making = false;
                self.fail(now);
            }
            Happening::Outdated => self.ready = self.ready.saturating_sub(1),
            Happening::Lost => {
                self.ready = self.ready.saturating_sub(1);
                self.fail(now);
            }
        }
    }

    fn fail(&mut self, now: Instant) {
        if now.saturating_duration_since(self.not_before) > CALM {
            self.failures = 0;
        }
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fate() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => Just(Happening::Ready),
            1 => Just(Happening::Failed),
            2 => Just(Happening::Claimed),
            1 => Just(Happening::Lost),
            1 => Just(Happening::Outdated),
        ]
    }

    proptest! {
        #[test]
        fn a_pool_never_holds_too_many_and_always_has_a_next_step(
            size in 1_u32..5,
            fates in proptest::collection::vec((fate(), 0_u64..5000), 0..200),
        ) {
            let mut now = Instant::now();
            let mut stock = Stock::new(now, size, None);
            let (mut ready, mut making, mut pause_ends) = (0, false, now);
            for (fate, ms) in fates {
                now += Duration::from_millis(ms);
                if stock.duty(now) == Duty::Make {
                    prop_assert!(!making && ready < size && pause_ends <= now);
                    stock.live(Happening::Begun, now);
                    making = true;
                }
                match fate {
                    Happening::Ready if making => (making, ready) = (false, ready + 1),
                    Happening::Failed if making => making = false,
                    Happening::Claimed | Happening::Lost | Happening::Outdated if ready > 0 => {
                        ready -= 1;
                    }
                    _ => continue,
                }
                stock.live(fate, now);
                if matches!(fate, Happening::Failed | Happening::Lost) {
                    pause_ends = now + PAUSE;
                }
                // A pool that is not full is making one, or knows when it will.
                match stock.duty(now) {
                    Duty::Wait(None) => prop_assert!(making || ready == size),
                    Duty::Wait(Some(at)) => {
                        prop_assert!(at > now && at - now <= LONGEST);
                        prop_assert_eq!(stock.duty(at), Duty::Make);
                    }
                    Duty::Make => prop_assert!(!making && ready < size),
                    Duty::End => prop_assert!(false, "it has no ttl"),
                }
            }
        }
    }

    #[test]
    fn failures_in_a_row_are_ever_further_apart() {
        let born = Instant::now();
        let (mut now, mut stock) = (born, Stock::new(born, 1, None));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            stock.live(Happening::Begun, now);
            stock.live(Happening::Failed, now);
            let Duty::Wait(Some(at)) = stock.duty(now) else { panic!("it does not wait") };
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses[..4], [500, 1000, 2000, 4000]);
        assert_eq!(pauses[7..], [60_000; 3]);
        now += CALM + PAUSE;
        stock.live(Happening::Failed, now);
        assert_eq!(stock.duty(now), Duty::Wait(Some(now + PAUSE)));
    }

    #[test]
    fn a_claim_has_the_processors_to_itself_while_others_are_ready() {
        let born = Instant::now();
        let mut stock = Stock::new(born, 2, None);
        for _ in 0..2 {
            stock.live(Happening::Begun, born);
            stock.live(Happening::Ready, born);
        }
        stock.live(Happening::Claimed, born);
        assert_eq!(stock.duty(born), Duty::Wait(Some(born + BREATH)));
        assert_eq!(stock.duty(born + BREATH), Duty::Make);
        // The last one is missed at once.
        let mut stock = Stock::new(born, 1, None);
        stock.live(Happening::Begun, born);
        stock.live(Happening::Ready, born);
        stock.live(Happening::Claimed, born);
        assert_eq!(stock.duty(born), Duty::Make);
    }

    #[test]
    fn a_ttl_counts_from_the_last_claim() {
        let born = Instant::now();
        let second = |s| born + Duration::from_secs(s);
        let mut stock = Stock::new(born, 1, Some(Duration::from_secs(10)));
        stock.live(Happening::Begun, born);
        stock.live(Happening::Ready, second(1));
        assert_eq!(stock.duty(second(1)), Duty::Wait(Some(second(10))));
        stock.live(Happening::Claimed, second(9));
        assert_eq!(stock.duty(second(10)), Duty::Make);
        assert_eq!(stock.duty(second(19)), Duty::End);
    }
}
