//! Work that takes seconds, shown on standard error: a bar on a terminal, one
//! plain line elsewhere. Work that is soon done is not shown at all.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lampyr_types::{Progress, Task};

use crate::printer::Printer;
use crate::world::World;

/// How long work goes on before a terminal shows it.
const BAR_AFTER: Duration = Duration::from_millis(200);
/// How long work goes on before a line tells of it.
const LINE_AFTER: Duration = Duration::from_secs(2);

/// The progress that fits where standard error goes.
pub(crate) fn progress(world: &World, printer: &Printer) -> Arc<dyn Progress> {
    if world.stderr_is_terminal {
        Arc::new(Bars(MultiProgress::new()))
    } else {
        Arc::new(Lines(printer.clone()))
    }
}

/// Does something after a while, unless it is dropped before.
struct Later(#[expect(dead_code, reason = "only its end is heard")] Sender<()>);

impl Later {
    fn new(wait: Duration, act: impl FnOnce() + Send + 'static) -> Self {
        let (sender, dropped): (_, Receiver<()>) = channel();
        std::thread::spawn(move || {
            if dropped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                act();
            }
        });
        Self(sender)
    }
}

/// Plain lines.
struct Lines(Printer);

impl Progress for Lines {
    fn begin(&self, what: &str) -> Box<dyn Task> {
        let (printer, what) = (self.0.clone(), what.to_owned());
        Box::new(Line(Later::new(LINE_AFTER, move || printer.note(&format!("{what}…")))))
    }
}

/// Work that a line tells of when it has gone on for long.
struct Line(#[expect(dead_code, reason = "held until the work ends")] Later);

impl Task for Line {
    fn advance(&self, _done: u64, _total: u64) {}

    fn moved(&self, _bytes: u64, _total: Option<u64>) {}
}

/// Bars on a terminal, without colours.
struct Bars(MultiProgress);

impl Progress for Bars {
    fn begin(&self, what: &str) -> Box<dyn Task> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(what.to_owned());
        let (all, shown) = (self.0.clone(), bar.clone());
        let later = Later::new(BAR_AFTER, move || {
            all.add(shown).enable_steady_tick(Duration::from_millis(100));
        });
        Box::new(Bar { shown: bar, styled: Once::new(), _later: later })
    }
}

/// Work with a bar.
struct Bar {
    shown: ProgressBar,
    /// Set once it is known to count bytes.
    styled: Once,
    _later: Later,
}

impl Task for Bar {
    fn advance(&self, done: u64, total: u64) {
        if total > 0 && self.shown.length() != Some(total) {
            self.shown.set_length(total);
            self.shown.set_style(style("{spinner} {msg} {wide_bar} {percent}%"));
        }
        self.shown.set_position(done);
    }

    fn moved(&self, bytes: u64, total: Option<u64>) {
        self.styled.call_once(|| match total {
            Some(total) => {
                self.shown.set_length(total);
                self.shown.set_style(style(
                    "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                ));
            }
            None => self.shown.set_style(style("{spinner} {msg} {bytes} {bytes_per_sec}")),
        });
        // A sparse file's headers, or a file that grew, may come on top.
        self.shown.set_position(total.map_or(bytes, |total| bytes.min(total)));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.shown.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
