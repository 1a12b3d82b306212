//! Mounts, from the request to the end: what they move is `crate::mount`.

use std::time::{Duration, Instant};

use lampyr_proto::{Event, Mount};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::thread::sched_yield;

use super::{Server, watch};
use crate::identity::Scope;
use crate::mount::Mounted;
use crate::place;

/// What a mount's device is watched as, beside the three lanes of a process.
const DEVICE: u64 = 3;
/// How long the agent looks for what comes next before it sleeps, while a mount
/// is in use: a request's way to the host and back, and a little.
const LINGER: Duration = Duration::from_micros(400);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Server {
    /// Looks for what comes next, for a while. Who uses a mount asks again
    /// soon, and it costs an emulated processor more to sleep and to be woken
    /// than to wait. Whatever else can run here runs meanwhile.
    pub(super) fn linger(&mut self) {
        if !std::mem::take(&mut self.mount_used) || !place::is_settled() {
            return;
        }
        let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
        let begun = Instant::now();
        while begun.elapsed() < LINGER && poll(&mut ready, Some(&AT_ONCE)) == Ok(0) {
            sched_yield();
        }
    }

    pub(super) fn mount(&mut self, stream: u32, mount: &Mount) {
        if self.scope == Scope::Process {
            return self.say(stream, &Event::Failed("only a VM can mount".into()));
        }
        match Mounted::begin(mount) {
            Ok(mounted) => drop(self.mounts.insert(stream, mounted)),
            Err(e) => self.say(stream, &Event::Failed(format!("cannot mount: {e}"))),
        }
    }

    pub(super) fn set_behind(&mut self, stream: u32, behind: bool) {
        if let Some(mounted) = self.mounts.get_mut(&stream) {
            mounted.behind = behind;
        }
    }

    pub(super) fn mount_reaped(&mut self, pid: i32, status: i32) {
        let found = self.mounts.iter_mut().find(|(_, mounted)| mounted.is_begun_by(pid));
        let Some((&stream, mounted)) = found else { return };
        let begun = mounted.begun(status).and_then(|device| {
            // Only now: before, the device has nothing to tell an epoll.
            let token = u64::from(stream) << 2 | DEVICE;
            watch(&self.epoll, device, token, epoll::EventFlags::IN).map_err(|e| e.to_string())
        });
        match begun {
            Ok(()) => self.say(stream, &Event::Done),
            Err(why) => {
                self.mounts.remove(&stream);
                self.say(stream, &Event::Failed(why));
            }
        }
    }
}
