//! `SIGINT` and `SIGTERM`: the first ends the work in order, the second ends
//! the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// From now on the first signal ends the process: nothing is left to be done
/// in order.
pub(crate) fn end_at_once() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for number in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&always))?;
    }
    Ok(())
}

/// The signals that end a command.
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
}

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order: a signal first looks whether another came before.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&seen))?;
            flag::register(number, Arc::clone(&seen))?;
            flag::register(number, lampyr_image::interrupted())?;
        }
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal and returns the exit status it asks for.
    pub(crate) async fn came(&mut self) -> u8 {
        tokio::select! {
            _ = self.int.recv() => 130,
            _ = self.term.recv() => 143,
        }
    }
}

/// Does work that a signal ends; the result is then the exit status that the
/// signal asks for.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, u8>, Failure> {
    let failed = |source| Failure::System { what: "listen for signals", source };
    let mut interrupt = Interrupt::listen().map_err(failed)?;
    tokio::select! {
        biased;
        status = interrupt.came() => Ok(Err(status)),
        done = heard(work) => done.map(Ok),
    }
}

/// Work, and a moment after it: a signal that came while it held the thread
/// is heard before its result is.
pub(crate) async fn heard<T>(work: impl Future<Output = T>) -> T {
    let done = work.await;
    tokio::task::yield_now().await;
    done
}
