//! `lampyr doctor`.

use std::env::consts::{ARCH, OS};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::core_api::{self as core, Check, Report, Severity};
use crate::failure::Failure;
use crate::interrupt::unless_interrupted;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers};
use crate::wiring;

/// Checks this host; the exit status is that of the worst finding.
pub(super) fn doctor(
    args: &DoctorArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let (host, format) = (layers.host()?, layers.format(args.json)?);
    let world = layers.world();
    let progress = progress(world, printer);
    let looked = super::block_on(unless_interrupted(async {
        let fetched = if args.fix { wiring::fetch_qemu(&host, &*progress) } else { Ok(()) };
        let report =
            core::doctor(&wiring::host(host, progress)?, world.env.proxy(), args.fix).await;
        Ok((report, fetched))
    }))??;
    let (mut report, fetched) = match looked {
        Ok(looked) => looked,
        Err(status) => return Ok(status),
    };
    if let Err(e) = fetched {
        not_fetched(&mut report, &e.to_string(), e.hint());
    }
    match format {
        Format::Json => printer.json(&data(&report, world.cpus))?,
        Format::Text => printer.data(text(&report).as_bytes())?,
    }
    Ok(report.checks.iter().map(|check| rank(check.severity).0).max().unwrap_or(0))
}

/// Says with the engine that a newer QEMU could not be had. That is a warning
/// where there is another one.
fn not_fetched(report: &mut Report, why: &str, hint: Option<String>) {
    let Some(engine) = report.checks.iter_mut().find(|check| check.id == "engine") else { return };
    engine.severity = engine.severity.max(Severity::Warning);
    engine.detail = format!("{}; a newer QEMU could not be fetched: {why}", engine.detail);
    if engine.severity == Severity::Warning {
        engine.fix = hint.or(engine.fix.take());
    }
}

/// The exit status and the word of a severity.
fn rank(severity: Severity) -> (u8, &'static str) {
    match severity {
        Severity::Info => (0, "info"),
        Severity::Warning => (1, "warning"),
        Severity::Error => (2, "error"),
    }
}

fn data(report: &Report, cpus: u32) -> Value {
    json!({
        "generatedAt": jiff::Timestamp::now().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "host": {"os": OS, "arch": ARCH, "cpus": cpus, "accel": report.accel},
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn check(check: &Check) -> Value {
    let Check { id, severity, title, detail, fix } = check;
    let severity = rank(*severity).1;
    json!({"id": id, "severity": severity, "title": title, "detail": detail, "fix": fix})
}

fn text(report: &Report) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("lampyr {version} on {OS} {ARCH}, accelerator {}\n", report.accel);
    for check in &report.checks {
        let severity = rank(check.severity).1;
        let _ = writeln!(text, "\n{severity:<8} {}\n         {}", check.title, check.detail);
        if let Some(fix) = &check.fix {
            let _ = writeln!(text, "         fix: {fix}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(severity: Severity) -> Report {
        let (title, detail) = ("the engine".to_owned(), "found".to_owned());
        let check = Check { id: "engine", severity, title, detail, fix: Some("install".into()) };
        Report { accel: "tcg".into(), checks: vec![check] }
    }

    #[test]
    fn a_qemu_that_cannot_be_fetched_is_a_warning_only_where_there_is_another() {
        let mut report = engine(Severity::Info);
        not_fetched(&mut report, "no mirror", Some("try again".into()));
        let check = &report.checks[0];
        assert_eq!(check.severity, Severity::Warning);
        assert_eq!(check.detail, "found; a newer QEMU could not be fetched: no mirror");
        assert_eq!(check.fix.as_deref(), Some("try again"));

        let mut report = engine(Severity::Error);
        not_fetched(&mut report, "no mirror", Some("try again".into()));
        assert_eq!(report.checks[0].severity, Severity::Error);
        assert_eq!(report.checks[0].fix.as_deref(), Some("install"));
    }

    #[test]
    fn the_report_has_the_keys_of_the_contract() {
        let (title, detail) = ("KVM".to_owned(), "no /dev/kvm".to_owned());
        let severity = Severity::Warning;
        let check = Check { id: "kvm", severity, title, detail, fix: Some("load it".into()) };
        let report = Report { accel: "tcg".into(), checks: vec![check] };
        let value = data(&report, 4);
        assert_eq!(value["checks"][0]["severity"], "warning");
        assert_eq!(value["host"]["accel"], "tcg");
        assert!(value["generatedAt"].as_str().unwrap().ends_with('Z'));
        assert!(
            text(&report).contains("warning  KVM\n         no /dev/kvm\n         fix: load it\n")
        );
    }
}
