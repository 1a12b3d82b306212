//! `lampyr log` and `lampyr undo`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::{LogArgs, UndoArgs};
use crate::core_api::envelope::{time, took};
use crate::core_api::{Point, SessionClient};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers, sid};

/// Shows what a session can be taken back to.
pub(super) fn log(args: &LogArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (sid, format) = (sid(&args.sid)?, layers.format(args.json)?);
    let points =
        super::block_on(async { SessionClient::connect(layers.home(), &sid).await?.log().await })??;
    match format {
        Format::Json => printer.json(&points.iter().map(row).collect())?,
        Format::Text => printer.data(table(&points).as_bytes())?,
    }
    Ok(0)
}

/// Takes a session back.
pub(super) fn undo(args: &UndoArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (sid, format) = (sid(&args.sid)?, layers.format(false)?);
    let point = super::block_on(async {
        SessionClient::connect(layers.home(), &sid).await?.undo(args.to).await
    })??;
    let took = took(&point);
    match format {
        Format::Json => printer
            .json(&json!({"undone_to": point.number, "command": point.command, "took_ms": took}))?,
        Format::Text => {
            let told =
                format!("it is what it was before command {}: {}\n", point.number, point.command);
            printer.data(told.as_bytes())?;
        }
    }
    Ok(0)
}

fn row(point: &Point) -> Value {
    let at = time(point);
    json!({"index": point.number, "at": at, "command": point.command, "pause_ms": took(point)})
}

fn table(points: &[Point]) -> String {
    if points.is_empty() {
        return "nothing to undo\n".to_owned();
    }
    let mut text = format!("{:>5}  {:20}  BEFORE\n", "K", "AT");
    for point in points {
        let at = time(point);
        let at = at.get(..19).unwrap_or(&at);
        let command = point.command.replace(char::is_control, " ");
        let _ = writeln!(text, "{:>5}  {at:20}  {command}", point.number);
    }
    text
}
