//! `run`: a machine for one command.

use std::time::{Duration, Instant};

use lampyr_engine::EngineError;
use lampyr_image::Image;
use lampyr_proto::{Exec, Exited};
use lampyr_types::{ErrorKind, NoProgress, Span};

use crate::exec::{Asked, Source, Terms, job, outcome};
use crate::forward::Forwards;
use crate::mount::Mounts;
use crate::network::Begun;
use crate::sandbox::{Resting, Sandbox};
use crate::template::{Purpose, Template};
use crate::{
    Error, Host, Origin, Outcome, Output, RunError, RunRequest, Trace, Usage, files, network, pool,
    wish,
};

/// How long each `--copy` and `--download` may take.
const COPY_WAIT: Span = Span::secs(600);

/// Starts a machine, runs one command in it, and leaves nothing behind.
///
/// Dropping the future ends the machine, too.
pub async fn run(
    host: &Host,
    request: &RunRequest,
    output: &mut dyn Output,
    trace: &Trace,
) -> Result<Outcome, RunError> {
    let start = Instant::now();
    let forwards = Forwards::bind(&request.forwards).await.map_err(|e| not_started(e, start))?;
    // Boxed: baking a template is a large future, and seldom needed.
    let ready = Box::pin(ready(host, request, trace)).await;
    let (mut sandbox, asked, stop_signal) = ready.map_err(|e| not_started(e, start))?;
    let channel = sandbox.channel();
    let _forwarding = forwards.serve(move || channel.clone(), || ());
    let outcome = Box::pin(work(&mut sandbox, asked, stop_signal, request, output, trace)).await;
    sandbox.end().await;
    trace.done("ended");
    outcome
}

/// A machine that has been asked for the command: one that waited in a pool,
/// or else a new one.
async fn ready(
    host: &Host,
    request: &RunRequest,
    trace: &Trace,
) -> Result<(Sandbox, Asked, i32), Error> {
    let (origin, shape) = (&request.origin, request.shape());
    let purpose = Purpose::new(host, origin, shape).await?;
    let Wished { exec, stop_signal } = wished(request, &purpose.image)?;
    let mut mounts = Mounts::open(&host.store, &request.mounts)?;
    // Whoever is on a private network is looked for in a directory of its own.
    let alone = request.net.as_ref().is_none_or(|access| access.private.is_none());
    if alone && let Some(resting) = pool::claim(host, &purpose.key).await {
        trace.done("claimed");
        // Nothing of one that fails so early was heard or seen by anybody.
        let ready = claimed(host, resting, request, exec.clone(), mounts, trace).await;
        if let Ok((sandbox, asked)) = ready {
            return Ok((sandbox, asked, stop_signal));
        }
        mounts = Mounts::open(&host.store, &request.mounts)?;
    }
    let begun = Begun::new(host, request.net.as_ref()).await?;
    let template = Template::of(host, purpose).await?;
    trace.done("template");
    let resting = restore(host, origin, template, trace).await?;
    let sandbox = resting.rouse(&host.store, begun).await?;
    let (sandbox, asked) = prepare(sandbox, request, exec, mounts, trace).await?;
    Ok((sandbox, asked, stop_signal))
}

/// Makes a machine of a pool somebody and asks it for the command.
async fn claimed(
    host: &Host,
    resting: Resting,
    request: &RunRequest,
    exec: Exec,
    mounts: Mounts,
    trace: &Trace,
) -> Result<(Sandbox, Asked), Error> {
    let begun = Begun::new(host, request.net.as_ref()).await?;
    let sandbox = resting.rouse(&host.store, begun).await?;
    prepare(sandbox, request, exec, mounts, trace).await
}

/// What runs, with what the image wants, and the signal that asks it to end.
pub(crate) struct Wished {
    pub(crate) exec: Exec,
    pub(crate) stop_signal: i32,
}

pub(crate) fn wished(request: &RunRequest, image: &Image) -> Result<Wished, Error> {
    let command = wish::command(request.command.as_ref(), image)?;
    let (mut env, workdir) = (request.env.clone(), request.workdir.clone());
    wish::add(&mut env, network::variables(request.net.as_ref()));
    let exec = Exec { env, workdir, ..Exec::new(job(&command)) };
    let exec = wish::fill_in(exec, &image.config);
    Ok(Wished { exec, stop_signal: wish::stop_signal(&image.config) })
}

