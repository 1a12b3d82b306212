//! How much may go through: a bucket for each way, filled at the rate and
//! shared by all streams that want of it. Time is an argument.

use std::time::{Duration, Instant};

/// A full bucket lasts for a second divided by this.
const BURST: u64 = 8;
/// No bucket is smaller, in bytes: the longest packet fits.
const LEAST_BURST: u64 = 16 << 10;
/// So many bytes a second are told of datagrams that do not go.
const REFUSALS: u64 = 16 << 10;
/// Nobody is woken for less than so much of a bucket.
const SIP: u64 = 4;

/// Bytes that may go now, and more of them as time goes by.
#[derive(Debug, Clone)]
struct Bucket {
    rate: u64,
    most: u64,
    level: u64,
    /// Until when it was filled.
    filled: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let most = (rate / BURST).max(LEAST_BURST);
        Self { rate: rate.max(1), most, level: most, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled);
        let more = elapsed.as_nanos().saturating_mul(self.rate.into()) / 1_000_000_000;
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        if more == 0 {
            return;
        }
        self.level = self.level.saturating_add(more).min(self.most);
        // What is left of a byte is kept for the next time.
        self.filled = if self.level == self.most { now } else { self.filled + self.takes(more) };
    }

    /// How long so many bytes take to come.
    fn takes(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// One way of a guest's traffic.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    bucket: Option<Bucket>,
    /// Streams that wanted more than they got, before and now.
    before: u64,
    wanting: u64,
}

impl Way {
    pub(crate) fn new(rate: Option<u64>, now: Instant) -> Self {
        Self { bucket: rate.map(|rate| Bucket::new(rate, now)), before: 0, wanting: 0 }
    }

    /// Begins another round, in which each stream has its turn.
    pub(crate) fn begin(&mut self, now: Instant) {
        (self.before, self.wanting) = (self.wanting, 0);
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now);
        }
    }

    /// How much the next stream may move in its turn.
    pub(crate) fn share(&self) -> usize {
        let Some(bucket) = &self.bucket else { return usize::MAX };
        let fair = bucket.level.div_ceil(self.before.max(1));
        usize::try_from(fair.min(bucket.level)).unwrap_or(usize::MAX)
    }

    /// A stream has moved so much of its share; `wants`: and would have more.
    pub(crate) fn spent(&mut self, bytes: usize, wants: bool) {
        if let Some(bucket) = &mut self.bucket {
            bucket.level = bucket.level.saturating_sub(bytes as u64);
            self.wanting += u64::from(wants);
        }
    }

    /// Whether a datagram may go; one that may not is lost.
    pub(crate) fn passes(&mut self, bytes: usize) -> bool {
        let Some(bucket) = &mut self.bucket else { return true };
        let fits = bucket.level >= bytes as u64;
        bucket.level -= if fits { bytes as u64 } else { 0 };
        fits
    }

    /// How long until those that want more get some; `None`: nobody waits.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let bucket = self.bucket.as_ref().filter(|_| self.wanting > 0)?;
        Some(bucket.takes((bucket.most / SIP).saturating_sub(bucket.level)))
    }
}

/// Both ways, and what has none.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) up: Way,
    pub(crate) down: Way,
    /// What a guest is told of datagrams that do not go, whatever the rate.
    pub(crate) refusals: Way,
}

impl Limits {
    pub(crate) fn new(rate: Option<u64>, now: Instant) -> Self {
        let way = |rate| Way::new(rate, now);
        Self { up: way(rate), down: way(rate), refusals: way(Some(REFUSALS)) }
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.up.begin(now);
        self.down.begin(now);
        self.refusals.begin(now);
    }

    /// How long until somebody who waits can go on; `None`: nobody waits.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.up.wait().into_iter().chain(self.down.wait()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_rate_nor_much_less(
            rate in 1_000_u64..100_000_000,
            steps in proptest::collection::vec((0_u64..50_000, 1_usize..5), 1..200),
        ) {
            let born = Instant::now();
            let (mut way, mut now, mut total) = (Way::new(Some(rate), born), born, 0_u64);
            let burst = (rate / BURST).max(LEAST_BURST);
            for (micros, streams) in steps {
                now += Duration::from_micros(micros);
                way.begin(now);
                for _ in 0..streams {
                    let share = way.share();
                    way.spent(share, true);
                    total += share as u64;
                }
            }
            way.begin(now);
            let left = way.bucket.as_ref().unwrap().level;
            let due = now.duration_since(born).as_micros() * u128::from(rate) / 1_000_000;
            prop_assert!(u128::from(total) <= due + u128::from(burst) + 1);
            // Whoever takes all that there is loses only what overflowed.
            let full = u128::from(burst);
            prop_assert!(u128::from(total + left) + 1 >= due.min(full));
        }

        #[test]
        fn a_round_is_shared_by_all_who_want(streams in 1_usize..200, rate in 100_000_u64..1_000_000) {
            let born = Instant::now();
            let mut way = Way::new(Some(rate), born);
            let turn = |way: &mut Way| (0..streams).map(|_| {
                let share = way.share();
                way.spent(share, true);
                share
            }).collect::<Vec<_>>();
            turn(&mut way);
            way.begin(born + way.wait().unwrap());
            let shares = turn(&mut way);
            prop_assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
        }
    }

    #[test]
    fn a_wait_is_as_long_as_it_must_be() {
        let born = Instant::now();
        let mut way = Way::new(Some(1_000_000), born);
        assert_eq!((way.wait(), way.share()), (None, 125_000));
        way.spent(125_000, true);
        assert_eq!(way.wait(), Some(Duration::from_micros(31_250)));
        way.begin(born + Duration::from_micros(31_250));
        assert_eq!((way.share(), way.passes(31_251), way.passes(31_250)), (31_250, false, true));
        let free = Way::new(None, born);
        assert_eq!((free.share(), free.wait()), (usize::MAX, None));
    }
}
