//! Building a snapshot: a session of its own, some steps in it, and what it is
//! then, saved.

mod config;
mod step;

use std::process::Command as Program;

use lampyr_store::Lock;
use lampyr_types::{ErrorKind, Name, SandboxId, Span};
use tokio::sync::mpsc;

use crate::session::start::Leash;
use crate::snapshot::{self, Snapshot, SnapshotRequest};
use crate::{
    Access, Command, Error, ExecRequest, FileKind, Host, Origin, Output, SessionClient,
    SessionRequest, start_attached, stop_session,
};

pub use config::{
    BadConfig, BuildDefaults, BuildPlan, Resources, SetupStep, SnapshotConfig, read_config, schema,
};
pub use step::StepEnd;

/// How long the disk may take to have everything.
const SYNC_WAIT: Span = Span::secs(120);

/// How to build.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions {
    /// Whether an earlier snapshot of the name is replaced.
    pub overwrite: bool,
    /// Whether the builder is left running; then there always is one.
    pub keep_builder: bool,
    /// Whether an earlier one of the same making will do.
    pub cache: bool,
    /// How long each step may take.
    pub step_timeout: Span,
}

/// What came of building.
#[derive(Debug)]
pub struct Built {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether it was there already, made just so.
    pub cached: bool,
}

/// Somebody who follows a build.
pub trait BuildOutput: Output {
    /// A step begins: which, counted from 1, of how many, and what it does.
    fn step(&mut self, index: usize, count: usize, description: &str);
}

/// Builds the snapshot that `plan` describes. `owner` is the program that owns
/// the builder, as for [`crate::start_session`].
///
/// # Errors
///
/// [`Error::SetupStep`] where a step fails. Whatever goes wrong, an earlier
/// snapshot of the name is as it was, and no builder is left unless it is to be
/// kept.
pub async fn build_snapshot(
    host: &Host,
    plan: &BuildPlan,
    options: BuildOptions,
    owner: Program,
    output: &mut dyn BuildOutput,
) -> Result<Built, Error> {
    let made_by = recipe(host, plan).await?;
    let request = plan.snapshot_request(options.overwrite);
    let _turn = turn(host, plan).await?;
    snapshot::refuse_taken(&host.store, &request.name, request.overwrite)?;
    // What was made before has no builder any more.
    if options.cache
        && !options.keep_builder
        && let Some(snapshot) = snapshot::made_by(&host.store, &plan.name, &made_by)?
    {
        return Ok(Built { snapshot, cached: true });
    }
    let builder = Builder::start(host, plan, owner).await?;
    let built = builder.build(host, plan, options.step_timeout, request, &made_by, output).await;
    // Without its leash it ends by itself.
    let ended = builder.end(host, options.keep_builder).await;
    let snapshot = built?;
    if options.keep_builder {
        ended?;
    }
    Ok(Built { snapshot, cached: false })
}

/// Waits until nobody else builds under this name: there is one builder.
async fn turn(host: &Host, plan: &BuildPlan) -> Result<Lock, Error> {
    let name = format!("build-{}", plan.builder);
    if let Some(lock) = host.store.alone(&name)? {
        return Ok(lock);
    }
    let _task = host.progress.begin(&format!("waiting for another build of {}", plan.name));
    let store = host.store.clone();
    let waiting = tokio::task::spawn_blocking(move || store.making(&name));
    Ok(waiting.await.map_err(|e| Error::Agent(e.to_string()))??)
}

/// What stands for all that a build depends on.
async fn recipe(host: &Host, plan: &BuildPlan) -> Result<String, Error> {
    let image = host.image(&plan.image).await?;
    let (kit, engine) = (&host.kit.manifest.digest, host.engine.fingerprint());
    let words = format!("{}\nimage {}\nkit {kit}\n{engine}", plan.words(), image.digest);
    Ok(blake3::hash(words.as_bytes()).to_hex().to_string())
}

/// The session in which the steps are taken. It ends with its leash.
struct Builder {
    sid: SandboxId,
    client: SessionClient,
    _leash: Leash,
}

