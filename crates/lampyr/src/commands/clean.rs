//! `lampyr clean`.

use std::fmt::Write as _;
use std::sync::Arc;

use lampyr_types::NoProgress;
use serde_json::{Value, json};

use crate::args::CleanArgs;
use crate::core_api::{self as core, Cleaned, Present};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers};
use crate::wiring;

use super::human;

/// Removes what dead processes left and says what it was.
pub(super) fn clean(
    args: &CleanArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let format = layers.format(false)?;
    // Without a host that could run something, its templates are left alone.
    let settings =
        layers.host().ok().and_then(|host| wiring::host(host, Arc::new(NoProgress)).ok());
    let present = settings.as_ref().and_then(Present::of);
    let cleaned = core::clean(layers.home(), present.as_ref(), args.dry_run)?;
    tell(&cleaned, args.dry_run, format, printer)
}

/// Says what was removed, or would be.
pub(super) fn tell(
    cleaned: &Cleaned,
    dry_run: bool,
    format: Format,
    printer: &Printer,
) -> Result<u8, Failure> {
    match format {
        Format::Json => printer.json(&data(cleaned, dry_run))?,
        Format::Text => printer.data(text(cleaned, dry_run).as_bytes())?,
    }
    Ok(0)
}

fn total(cleaned: &Cleaned) -> u64 {
    cleaned.items.iter().map(|item| item.bytes).sum()
}

fn data(cleaned: &Cleaned, dry_run: bool) -> Value {
    let items = cleaned.items.iter();
    let removed: Vec<_> = items
        .map(|item| json!({"what": item.what, "path": item.path.to_string_lossy(), "bytes": item.bytes}))
        .collect();
    json!({"removed": removed, "bytes": total(cleaned), "dry_run": dry_run})
}

fn text(cleaned: &Cleaned, dry_run: bool) -> String {
    if cleaned.items.is_empty() {
        return "nothing to remove\n".to_owned();
    }
    let mut text = String::new();
    for item in &cleaned.items {
        let _ = writeln!(text, "{:>10}  {}  {}", human(item.bytes), item.what, item.path.display());
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    let _ = writeln!(text, "{:>10}  {verb}", human(total(cleaned)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core_api::CleanedItem;

    #[test]
    fn both_forms_say_what_and_how_much() {
        let item = CleanedItem { what: "sandbox".into(), path: "/h/s".into(), bytes: 2048 };
        let cleaned = Cleaned { items: vec![item] };
        assert_eq!(
            data(&cleaned, true).to_string(),
            r#"{"bytes":2048,"dry_run":true,"removed":[{"bytes":2048,"path":"/h/s","what":"sandbox"}]}"#
        );
        assert_eq!(text(&cleaned, false), "    2.0 KB  sandbox  /h/s\n    2.0 KB  removed\n");
        assert_eq!(text(&Cleaned { items: vec![] }, false), "nothing to remove\n");
    }
}