/// Restores a machine. A template that does not restore is baked again, once.
pub(crate) async fn restore(
    host: &Host,
    origin: &Origin,
    template: Template,
    trace: &Trace,
) -> Result<Resting, Error> {
    match Resting::restore(host, &template, trace).await {
        Err(Error::Engine(EngineError::BadImage(_))) => {
            let shape = template.shape;
            template.discard();
            let template = Template::get(host, origin, shape).await?;
            Resting::restore(host, &template, trace).await
        }
        restored => restored,
    }
}

/// Hears the command that was asked for to its end.
pub(crate) async fn work(
    sandbox: &mut Sandbox,
    asked: Asked,
    stop_signal: i32,
    request: &RunRequest,
    output: &mut dyn Output,
    trace: &Trace,
) -> Result<Outcome, RunError> {
    let channel = sandbox.channel();
    let (begun, asked_at) = (Instant::now(), asked.at);
    let source = if request.stdin { Source::Ours } else { Source::Empty };
    let terms = Terms { timeout: Some(request.timeout), stop_signal, controls: None };
    let command = asked.finish(source, output, terms);
    let ended = sandbox.while_alive(command).await;
    let net = network::total(sandbox.network()).await;
    let exited = match ended {
        Ok(exited) => Exited { net, ..exited },
        Err(e) => {
            return Err(RunError {
                usage: Box::new(Usage { net, ..Usage::default() }),
                ..failed(e, begun)
            });
        }
    };
    // A command that was over when we heard that it could begin took as long as
    // the guest says, within what can be true.
    let said = Duration::from_micros(exited.wall_us).min(asked_at.elapsed());
    let outcome = outcome(&exited, begun.elapsed().max(said));
    trace.done("command");
    for copy in &request.copy_out {
        let fetched = sandbox.while_alive(in_time(files::fetch(&channel, copy, &NoProgress))).await;
        fetched
            .map_err(|e| RunError { usage: Box::new(outcome.usage.clone()), ..failed(e, begun) })?;
    }
    Ok(outcome)
}

/// Makes ready for the command and asks for it. A machine in which that fails
/// is ended.
pub(crate) async fn prepare(
    mut sandbox: Sandbox,
    request: &RunRequest,
    exec: Exec,
    mounts: Mounts,
    trace: &Trace,
) -> Result<(Sandbox, Asked), Error> {
    match ask(&mut sandbox, request, exec, mounts, trace).await {
        Ok(asked) => Ok((sandbox, asked)),
        Err(e) => {
            sandbox.end().await;
            Err(e)
        }
    }
}

/// Mounts and copies what the command needs and asks for it. Without either
/// the guest hears of the command while it still learns who it is: one wait
/// less.
async fn ask(
    sandbox: &mut Sandbox,
    request: &RunRequest,
    exec: Exec,
    mounts: Mounts,
    trace: &Trace,
) -> Result<Asked, Error> {
    let channel = sandbox.channel();
    if !mounts.is_empty() {
        sandbox.awake().await?;
        sandbox.while_alive(mounts.attach(&channel)).await?;
    }
    for copy in &request.copy_in {
        sandbox.awake().await?;
        sandbox.while_alive(in_time(files::send(&channel, copy, &NoProgress))).await?;
    }
    let asked = sandbox.while_alive(Asked::ask(&channel, exec)).await?;
    sandbox.awake().await?;
    trace.done("resumed");
    Ok(asked)
}

/// A copy that does not end is given up.
async fn in_time<T>(copy: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Agent(format!("a copy took longer than {COPY_WAIT}"));
    tokio::time::timeout(COPY_WAIT.duration(), copy).await.map_err(late)?
}

/// A failure before the command could have had any effect. A machine that
/// never came so far was never reached, whatever became of it.
pub(crate) fn not_started(error: Error, start: Instant) -> RunError {
    let kind = match error.kind() {
        ErrorKind::Usage => ErrorKind::Usage,
        _ => ErrorKind::ConnectionFailed,
    };
    RunError { kind, duration: start.elapsed(), ..RunError::from(error) }
}

fn failed(error: Error, begun: Instant) -> RunError {
    RunError { duration: begun.elapsed(), started: true, ..RunError::from(error) }
}
