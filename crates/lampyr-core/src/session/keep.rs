//! The machine of a session, in the hands of the one task that may do something
//! with it as a whole: copy it, and take it back to what it was.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lampyr_proto::Point;
use tokio::sync::oneshot;

use crate::copy::Copy;
use crate::mount::Mounts;
use crate::sandbox::Sandbox;
use crate::{Access, Error, Host, SessionRequest};

use super::owner::Session;

/// As much of a command as is remembered, in characters.
const MAX_COMMAND: usize = 200;

/// What is done with the machine itself.
pub(super) enum Order {
    /// Copy it into this directory; even if it holds secrets, where that is said.
    Copy(PathBuf, bool, oneshot::Sender<Result<(), Error>>),
    /// Remember what it is before this command; the answer is the point's number.
    Remember(String, oneshot::Sender<Result<u64, Error>>),
    /// Tell what is remembered.
    Log(oneshot::Sender<Vec<Point>>),
    /// Go back to a point, or to the last one.
    Undo(Option<u64>, oneshot::Sender<Result<Point, Error>>),
}

/// The machine, and all that it takes to follow an order.
pub(super) struct Keep<'a> {
    host: &'a Host,
    pub(super) sandbox: Sandbox,
    request: &'a SessionRequest,
    /// The oldest first.
    points: VecDeque<Remembered>,
    next: u64,
}

/// What the machine was once.
struct Remembered {
    point: Point,
    /// The layers of its disk at that time.
    layers: Vec<PathBuf>,
}

impl<'a> Keep<'a> {
    pub(super) fn new(host: &'a Host, sandbox: Sandbox, request: &'a SessionRequest) -> Self {
        Self { host, sandbox, request, points: VecDeque::new(), next: 1 }
    }

    /// The order switch. Whoever gave an order may have gone.
    pub(super) async fn obey(&mut self, order: Order, session: &Arc<Session>) {
        match order {
            Order::Copy(dir, open, answer) => {
                drop(answer.send(self.copy(&dir, open, session).await));
            }
            Order::Remember(command, answer) => {
                drop(answer.send(self.remember(&command).await));
                // The command need not wait for that. Where it fails there is a
                // layer more than need be.
                let _ = self.merge().await;
            }
            Order::Log(answer) => drop(answer.send(self.log())),
            Order::Undo(to, answer) => drop(answer.send(self.undo(to, session).await)),
        }
    }

    async fn copy(
        &mut self,
        dir: &Path,
        with_secrets: bool,
        session: &Session,
    ) -> Result<(), Error> {
        let holds = self.request.net.as_ref().is_some_and(|access| !access.secrets.is_empty());
        if holds && !with_secrets {
            return Err(Error::HoldsSecrets);
        }
        let saved = self.sandbox.copy(self.host, dir).await?;
        let ground = self.sandbox.ground().ok_or(Error::NotOurs)?;
        let request = SessionRequest { net: self.access(session), ..self.request.clone() };
        Copy::leave(dir, &saved, ground, &request, self.host)
    }

    async fn remember(&mut self, command: &str) -> Result<u64, Error> {
        let number = self.next;
        let dir = self.dir(number);
        std::fs::create_dir_all(&dir).map_err(lampyr_store::at(&dir))?;
        let saved = self.sandbox.copy(self.host, &dir).await;
        let saved = saved.inspect_err(|_| forget(&dir))?;
        self.next += 1;
        let layers = self.sandbox.ground().map(|ground| ground.layers.clone());
        let point = Point {
            number,
            at_ms: now_ms(),
            command: command.chars().take(MAX_COMMAND).collect(),
            took_us: micros(saved.pause),
        };
        self.points.push_back(Remembered { point, layers: layers.unwrap_or_default() });
        while self.points.len() > self.request.checkpoints as usize {
            self.points.pop_front().inspect(|oldest| forget(&self.dir(oldest.point.number)));
        }
        Ok(number)
    }

    /// Makes one layer of those of the disk that no point tells apart.
    async fn merge(&mut self) -> Result<(), Error> {
        loop {
            let ends: Vec<_> = self.points.iter().map(|one| one.layers.len()).collect();
            let Some(gone) = self.sandbox.merge(&ends).await? else { return Ok(()) };
            for point in self.points.iter_mut().filter(|one| one.layers.len() > gone) {
                point.layers.remove(gone);
            }
        }
    }

    fn log(&self) -> Vec<Point> {
        self.points.iter().map(|remembered| remembered.point.clone()).collect()
    }

    async fn undo(&mut self, to: Option<u64>, session: &Arc<Session>) -> Result<Point, Error> {
        let begun = Instant::now();
        let at = match to {
            None => self.points.len().checked_sub(1),
            Some(number) => self.points.iter().position(|one| one.point.number == number),
        };
        let at = at.ok_or(Error::NoPoint(to))?;
        let (number, layers) = (self.points[at].point.number, self.points[at].layers.clone());
        let mounts = Mounts::open(&self.host.store, &self.request.mounts)?;
        let access = self.access(session);
        let (host, dir) = (self.host, self.dir(number));
        let before = self.sandbox.go_back(host, &dir, &layers, access.as_ref()).await?;
        // Now, so that what runs hears why it ends.
        session.renew(&self.sandbox);
        before.stop().await;
        if let Err(e) = self.wake_again(mounts).await {
            // What it was is gone, and what it is to be does not answer.
            session.crashed(&self.sandbox, e.to_failure());
            return Err(e);
        }
        // What came after it never was.
        session.jobs.forget_keys(number);
        let point = self.points[at].point.clone();
        for later in self.points.split_off(at) {
            forget(&self.dir(later.point.number));
        }
        let others: Vec<_> = self.points.iter().map(|one| &*one.layers).collect();
        self.sandbox.forget_layers(&others);
        Ok(Point { took_us: micros(begun.elapsed()), ..point })
    }

    async fn wake_again(&mut self, mounts: Mounts) -> Result<(), Error> {
        self.sandbox.wake_again().await?;
        let channel = self.sandbox.channel();
        self.sandbox.while_alive(mounts.attach(&channel)).await
    }

    /// What it may reach now, which may be less than it was asked for.
    fn access(&self, session: &Session) -> Option<Access> {
        let access = self.request.net.clone()?;
        Some(Access { policy: session.policy()?, ..access })
    }

    fn dir(&self, number: u64) -> PathBuf {
        self.sandbox.dir().join("points").join(number.to_string())
    }
}

/// Removes what is remembered of a point; `clean` finds what stays.
fn forget(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
