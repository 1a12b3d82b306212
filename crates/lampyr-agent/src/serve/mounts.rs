//! Mounts, from the request to the end: what they move is `crate::mount`.

use lampyr_proto::{Event, Mount};
use rustix::event::epoll;

use super::{Server, watch};
use crate::identity::Scope;
use crate::mount::Mounted;

/// What a mount's device is watched as, beside the three lanes of a process.
const DEVICE: u64 = 3;

impl Server {
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