impl Builder {
    /// Starts one; an earlier one of the name is stopped.
    async fn start(host: &Host, plan: &BuildPlan, owner: Program) -> Result<Self, Error> {
        let home = host.store.root();
        match stop_session(home, plan.builder.as_str(), std::time::Duration::ZERO).await {
            Ok(_) | Err(Error::NoSession(_)) => {}
            Err(e) => return Err(e),
        }
        let request = SessionRequest {
            name: Some(plan.builder.clone()),
            origin: Origin::Image(plan.image.clone()),
            cpus: plan.cpus,
            memory: plan.memory.as_bytes(),
            disk_size: plan.disk_size.as_bytes(),
            env: Vec::new(),
            workdir: None,
            attached: true,
            ttl_ms: None,
            forwards: Vec::new(),
            mounts: Vec::new(),
            net: plan.net.clone().map(Access::from),
            checkpoints: 0,
            crowd: false,
        };
        let (sid, leash) = start_attached(host, &request, owner).await?;
        let client = SessionClient::connect(home, &sid.to_string()).await?;
        Ok(Self { sid, client, _leash: leash })
    }

    async fn build(
        &self,
        host: &Host,
        plan: &BuildPlan,
        timeout: Span,
        request: SnapshotRequest,
        made_by: &str,
        output: &mut dyn BuildOutput,
    ) -> Result<Snapshot, Error> {
        let count = plan.setup.len();
        for (i, step) in plan.setup.iter().enumerate() {
            let what = step.description();
            output.room().await;
            output.step(i + 1, count, &what);
            let workdir = self.workdir(plan).await;
            let end = match self.run(plan, step.command(), workdir, timeout, output).await {
                Ok(0) => continue,
                Ok(code) => StepEnd::Exit(code),
                Err(e) if e.kind() == ErrorKind::Timeout => StepEnd::Late(timeout),
                Err(e) => StepEnd::Broken(Box::new(e)),
            };
            let sealed = plan.net.is_none();
            return Err(Error::SetupStep { index: i + 1, count, what, end, sealed });
        }
        if let (Some(dir), None) = (&plan.workdir, self.workdir(plan).await) {
            return Err(Error::NoWorkdir(dir.clone()));
        }
        let sync = Command::Argv(vec!["sync".to_owned()]);
        // An image that cannot even do that is saved as it is: its memory has
        // what its disk has not.
        let _ = self.run(plan, sync, None, SYNC_WAIT, output).await;
        let sid = self.sid.to_string();
        let taken = snapshot::take(host, &sid, &request, Some(made_by.to_owned())).await?;
        Ok(taken.snapshot)
    }

    /// Where the next step begins; a step may make that directory.
    async fn workdir(&self, plan: &BuildPlan) -> Option<String> {
        let dir = plan.workdir.as_ref()?;
        let found = self.client.stat(dir, true, None).await.ok()?;
        (found.kind == FileKind::Directory).then(|| dir.clone())
    }

    /// Runs one command to its end.
    async fn run(
        &self,
        plan: &BuildPlan,
        command: Command,
        workdir: Option<String>,
        timeout: Span,
        output: &mut dyn BuildOutput,
    ) -> Result<i32, Error> {
        let request = ExecRequest {
            command,
            env: plan.env.clone(),
            workdir,
            user: None,
            timeout: Some(timeout),
            stdin: false,
            terminal: None,
        };
        let (_nobody, controls) = mpsc::channel(1);
        let outcome = self.client.exec(&request, output, controls).await;
        outcome.map(|outcome| outcome.exit_code).map_err(Error::from)
    }

    /// Removes it, or lets it live on.
    async fn end(self, host: &Host, keep: bool) -> Result<(), Error> {
        if keep {
            return self.client.detach().await;
        }
        let sid = self.sid.to_string();
        stop_session(host.store.root(), &sid, std::time::Duration::ZERO).await.map(drop)
    }
}

/// What a builder is called.
fn builder_name(name: &Name) -> Result<Name, lampyr_types::BadName> {
    format!("{name}-builder").parse()
}
