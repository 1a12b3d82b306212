//! When each stage of a launch was done.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A waterfall: names of stages and when they were done.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    stages: Mutex<Vec<(&'static str, Duration)>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// A trace that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), stages: Mutex::new(Vec::new()) }
    }

    /// A stage is done.
    pub fn done(&self, stage: &'static str) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.push((stage, self.start.elapsed()));
    }

    /// Every stage with the time since the start when it was done.
    pub fn stages(&self) -> Vec<(&'static str, Duration)> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
