//! `lampyr ps`: what the sessions that live are doing.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::args::ListArgs;
use crate::core_api::{self as core, Error, SessionClient, SessionRecord, SessionState, Vitals};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers};

use super::human;

/// A session, and how it is where it answers.
type Row = (SessionRecord, Option<Vitals>);

/// Asks every session that lives how it is.
pub(super) fn ps(args: &ListArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    let rows = super::block_on(ask(layers.home()))??;
    match format {
        Format::Json => printer.json(&rows.iter().map(data).collect())?,
        Format::Text => printer.data(text(&rows).as_bytes())?,
    }
    Ok(0)
}

async fn ask(home: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (session, state) in core::sessions(home)? {
        if state == SessionState::Running {
            let vitals = vitals(home, &session).await.ok();
            rows.push((session, vitals));
        }
    }
    Ok(rows)
}

async fn vitals(home: &Path, session: &SessionRecord) -> Result<Vitals, Error> {
    SessionClient::connect(home, &session.sid.to_string()).await?.vitals().await
}

fn data((session, vitals): &Row) -> Value {
    let sid = session.sid.to_string();
    match vitals {
        None => json!({"sid": sid, "error": "unreachable"}),
        Some(vitals) => json!({
            "sid": sid,
            "image": session.image,
            "uptime_seconds": vitals.uptime.as_secs(),
            "active_execs": vitals.active_execs,
            "memory_bytes": vitals.memory_bytes,
        }),
    }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut text =
        format!("{:36}  {:>8}  {:>5}  {:>9}  NAME\n", "SID", "UPTIME", "EXECS", "MEMORY");
    for (session, vitals) in rows {
        let sid = session.sid.to_string();
        let name = session.name.as_ref().map_or("", |name| name.as_str());
        let _ = match vitals {
            None => writeln!(text, "{sid:36}  {:>26}  {name}", "unreachable"),
            Some(v) => {
                let (uptime, memory) = (v.uptime.as_secs(), v.memory_bytes.map(human));
                let (execs, memory) = (v.active_execs, memory.unwrap_or_default());
                writeln!(text, "{sid:36}  {uptime:>7}s  {execs:>5}  {memory:>9}  {name}")
            }
        };
    }
    text
}
