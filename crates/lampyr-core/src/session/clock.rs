//! The guest's wall clock goes by itself. Ours may jump, when this host has
//! slept or somebody has set it, and then the guest is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lampyr_proto::Request;

use crate::channel::Channel;

/// How often an idle session looks.
pub(super) const EVERY: Duration = Duration::from_secs(30);
/// What is no jump, but a clock that is being steered.
const STEERED: Duration = Duration::from_millis(200);
/// How long the guest may take to set its clock.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the guest was told of the time.
pub(super) struct WallClock {
    born: Instant,
    /// The wall clock when the other one began, in nanoseconds since 1970.
    told: AtomicI64,
}

impl WallClock {
    /// The guest was told just now.
    pub(super) fn told() -> Self {
        let clock = Self { born: Instant::now(), told: AtomicI64::new(0) };
        clock.told.store(clock.began(), Ordering::Relaxed);
        clock
    }

    /// By our two clocks: the one that people look at stands still or jumps,
    /// the other one only goes while this host runs.
    fn began(&self) -> i64 {
        now().saturating_sub(nanos(self.born.elapsed()))
    }

    /// Tells the guest what time it is where ours has jumped since it last
    /// heard.
    pub(super) async fn keep(&self, channel: &Channel) {
        let began = self.began();
        // What is steered adds up, so what was told stays until there is more.
        if has_jumped(self.told.load(Ordering::Relaxed), began) {
            self.told.store(began, Ordering::Relaxed);
            let request = Request::Clock(now().unsigned_abs());
            // A guest that does not answer is noticed by who asks it next.
            let _ = tokio::time::timeout(PATIENCE, channel.ask(&request)).await;
        }
    }
}

fn has_jumped(before: i64, now: i64) -> bool {
    now.abs_diff(before) > STEERED.as_nanos() as u64
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos)
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steered_clock_has_not_jumped_and_one_that_slept_has() {
        let second = 1_000_000_000;
        assert!(!has_jumped(5 * second, 5 * second + second / 10));
        assert!(has_jumped(5 * second, 6 * second));
        assert!(has_jumped(6 * second, 5 * second));
        let clock = WallClock::told();
        assert!(!has_jumped(clock.told.load(Ordering::Relaxed), clock.began()));
    }
}
