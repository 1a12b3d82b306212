//! Our terminal while a command far away has it.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::core_api::{Control, Window};

/// A terminal that passes every key on. Dropped, it is what it was.
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Makes the terminal on standard input raw.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }

    /// Its size.
    #[allow(clippy::unused_self, reason = "there is one terminal, and this is it")]
    pub(crate) fn window(&self) -> Option<Window> {
        let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
        Some(Window { rows: size.ws_row, columns: size.ws_col })
    }

    /// Its size, whenever that changes.
    #[allow(clippy::unused_self, reason = "there is one terminal, and this is it")]
    pub(crate) fn controls(&self) -> io::Result<mpsc::Receiver<Control>> {
        let mut changes = signal(SignalKind::window_change())?;
        let (to, controls) = mpsc::channel(16);
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) else { return };
                let window = Window { rows: size.ws_row, columns: size.ws_col };
                if to.send(Control::Resize(window)).await.is_err() {
                    return;
                }
            }
        });
        Ok(controls)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.0);
    }
}
