//! What all routes share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lampyr_core::{
    Error, ForkRequest, Forked, Host, Leash, SessionClient, SessionRequest, fork, prepare_session,
    session_id, start_attached, start_session, stop_session,
};
use lampyr_store::Store;
use lampyr_types::SandboxId;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::Settings;
use crate::error::{Answer, ApiError};

/// The state of a server.
pub(crate) struct App {
    pub(crate) settings: Settings,
    host: OnceCell<Host>,
    /// What keeps the attached sandboxes alive.
    leashes: Mutex<HashMap<SandboxId, Leash>>,
    /// Conversations with owners. Each is used again while it lasts.
    clients: Mutex<HashMap<SandboxId, Arc<SessionClient>>>,
    /// Commands that were begun, ever.
    pub(crate) execs: AtomicU64,
}

impl App {
    pub(crate) fn new(settings: Settings) -> Self {
        let (leashes, clients) = (Mutex::default(), Mutex::default());
        Self { settings, host: OnceCell::new(), leashes, clients, execs: AtomicU64::new(0) }
    }

    /// The state directory.
    pub(crate) fn home(&self) -> &Path {
        &self.settings.host.home
    }

    /// The state directory, opened.
    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(self.home())?)
    }

    /// The host; opening it may take long the first time.
    pub(crate) async fn host(&self) -> Result<&Host, Error> {
        self.host.get_or_try_init(|| Host::open(&self.settings.host)).await
    }

    /// Looks for what a sandbox is made of, as [`prepare_session`] does.
    pub(crate) async fn prepare(&self, request: &SessionRequest) -> Result<(), Error> {
        prepare_session(self.host().await?, request).await
    }

    /// Starts a sandbox, attached to this process or not.
    pub(crate) async fn start(
        &self,
        request: &SessionRequest,
        detached: bool,
    ) -> Result<SandboxId, Error> {
        let host = self.host().await?;
        let owner = (self.settings.owner)().map_err(Error::Owner)?;
        if detached {
            return start_session(host, request, owner).await;
        }
        let (sid, leash) = start_attached(host, request, owner).await?;
        self.hold([(sid, leash)]);
        Ok(sid)
    }

    /// Forks a sandbox; says which are new, and how long it stood still.
    pub(crate) async fn fork(
        &self,
        word: &str,
        wanted: ForkRequest,
    ) -> Result<(Vec<SandboxId>, Duration), Error> {
        let host = self.host().await?;
        let Forked { sessions, pause, .. } = fork(host, word, wanted, &self.settings.owner).await?;
        let sids = sessions.iter().map(|(sid, _)| *sid).collect();
        if wanted.attached {
            self.hold(sessions);
        }
        Ok((sids, pause))
    }

    fn hold(&self, leashes: impl IntoIterator<Item = (SandboxId, Leash)>) {
        self.forget_ended();
        locked(&self.leashes).extend(leashes);
    }

    /// Lets go of the sandboxes that have ended by themselves.
    pub(crate) fn forget_ended(&self) {
        locked(&self.leashes).retain(|_, leash| !leash.is_over());
        locked(&self.clients).retain(|_, client| !client.is_over());
    }

    /// Whether a sandbox ends with this process.
    pub(crate) fn is_attached(&self, sid: SandboxId) -> bool {
        locked(&self.leashes).contains_key(&sid)
    }

    /// Lets go of a sandbox that is over, or that was told to live on.
    pub(crate) fn let_go(&self, sid: SandboxId) {
        locked(&self.leashes).remove(&sid);
    }

    /// A conversation with a sandbox's owner, by the sandbox's id or name.
    pub(crate) async fn client(&self, word: &str) -> Answer<Arc<SessionClient>> {
        let known = session_id(self.home(), word).and_then(|sid| self.known(sid));
        if let Some(client) = known {
            return Ok(client);
        }
        let client = Arc::new(SessionClient::connect(self.home(), word).await?);
        let mut clients = locked(&self.clients);
        clients.retain(|_, client| !client.is_over());
        clients.insert(client.record()?.sid, client.clone());
        Ok(client)
    }

    fn known(&self, sid: SandboxId) -> Option<Arc<SessionClient>> {
        locked(&self.clients).get(&sid).filter(|client| !client.is_over()).cloned()
    }

    /// Stops what is attached, all at once.
    pub(crate) async fn stop_attached(&self) -> Result<(), Error> {
        let leashes: Vec<_> = locked(&self.leashes).drain().collect();
        let mut stopping = JoinSet::new();
        for (sid, leash) in leashes {
            let home = self.home().to_owned();
            stopping.spawn(async move {
                let stopped = stop_session(&home, &sid.to_string(), Duration::ZERO).await;
                drop(leash);
                stopped
            });
        }
        let stopped = stopping.join_all().await;
        stopped.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }
}

/// Does work that may wait for a disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(e) => Err(ApiError::internal(e)),
    }
}

/// Does work that takes long, and waits for a disk now and then, where it holds
/// up nobody. It goes on where whoever asked for it breaks off.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Answer<T> {
    let runtime = Handle::current();
    blocking(move || runtime.block_on(work)).await
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
