//! `LAMPYR_BOOT_TRACE=1`: the stages of a launch, one bar each.

use std::fmt::Write as _;
use std::time::Duration;

/// How many columns the whole launch takes.
const WIDTH: f64 = 40.0;

/// Draws the stages; each begins where the one before it ended.
pub(crate) fn draw(stages: &[(&'static str, Duration)]) -> String {
    let total = stages.last().map_or(Duration::ZERO, |(_, end)| *end).as_secs_f64().max(1e-9);
    let column = |at: Duration| (at.as_secs_f64() / total * WIDTH).round() as usize;
    let mut text = String::new();
    let mut begin = Duration::ZERO;
    for &(name, end) in stages {
        let bar = "█".repeat(column(end).saturating_sub(column(begin)).max(1));
        let took = end.saturating_sub(begin).as_secs_f64() * 1e3;
        let end_ms = end.as_secs_f64() * 1e3;
        let skip = " ".repeat(column(begin));
        let _ = writeln!(text, "{name:<20} {took:>8.1} ms {end_ms:>8.1} ms  {skip}{bar}");
        begin = end;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_begins_where_the_last_ended() {
        let ms = Duration::from_millis;
        let text = draw(&[("restore", ms(10)), ("connect", ms(40))]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(&"█".repeat(10)) && lines[0].contains("10.0 ms"));
        assert!(lines[1].ends_with(&format!("{}{}", " ".repeat(10), "█".repeat(30))));
        assert!(draw(&[]).is_empty());
    }
}
