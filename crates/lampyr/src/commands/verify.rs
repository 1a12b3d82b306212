//! `lampyr verify-fork`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::VerifyForkArgs;
use crate::core_api::{self as core, ForkCheck, ForkPrograms};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers};

use super::session::owner;
use super::snapshot::on_host;

/// Checks that forks are what they must be; the exit status is 0 only if they
/// are.
pub(super) fn verify_fork(
    args: &VerifyForkArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    // Found before anything is done, since it cannot fail later.
    owner(layers.home(), "session-owner")?;
    let checks = on_host(layers, printer, async |host| {
        let accel = host.accel().to_string();
        let this = |home: &Path, command: &str| {
            let mut this = owner(home, command).unwrap_or_else(|_| Command::new("lampyr"));
            // What is known of accelerators is known of the user's home.
            this.env("LAMPYR_ACCEL", &accel);
            this
        };
        let fork = |home: &Path, sid: &str| {
            let mut fork = this(home, "fork");
            fork.args([sid, "--with-secrets"]);
            fork
        };
        let owner = |home: &Path| this(home, "session-owner");
        let programs = ForkPrograms { owner: &owner, fork: &fork };
        Ok(core::verify_fork(&host, args.only, programs).await?)
    })?;
    let checks = match checks {
        Ok(checks) => checks,
        Err(status) => return Ok(status),
    };
    let passed = checks.iter().all(|check| check.passed);
    match format {
        Format::Json => {
            let rows: Vec<_> = checks.iter().map(row).collect();
            printer.json(&json!({"checks": rows, "passed": passed}))?;
        }
        Format::Text => printer.data(text(&checks).as_bytes())?,
    }
    Ok(u8::from(!passed))
}

fn row(check: &ForkCheck) -> Value {
    let ForkCheck { point, name, passed, detail } = check;
    json!({"point": point, "name": name, "passed": passed, "detail": detail})
}

fn text(checks: &[ForkCheck]) -> String {
    let mut text = String::new();
    for ForkCheck { point, name, passed, detail } in checks {
        let word = if *passed { "pass" } else { "FAIL" };
        let _ = writeln!(text, "{point}  {word}  {name:31} {detail}");
    }
    text
}
