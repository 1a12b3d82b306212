//! How long work reports itself without knowing a terminal.

/// Somebody who wants to hear about work that takes seconds.
pub trait Progress: Send + Sync {
    /// Work called `what` begins; it ends when the returned task is dropped.
    fn begin(&self, what: &str) -> Box<dyn Task>;
}

/// A piece of work under way.
pub trait Task: Send + Sync {
    /// `done` of `total` units are finished; a `total` of 0 means unknown.
    fn advance(&self, done: u64, total: u64);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _what: &str) -> Box<dyn Task> {
        Box::new(Self)
    }
}

impl Task for NoProgress {
    fn advance(&self, _done: u64, _total: u64) {}
}
