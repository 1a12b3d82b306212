//! What a client of a session asks, and what is answered.

use std::sync::Arc;
use std::time::Duration;

use lampyr_proto::{Event, Exec, Failure, Job, Request};
use lampyr_types::ErrorKind;

use super::job;
use super::life::Happening;
use super::owner::Session;
use super::relay;
use crate::Error;
use crate::channel::Served;

/// Answers a request to its last byte; the owner does not go before.
pub(super) async fn answer(session: Arc<Session>, served: Served) {
    let _heard = session.listen();
    let answer = served.answer.clone();
    obey(&session, served).await;
    answer.flush().await;
}

/// The request switch of a session: one line per request.
async fn obey(session: &Arc<Session>, mut served: Served) {
    let answer = served.answer.clone();
    let request = std::mem::replace(&mut served.request, Request::Status);
    // Whoever ends the session is not what it waits for.
    if let Request::Stop(grace) = request {
        return session.stop(Duration::from_millis(grace), &answer).await;
    }
    let _busy = session.busy();
    session.clock.keep(&session.channel()).await;
    if let Request::Exec(exec) = &request
        && let Err(failure) = session.remember(exec).await
    {
        let _ = answer.say(&Event::Failure(failure)).await;
        return;
    }
    let event = match request {
        Request::Exec(exec) => return relay::exec(session, served, session.fill_in(*exec)).await,
        Request::Attach(name) => match session.jobs.get(&name) {
            Some(job) => return job::attach(&job, served).await,
            None => Event::Failure(no_job(&name).to_failure()),
        },
        Request::Start(start) => {
            job::start(session, *start).await.map_or_else(Event::Failure, Event::Job)
        }
        Request::Status => Event::Status(session.status()),
        Request::Restrict(rules) => session.restrict(&rules).await,
        Request::Suggest => session.suggest().await,
        Request::Copy(dir, open) => {
            session.copy(dir.into(), open).await.unwrap_or_else(Event::Failure)
        }
        Request::Log => session.log().await.unwrap_or_else(Event::Failure),
        Request::Undo(to) => session.undo(to).await.unwrap_or_else(Event::Failure),
        Request::Detach => {
            session.live(Happening::Detached);
            Event::Done
        }
        Request::Hello(_)
        | Request::Resumed(_)
        | Request::Quiesce
        | Request::Mount(_)
        | Request::Clock(_)
        | Request::Freeze
        | Request::Thaw
        | Request::Stop(_) => Event::Failed("a session does not do that for a client".into()),
    };
    let _ = answer.say(&event).await;
}

/// What may change the machine, in a line.
pub(super) fn changes(exec: &Exec) -> Option<String> {
    match &exec.job {
        Job::Shell(text) => Some(text.lines().next().unwrap_or_default().to_owned()),
        Job::Argv(words) => Some(words.join(" ")),
        Job::Put(path) => Some(format!("cp to {path}")),
        Job::File(job) => job.changes(),
        Job::Get(_) | Job::Dial(_) | Job::Export => None,
    }
}

pub(super) fn undone() -> Failure {
    Failure {
        host_us: None,
        kind: ErrorKind::SessionDisconnected.word().to_owned(),
        message: "the session was taken back to what it was before the command".into(),
        ..Failure::default()
    }
}

fn no_job(name: &str) -> Error {
    let name: String = name.chars().take(80).collect();
    Error::NoJob(format!("there is no job '{name}' in this session"))
}

pub(super) fn no_card() -> Failure {
    Failure {
        host_us: None,
        kind: ErrorKind::Usage.word().to_owned(),
        message: "the session has no network card".into(),
        hint: Some("start one that has: lampyr session start --net allow=RULE".into()),
    }
}

pub(super) fn stopped() -> Failure {
    Failure {
        host_us: None,
        kind: ErrorKind::SessionDisconnected.word().to_owned(),
        message: "the session was stopped".into(),
        ..Failure::default()
    }
}
