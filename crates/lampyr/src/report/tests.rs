use std::time::Duration;

use lampyr_types::ErrorKind;

use super::*;
use crate::core_api::{OutputStream, Usage};
use crate::printer::paper::{self, Paper};

const TOOK: Duration = Duration::from_millis(7);

#[expect(clippy::unnecessary_wraps, reason = "the counterpart of `failed`")]
fn ended(exit_code: i32) -> Result<Outcome, RunError> {
    Ok(Outcome { exit_code, duration: TOOK, usage: Usage::default() })
}

fn failed(kind: ErrorKind, started: bool) -> Result<Outcome, RunError> {
    let (message, hint) = ("it failed".to_owned(), Some("do better".to_owned()));
    let usage = Box::default();
    Err(RunError { kind, message, hint, duration: TOOK, started, usage, missing: false })
}

/// The report of a command that says `out` and `ho!`, and what was printed.
fn told(
    make: impl FnOnce(Printer) -> Box<dyn Report>,
    out: &[u8],
    result: Result<Outcome, RunError>,
) -> Paper {
    let (printer, paper) = Paper::new();
    let mut report = make(printer);
    for (stream, bytes) in [(OutputStream::Stdout, out), (OutputStream::Stderr, b"ho!")] {
        wait_for_room(report.as_mut());
        report.write(stream, bytes).unwrap();
    }
    report.finish(result).unwrap();
    paper
}

fn wait_for_room(report: &mut dyn Report) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(report.room());
}

fn envelope(out: &[u8], result: Result<Outcome, RunError>) -> String {
    let gathered = Gathered::new(100, std::path::Path::new("/nowhere"));
    told(|p| Box::new(envelope::Envelope::new(gathered, p)), out, result).out()
}

#[test]
fn a_success_has_the_four_keys() {
    let expected = r#"{"duration_ms":7,"exit_code":3,"stderr":"ho!","stdout":"hi\n"}"#;
    assert_eq!(envelope(b"hi\n", ended(3)), format!("{expected}\n"));
}

#[test]
fn bytes_that_are_no_text_come_as_base64_too() {
    let expected =
        r#"{"duration_ms":7,"exit_code":0,"stderr":"ho!","stdout":"�","stdout_bytes":"/w=="}"#;
    assert_eq!(envelope(b"\xff", ended(0)), format!("{expected}\n"));
}

#[test]
fn errors_say_what_the_command_had_said() {
    for (kind, word) in [(ErrorKind::Timeout, "timeout"), (ErrorKind::VmCrashed, "vm_crashed")] {
        let expected = format!(
            r#"{{"duration_ms":7,"error":"{word}","hint":"do better","message":"it failed","partial_stderr":"ho!","partial_stdout":"hi"}}"#
        );
        assert_eq!(envelope(b"hi", failed(kind, true)), format!("{expected}\n"));
    }
}

#[test]
fn a_run_that_never_started_has_no_partial_output() {
    let expected =
        r#"{"duration_ms":7,"error":"connection_failed","hint":"do better","message":"it failed"}"#;
    let failure = failed(ErrorKind::ConnectionFailed, false);
    assert_eq!(envelope(b"", failure), format!("{expected}\n"));
}

#[test]
fn use_and_truncation_are_under_meta() {
    let outputs = tempfile::tempdir().unwrap();
    let gathered = Gathered::new(4, outputs.path());
    let usage = Usage { cpu_ms: Some(5), oom: true, ..Usage::default() };
    let result = Ok(Outcome { exit_code: 137, duration: TOOK, usage });
    let paper = told(|p| Box::new(envelope::Envelope::new(gathered, p)), b"0123456789", result);
    let value: serde_json::Value = paper.out().parse().unwrap();
    let cut = &value["meta"]["truncated"]["stdout"];
    assert_eq!((&value["meta"]["cpu_ms"], &value["meta"]["oom"]), (&5.into(), &true.into()));
    assert_eq!((&cut["total_bytes"], &cut["kept_bytes"]), (&10.into(), &4.into()));
    assert_eq!(std::fs::read(cut["file"].as_str().unwrap()).unwrap(), b"0123456789");
    assert!(value["meta"]["truncated"]["stderr"].is_null());
}

#[test]
fn ndjson_ends_with_how_it_ended() {
    let paper = told(|p| Box::new(ndjson::Ndjson::new(p)), b"h\xc3", ended(0));
    let lines = [
        r#"{"data":"h","stream":"stdout"}"#,
        r#"{"data":"ho!","stream":"stderr"}"#,
        r#"{"data":"�","data_bytes":"ww==","stream":"stdout"}"#,
        r#"{"duration_ms":7,"exit_code":0}"#,
    ];
    assert_eq!(paper.out(), format!("{}\n", lines.join("\n")));
}

#[test]
fn text_keeps_the_streams_apart() {
    let paper = told(|p| Box::new(text::Streamed::new(p)), b"hi", failed(ErrorKind::Timeout, true));
    assert_eq!(paper.out(), "hi");
    assert_eq!(paper.err(), "ho!error: it failed\nhint: do better\n");
    let gathered = Gathered::new(100, std::path::Path::new("/nowhere"));
    let paper = told(|p| Box::new(text::AtEnd::new(gathered, p)), b"hi", ended(0));
    assert_eq!((paper.out().as_str(), paper.err().as_str()), ("hi", "ho!"));
}

#[test]
fn a_closed_pipe_ends_in_an_error_and_not_in_a_panic() {
    let mut report = text::Streamed::new(paper::closed());
    report.write(OutputStream::Stdout, b"hi").unwrap();
    // The first piece fails, so that there is never room for a third.
    let refused = (0..2).find_map(|_| {
        wait_for_room(&mut report);
        report.write(OutputStream::Stdout, b"hi").err()
    });
    assert_eq!(refused.unwrap().kind(), io::ErrorKind::BrokenPipe);
    let error = Box::new(report).finish(ended(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
