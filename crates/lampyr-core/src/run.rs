//! `run`: a machine for one command.

use std::time::Instant;

use lampyr_engine::{EngineError, MachineSpec};
use lampyr_proto::Exec;
use lampyr_types::{NoProgress, Span};

use crate::exec::{Asked, Source, Terms, job, outcome};
use crate::forward::Forwards;
use crate::sandbox::Sandbox;
use crate::template::{Shape, Template};
use crate::{Error, Host, Outcome, Output, RunError, RunRequest, Trace, files};

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
    // Boxed: baking a template is a large future, and seldom needed.
    let forwards = Forwards::bind(&request.forwards).await.map_err(|e| not_started(e, start))?;
    let mut sandbox =
        Box::pin(sandbox(host, request, trace)).await.map_err(|e| not_started(e, start))?;
    let _forwarding = forwards.serve(&sandbox.channel(), || ());
    let outcome = Box::pin(work(&mut sandbox, request, output, trace, start)).await;
    sandbox.end().await;
    trace.done("ended");
    outcome
}

/// Restores a machine. A template that does not restore is baked again, once.
async fn sandbox(host: &Host, request: &RunRequest, trace: &Trace) -> Result<Sandbox, Error> {
    let spec = MachineSpec { cpus: request.cpus, memory: request.memory.as_bytes() };
    let shape = Shape { spec, disk: request.disk_size };
    let template = Template::get(host, &request.image, shape).await?;
    trace.done("template");
    match Sandbox::launch(host, &template, trace).await {
        Err(Error::Engine(EngineError::BadImage(_))) => {
            template.discard();
            let template = Template::get(host, &request.image, shape).await?;
            Sandbox::launch(host, &template, trace).await
        }
        launched => launched,
    }
}

async fn work(
    sandbox: &mut Sandbox,
    request: &RunRequest,
    output: &mut dyn Output,
    trace: &Trace,
    start: Instant,
) -> Result<Outcome, RunError> {
    let channel = sandbox.channel();
    let asked = prepare(sandbox, request, trace).await.map_err(|e| not_started(e, start))?;
    let begun = Instant::now();
    let source = if request.stdin { Source::Ours } else { Source::Empty };
    let terms = Terms { timeout: Some(request.timeout), controls: None };
    let command = asked.finish(source, output, terms);
    let exited = sandbox.while_alive(command).await.map_err(|e| failed(e, begun))?;
    let outcome = outcome(&exited, begun.elapsed());
    trace.done("command");
    for copy in &request.copy_out {
        let fetched = sandbox.while_alive(in_time(files::fetch(&channel, copy, &NoProgress))).await;
        fetched
            .map_err(|e| RunError { usage: Box::new(outcome.usage.clone()), ..failed(e, begun) })?;
    }
    Ok(outcome)
}

/// Copies what the command needs and asks for it. Without copies the guest
/// hears of the command while it still learns who it is: one wait less.
async fn prepare(
    sandbox: &mut Sandbox,
    request: &RunRequest,
    trace: &Trace,
) -> Result<Asked, Error> {
    let channel = sandbox.channel();
    for copy in &request.copy_in {
        sandbox.awake().await?;
        sandbox.while_alive(in_time(files::send(&channel, copy, &NoProgress))).await?;
    }
    let asked = sandbox.while_alive(Asked::ask(&channel, process(request))).await?;
    sandbox.awake().await?;
    trace.done("resumed");
    Ok(asked)
}

/// A copy that does not end is given up.
async fn in_time<T>(copy: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Agent(format!("a copy took longer than {COPY_WAIT}"));
    tokio::time::timeout(COPY_WAIT.duration(), copy).await.map_err(late)?
}

fn process(request: &RunRequest) -> Exec {
    let (env, workdir) = (request.env.clone(), request.workdir.clone());
    Exec { env, workdir, ..Exec::new(job(&request.command)) }
}

/// A failure before the command could have had any effect. A machine that
/// never came so far was never reached, whatever became of it.
fn not_started(error: Error, start: Instant) -> RunError {
    let kind = lampyr_types::ErrorKind::ConnectionFailed;
    RunError { kind, duration: start.elapsed(), ..RunError::from(error) }
}

fn failed(error: Error, begun: Instant) -> RunError {
    RunError { duration: begun.elapsed(), started: true, ..RunError::from(error) }
}
