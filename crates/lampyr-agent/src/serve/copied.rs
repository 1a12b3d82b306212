//! Being copied: what runs stops, and in the copy goes on with nobody to hear it.
//!
//! ```text
//! Open --Freeze--> frozen --Thaw--> Open               the one that was copied
//!                    |
//!                    +--greeting, Resumed--> Open      the copy
//! ```

use std::io;

use lampyr_proto::Event;
use rustix::event::epoll;

use super::{Server, watch};
use crate::identity::Scope;
use crate::orphan::Orphan;
use crate::spawn::Parked;
use crate::warm::Warmer;
use crate::{cgroup, connections};

/// Marks an orphan's output among what is watched; no stream's number is so long.
const ORPHAN: u64 = 1 << 40;

impl Server {
    /// Stops what runs, and makes what the copy will want first.
    pub(super) fn freeze(&mut self, stream: u32) {
        if self.parked.is_none() {
            self.parked = Parked::new(self.cgroups.take()).ok();
        }
        if self.warmer.is_none() {
            self.warmer = Warmer::park();
        }
        if !std::mem::replace(&mut self.frozen, true) {
            self.cgroups.freeze();
        }
        self.freezing = Some(stream);
        self.see_stillness();
    }

    /// Says that what runs stands still, once it does.
    pub(super) fn see_stillness(&mut self) {
        let still = self.stillness.as_ref().is_none_or(cgroup::stands_still);
        if still && let Some(stream) = self.freezing.take() {
            self.say(stream, &Event::Done);
        }
    }

    /// Lets what runs go on.
    pub(super) fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.cgroups.thaw();
        }
    }

    /// What comes next is not from the host that was here: this is the copy.
    pub(super) fn be_copy(&mut self) {
        (self.nobody, self.connected) = (true, true);
        self.freezing = None;
        for (_, process) in std::mem::take(&mut self.processes) {
            for orphan in Orphan::outputs_of(process) {
                self.adopt(orphan);
            }
        }
        self.end_conversation();
    }

    /// Ends the connections that the original had, before anything runs.
    pub(super) fn be_cut_off(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.connected) && self.scope == Scope::Machine {
            connections::end_all()?;
        }
        Ok(())
    }

    fn adopt(&mut self, orphan: Orphan) {
        let number = self.next_orphan;
        self.next_orphan += 1;
        // It is watched still, as what it was before.
        let _ = epoll::delete(&self.epoll, orphan.output());
        let token = ORPHAN | number;
        if watch(&self.epoll, orphan.output(), token, epoll::EventFlags::IN).is_ok() {
            self.orphans.insert(number, orphan);
        }
    }

    /// Whether `token` was an orphan's. Nobody hears what it says.
    pub(super) fn hears_orphan(&mut self, token: u64) -> bool {
        if token & ORPHAN == 0 {
            return false;
        }
        let number = token & !ORPHAN;
        let over = self.orphans.get(&number).is_some_and(|orphan| orphan.drain(&mut self.scratch));
        if over {
            self.orphans.remove(&number);
        }
        true
    }
}
