//! The keeper of a pool: a process that holds members ready.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lampyr_store::{Lock, Part, Store, at};
use lampyr_types::SandboxId;
use tokio::net::{UnixListener, UnixStream};

use super::handover::gone;
use super::members::{Members, News};
use super::record::is_held;
use super::stock::{Duty, Happening, Stock};
use super::{PoolRecord, PoolRequest};
use crate::session::{socket, start, until};
use crate::template::Template;
use crate::{Error, Host, Stopped};

/// How long members that nobody claimed may take to end.
const END_WAIT: Duration = Duration::from_secs(20);
/// How long a stop may take.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Starts a pool and returns when its first member is ready. `keeper` is the
/// program that will keep it: it reads the request from its standard input,
/// calls [`keep_pool`] and writes an [`crate::OwnerReply`].
pub async fn start_pool(
    host: &Host,
    request: &PoolRequest,
    keeper: std::process::Command,
) -> Result<SandboxId, Error> {
    // What takes long the first time is done where there is somebody to see it.
    Template::get(host, &request.machine.origin, request.machine.shape()).await?;
    start::hand_over(request, keeper).await.map(|(id, _)| id)
}

/// Ends a pool and all its members that nobody has claimed, and waits until
/// nothing of them is left.
pub async fn stop_pool(home: &Path, id: &str) -> Result<Stopped, Error> {
    let missing = || Error::NoPool(id.chars().take(80).collect());
    let known: SandboxId = id.parse().map_err(|_| missing())?;
    if !home.exists() {
        return Err(missing());
    }
    let store = Store::open(home)?;
    let dir = store.dir(Part::Pools)?.join(known.to_string());
    let kept = is_held(&dir);
    if kept {
        let silent = |_| Error::Agent("the pool's keeper does not answer".into());
        tokio::time::timeout(STOP_WAIT, over(&dir)).await.map_err(silent)?;
    }
    // Of a keeper that was killed the directory is left.
    let dead = std::fs::remove_dir_all(&dir).is_ok();
    let ended = store.dir(Part::Ended)?.join(known.to_string()).exists();
    match (kept, dead || ended) {
        (true, _) => Ok(Stopped::Now),
        (false, true) => Ok(Stopped::Before),
        (false, false) => Err(missing()),
    }
}

/// Tells the keeper in `dir` to end and waits until it has.
async fn over(dir: &Path) {
    // Where somebody else has told it before, it listens no more.
    if let Ok(mut keeper) = socket::connect(dir).await {
        gone(&mut keeper).await;
    }
    let lock = dir.join("lock");
    let _ = tokio::task::spawn_blocking(move || Lock::wait(&lock)).await;
}

/// Keeps a pool until somebody stops it or its time is over. `owner` makes the
/// command that owns a member; `ready` hears how the first one went, and says
/// whether anybody still wants the pool.
pub async fn keep_pool(
    home: &Path,
    request: &PoolRequest,
    owner: impl Fn() -> io::Result<std::process::Command>,
    ready: impl FnOnce(Result<SandboxId, Error>) -> bool,
) {
    let (place, listener, mut members) = match open(home, request, owner) {
        Ok(opened) => opened,
        Err(e) => {
            ready(Err(e));
            return;
        }
    };
    let mut stock =
        Stock::new(Instant::now(), request.size, request.ttl_ms.map(Duration::from_millis));
    stock.live(Happening::Begun, Instant::now());
    members.begin().await;
    let stopper = match members.news().await {
        News::Failed(e) => {
            ready(Err(e));
            return;
        }
        news => {
            stock.live(happening(&news), Instant::now());
            if ready(Ok(place.id)) { keep(stock, &mut members, &listener).await } else { None }
        }
    };
    drop(listener);
    let _ = tokio::time::timeout(END_WAIT, members.end()).await;
    place.leave();
    // Whoever stops it waits for this.
    drop(stopper);
}

/// A keeper's directory; it goes with the keeper.
struct Place {
    id: SandboxId,
    store: Store,
    path: PathBuf,
    _lock: Lock,
}

impl Place {
    fn make(store: Store) -> Result<Self, Error> {
        let id = SandboxId::random();
        let path = store.dir(Part::Pools)?.join(id.to_string());
        std::fs::create_dir(&path).map_err(at(&path))?;
        let lock = Lock::wait(&path.join("lock"))?;
        Ok(Self { id, store, path, _lock: lock })
    }

    /// Leaves word that there was this pool.
    fn leave(self) {
        if let Ok(ended) = self.store.dir(Part::Ended) {
            let _ = std::fs::write(ended.join(self.id.to_string()), "");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now, `clean` removes: the lock goes with us.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn open<F: Fn() -> io::Result<std::process::Command>>(
    home: &Path,
    request: &PoolRequest,
    owner: F,
) -> Result<(Place, UnixListener, Members<F>), Error> {
    let place = Place::make(Store::open(home)?)?;
    let listener = socket::listen(&place.path).map_err(at(&place.path))?;
    PoolRecord::publish(&place.path, place.id, request)?;
    let members = Members::new(place.store.clone(), place.id, request.machine.clone(), owner);
    Ok((place, listener, members))
}

/// Keeps the pool to its end; returns who asked for that.
async fn keep<F: Fn() -> io::Result<std::process::Command>>(
    mut stock: Stock,
    members: &mut Members<F>,
    listener: &UnixListener,
) -> Option<UnixStream> {
    loop {
        let wakes = match stock.duty(Instant::now()) {
            Duty::End => return None,
            Duty::Wait(until) => until,
            Duty::Make => {
                stock.live(Happening::Begun, Instant::now());
                members.begin().await;
                continue;
            }
        };
        tokio::select! {
            Ok((caller, _)) = listener.accept() => {
                if socket::is_ours(&caller) {
                    return Some(caller);
                }
            }
            news = members.news() => stock.live(happening(&news), Instant::now()),
            () = until(wakes) => {}
        }
    }
}

fn happening(news: &News) -> Happening {
    match news {
        News::Ready => Happening::Ready,
        News::Failed(_) => Happening::Failed,
        News::Claimed => Happening::Claimed,
        News::Lost => Happening::Lost,
        News::Outdated => Happening::Outdated,
    }
}
