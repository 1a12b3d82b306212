//! The table: rows with their definitions, and the host that they are of.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::core_api::RunRequest;

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Mb,
    Percent,
    MbPerSecond,
    PerSecond,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Mb => "MB",
            Self::Percent => "%",
            Self::MbPerSecond => "MB/s",
            Self::PerSecond => "1/s",
        }
    }
}

/// One row: a quantity and its samples, in order of size.
#[derive(Debug)]
pub(super) struct Row {
    name: &'static str,
    definition: &'static str,
    unit: Unit,
    samples: Vec<f64>,
    /// Why it could not be measured here.
    absent: Option<String>,
}

impl Row {
    pub(super) fn times(
        name: &'static str,
        definition: &'static str,
        samples: &[Duration],
    ) -> Self {
        let samples = samples.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
        Self::many(name, definition, Unit::Milliseconds, samples)
    }

    pub(super) fn one(
        name: &'static str,
        definition: &'static str,
        unit: Unit,
        sample: f64,
    ) -> Self {
        Self::many(name, definition, unit, vec![sample])
    }

    pub(super) fn many(
        name: &'static str,
        definition: &'static str,
        unit: Unit,
        mut samples: Vec<f64>,
    ) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { name, definition, unit, samples, absent: None }
    }

    /// A row that could not be measured here, and why.
    pub(super) fn absent(name: &'static str, definition: &'static str, why: String) -> Self {
        let absent = Some(why);
        Self { name, definition, unit: Unit::Milliseconds, samples: Vec::new(), absent }
    }

    fn json(&self) -> Value {
        if let Some(why) = &self.absent {
            return json!({"name": self.name, "definition": self.definition, "absent": why});
        }
        json!({
            "name": self.name,
            "definition": self.definition,
            "unit": self.unit.word(),
            "n": self.samples.len(),
            "p50": self.percentile(50),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
        })
    }

    fn text(&self) -> String {
        if let Some(why) = &self.absent {
            return format!("{:<36} absent: {why}", self.name);
        }
        let [p50, p95, p99] = [50, 95, 99].map(|p| self.percentile(p));
        let (n, unit) = (self.samples.len(), self.unit.word());
        format!("{:<36} {n:>5} {p50:>10.1} {p95:>10.1} {p99:>10.1} {unit}", self.name)
    }

    /// The smallest sample that `percent` of all do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.samples.len() * percent).div_ceil(100).max(1);
        self.samples.get(rank - 1).copied().unwrap_or(0.0)
    }
}

/// All rows, and where they were measured.
#[derive(Debug)]
pub(super) struct Table {
    host: Value,
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn new(accel: &str, engine: &str, request: &RunRequest, rows: Vec<Row>) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let host = json!({
            "processor": model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':'])),
            "cores": cores,
            "kernel": kernel.trim(),
            "accel": accel,
            "engine": engine,
            "vm": format!("{} cpus, {} memory", request.cpus, request.memory),
            "jail": "on",
            "version": env!("CARGO_PKG_VERSION"),
        });
        Self { host, rows }
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        json!({"host": self.host, "rows": rows})
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.host.as_object().into_iter().flatten() {
            let _ = writeln!(text, "{key:<10} {}", value.to_string().trim_matches('"'));
        }
        let _ = writeln!(text, "\n{:<36} {:>5} {:>10} {:>10} {:>10}", "", "n", "P50", "P95", "P99");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.text());
        }
        let _ = writeln!(text);
        for row in &self.rows {
            let _ = writeln!(text, "{}: {}", row.name, row.definition);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let row = Row::many("x", "y", Unit::Mb, (1..=100).rev().map(f64::from).collect());
        assert_eq!([50, 95, 99].map(|p| row.percentile(p) as u32), [50, 95, 99]);
        let few = Row::many("x", "y", Unit::Mb, vec![3.0, 1.0]);
        assert_eq!([50, 99].map(|p| few.percentile(p) as u32), [1, 3]);
    }

    #[test]
    fn what_could_not_be_measured_is_no_zero() {
        let row = Row::absent("x", "y", "nobody may look".into());
        assert_eq!(
            row.json(),
            json!({"name": "x", "definition": "y", "absent": "nobody may look"})
        );
        assert!(row.text().ends_with("absent: nobody may look"));
    }
}
