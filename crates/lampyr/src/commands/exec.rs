//! `lampyr exec`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::ExecArgs;
use crate::core_api::{Control, Error, ExecRequest, Outcome, Output, RunError, SessionClient};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::report;
use crate::settings::{ExecAction, ExecSettings, Format, Layers, Staying};
use crate::terminal::RawMode;

/// Runs a command in a session; the exit status is the command's.
pub(super) fn exec(args: &ExecArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let ExecSettings { sid, action, report } = ExecSettings::resolve(args, layers)?;
    let format = layers.format(false)?;
    let home = layers.home();
    super::block_on(async {
        let staying = match action {
            ExecAction::Detach(request, key) => {
                let client = SessionClient::connect(home, &sid).await?;
                let job = client.start(&request, key.as_deref()).await?;
                return detached(&client, &job, format, printer);
            }
            ExecAction::Stay(staying) => staying,
        };
        let mut report = report::new(&report, printer);
        let begun = Instant::now();
        let told = Told::default();
        let result = match SessionClient::connect(home, &sid).await {
            Ok(client) => perform(&client, staying, report.as_mut(), &told).await?,
            Err(e) => Err(RunError { duration: begun.elapsed(), ..e.into() }),
        };
        super::finish(report, result, told.status())
    })?
}

/// Prints the job's name.
fn detached(
    client: &SessionClient,
    job: &str,
    format: Format,
    printer: &Printer,
) -> Result<u8, Failure> {
    match format {
        Format::Json => {
            printer.json(&json!({"job": job, "sid": client.record()?.sid.to_string()}))?;
        }
        Format::Text => printer.data(format!("{job}\n").as_bytes())?,
    }
    Ok(0)
}

type Ran = Result<Outcome, RunError>;

/// The signal that the command was told to end by, if one came; 0: none.
#[derive(Clone, Default)]
struct Told(Arc<AtomicI32>);

impl Told {
    fn status(&self) -> Option<u8> {
        let signal = self.0.load(Ordering::Relaxed);
        u8::try_from(128 + signal).ok().filter(|_| signal > 0)
    }
}

async fn perform(
    client: &SessionClient,
    staying: Staying,
    output: &mut dyn Output,
    told: &Told,
) -> Result<Ran, Failure> {
    match staying {
        Staying::Run(request) => Ok(client.exec(&request, output, signals(told)?).await),
        Staying::Once(request, key) => once(client, &request, &key, output, told).await,
        Staying::Attach(job) => Ok(client.attach(&job, output, signals(told)?).await),
        Staying::Wait(job) => {
            let (_nobody, nothing) = mpsc::channel(1);
            Ok(client.attach(&job, output, nothing).await)
        }
        Staying::Terminal(request) => terminal(client, request, output).await,
    }
}

async fn once(
    client: &SessionClient,
    request: &ExecRequest,
    key: &str,
    output: &mut dyn Output,
    told: &Told,
) -> Result<Ran, Failure> {
    let begun = Instant::now();
    match client.start(request, Some(key)).await {
        Ok(job) => Ok(client.attach(&job, output, signals(told)?).await),
        Err(e) => Ok(Err(RunError { duration: begun.elapsed(), ..e.into() })),
    }
}

/// Runs a command on a terminal that is the image of ours.
async fn terminal(
    client: &SessionClient,
    mut request: ExecRequest,
    output: &mut dyn Output,
) -> Result<Ran, Failure> {
    let failed = |source| Failure::System { what: "use the terminal", source };
    let raw = RawMode::enter().map_err(failed)?;
    request.terminal = raw.window();
    let controls = raw.controls().map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let ran = tokio::select! {
        ran = client.exec(&request, output, controls) => ran,
        _ = hangup.recv() => Err(Error::Disconnected.into()),
        _ = term.recv() => Err(Error::Disconnected.into()),
    };
    drop(raw);
    Ok(ran)
}

/// `SIGINT` and `SIGTERM`, for the command.
fn signals(told: &Told) -> Result<mpsc::Receiver<Control>, Failure> {
    let failed = |source: io::Error| Failure::System { what: "listen for signals", source };
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let (to, controls) = mpsc::channel(16);
    let told = told.clone();
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = int.recv() => libc::SIGINT,
                _ = term.recv() => libc::SIGTERM,
            };
            told.0.store(number, Ordering::Relaxed);
            if to.send(Control::Signal(number)).await.is_err() {
                return;
            }
        }
    });
    Ok(controls)
}
