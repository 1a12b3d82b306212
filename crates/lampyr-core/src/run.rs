//! `run`: a machine for one command.

use std::time::Instant;

use lampyr_engine::{EngineError, MachineSpec};
use lampyr_image::Image;
use lampyr_proto::Exec;
use lampyr_types::{ErrorKind, Span};

use crate::exec::{Asked, Source, Terms, job, outcome};
use crate::forward::Forwards;
use crate::sandbox::Sandbox;
use crate::template::{Shape, Template};
use crate::{Error, Host, Outcome, Output, RunError, RunRequest, Trace, files, wish};

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
    let (mut sandbox, wished) =
        Box::pin(sandbox(host, request, trace)).await.map_err(|e| not_started(e, start))?;
    let _forwarding = forwards.serve(&sandbox.channel(), || ());
    let outcome = Box::pin(work(&mut sandbox, request, wished, output, trace, start)).await;
    sandbox.end().await;
    trace.done("ended");
    outcome
}

/// What runs, with what the image wants, and the signal that asks it to end.
struct Wished {
    exec: Exec,
    stop_signal: i32,
}

/// Restores a machine. A template that does not restore is baked again, once.
async fn sandbox(
    host: &Host,
    request: &RunRequest,
    trace: &Trace,
) -> Result<(Sandbox, Wished), Error> {
    let spec = MachineSpec { cpus: request.cpus, memory: request.memory.as_bytes() };
    let shape = Shape { spec, disk: request.disk_size };
    let template = Template::get(host, &request.image, shape).await?;
    trace.done("template");
    let wished = wished(request, &template.image)?;
    let sandbox = match Sandbox::launch(host, &template, trace).await {
        Err(Error::Engine(EngineError::BadImage(_))) => {
            template.discard();
            let template = Template::get(host, &request.image, shape).await?;
            Sandbox::launch(host, &template, trace).await
        }
        launched => launched,
    };
    Ok((sandbox?, wished))
}

fn wished(request: &RunRequest, image: &Image) -> Result<Wished, Error> {
    let command = wish::command(request.command.as_ref(), image)?;
    let (env, workdir) = (request.env.clone(), request.workdir.clone());
    let exec = Exec { env, workdir, ..Exec::new(job(&command)) };
    let exec = wish::fill_in(exec, &image.config);
    Ok(Wished { exec, stop_signal: wish::stop_signal(&image.config) })
}

async fn work(
    sandbox: &mut Sandbox,
    request: &RunRequest,
    wished: Wished,
    output: &mut dyn Output,
    trace: &Trace,
    start: Instant,
) -> Result<Outcome, RunError> {
    let channel = sandbox.channel();
    let Wished { exec, stop_signal } = wished;
    let asked = prepare(sandbox, request, exec, trace).await.map_err(|e| not_started(e, start))?;
    let begun = Instant::now();
    let source = if request.stdin { Source::Ours } else { Source::Empty };
    let terms = Terms { timeout: Some(request.timeout), stop_signal, controls: None };
    let command = asked.finish(source, output, terms);
    let exited = sandbox.while_alive(command).await.map_err(|e| failed(e, begun))?;
    let outcome = outcome(&exited, begun.elapsed());
    trace.done("command");
    for copy in &request.copy_out {
        let fetched = sandbox.while_alive(in_time(files::fetch(&channel, copy))).await;
        fetched.map_err(|e| RunError { usage: outcome.usage.clone(), ..failed(e, begun) })?;
    }
    Ok(outcome)
}

/// Copies what the command needs and asks for it. Without copies the guest
/// hears of the command while it still learns who it is: one wait less.
async fn prepare(
    sandbox: &mut Sandbox,
    request: &RunRequest,
    exec: Exec,
    trace: &Trace,
) -> Result<Asked, Error> {
    let channel = sandbox.channel();
    for copy in &request.copy_in {
        sandbox.awake().await?;
        sandbox.while_alive(in_time(files::send(&channel, copy))).await?;
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
fn not_started(error: Error, start: Instant) -> RunError {
    let kind = match error.kind() {
        ErrorKind::Usage => ErrorKind::Usage,
        _ => ErrorKind::ConnectionFailed,
    };
    RunError { kind, duration: start.elapsed(), ..RunError::from(error) }
}

fn failed(error: Error, begun: Instant) -> RunError {
    RunError { duration: begun.elapsed(), started: true, ..RunError::from(error) }
}
