//! The envelope: what a script reads from `lampyr run`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use lampyr_e2e::{TestContext, entries};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_success_has_exactly_its_keys() {
    let envelope = TestContext::shared().run("echo out; echo err >&2").envelope();
    let keys: Vec<_> = envelope.as_object().unwrap().keys().filter(|k| *k != "meta").collect();
    assert_eq!(keys, ["duration_ms", "exit_code", "stderr", "stdout"]);
    assert_eq!(envelope.success(), "out\n");
    assert_eq!(envelope.text("stderr"), "err\n");
}

#[test]
fn a_command_that_fails_is_a_success_of_the_run() {
    let envelope = TestContext::shared().run("echo sorry >&2; exit 42").envelope();
    assert_eq!(envelope["exit_code"], 42);
    assert_eq!(envelope.text("stderr"), "sorry\n");
}

#[test]
fn an_end_by_signal_is_128_and_its_number() {
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let envelope = TestContext::shared().run(&format!("kill -{signal} $$")).envelope();
        assert_eq!(envelope["exit_code"], code);
    }
}

#[test]
fn a_timeout_tells_what_was_said_before() {
    let command = "echo before; echo trouble >&2; sleep 100; echo after";
    let envelope = TestContext::shared().run(command).args(["--timeout", "1s"]).envelope();
    envelope.error("timeout");
    assert_eq!(envelope.text("partial_stdout"), "before\n");
    assert_eq!(envelope.text("partial_stderr"), "trouble\n");
    assert!(envelope.duration() >= SECOND && envelope.duration() < 2 * SECOND, "{envelope:?}");
}

#[test]
fn a_command_that_ignores_signals_is_ended_in_time() {
    let command = "trap '' TERM INT HUP; while :; do sleep 1; done";
    let envelope = TestContext::shared().run(command).args(["--timeout", "500ms"]).envelope();
    envelope.error("timeout");
    assert!(envelope.took < 5 * SECOND, "{envelope:?}");
}

#[test]
fn a_machine_that_ends_by_itself_has_crashed() {
    let shared = TestContext::shared();
    let call = |word: &str| {
        let number = if cfg!(target_arch = "aarch64") { 142 } else { 169 };
        format!("perl -e 'syscall({number}, 0xfee1dead, 0x28121969, {word}, 0)'")
    };
    let (power_off, reboot) = (call("0x4321fedc"), call("0x1234567"));
    let sysrq = |key: char| format!("echo {key} > /proc/sysrq-trigger");
    for end in [power_off, reboot, sysrq('b'), sysrq('c'), sysrq('o')] {
        let command = format!("echo hi; echo oh >&2; sleep 0.2; {end}; sleep 50");
        let envelope = shared.run(&command).args(["--timeout", "20s"]).envelope();
        envelope.error("vm_crashed");
        assert_eq!(envelope.text("partial_stdout"), "hi\n", "{end}");
        assert_eq!(envelope.text("partial_stderr"), "oh\n", "{end}");
        assert!(envelope.took < 10 * SECOND, "{end}: {envelope:?}");
    }
}

#[test]
fn a_missing_image_is_a_failed_connection() {
    let envelope = TestContext::shared().run("true").args(["--image", "nowhere"]).envelope();
    assert!(envelope.error("connection_failed").contains("nowhere"));
    assert!(envelope.get("partial_stdout").is_none());
}

#[test]
fn a_failed_upload_is_a_failed_connection() {
    let call = TestContext::shared().run("echo ran").args(["--copy", "/etc/hostname:/proc/x"]);
    let envelope = call.envelope();
    assert!(envelope.error("connection_failed").contains("/etc/hostname"), "{envelope:?}");
    assert!(envelope.get("partial_stdout").is_none());
}

#[test]
fn an_unusable_qemu_is_a_failed_connection() {
    let own = TestContext::own();
    for qemu in ["/no/such/qemu", "/bin/true", "/bin/false", "/etc/hostname"] {
        let envelope = own.run("true").env("LAMPYR_QEMU", qemu).envelope();
        let message = envelope.error("connection_failed");
        assert!(message.contains(qemu), "{message}");
        assert!(envelope.get("hint").is_some(), "{envelope:?}");
        own.assert_tidy();
    }
}

#[test]
fn the_duration_is_the_commands_own() {
    let envelope = TestContext::shared().run("sleep 1").envelope();
    envelope.success();
    assert!(envelope.duration() >= SECOND, "{envelope:?}");
    // A busy host makes everything slow, but not for the command's account.
    let own_part = envelope.took.saturating_sub(SECOND);
    assert!(envelope.duration() < SECOND + own_part.max(SECOND * 9 / 10), "{envelope:?}");
    assert!(envelope.duration() <= envelope.took);
}

#[test]
fn bytes_that_are_no_text_come_as_base64_too() {
    let command = r"printf 'a\377b\000c'; printf '\303' >&2";
    let envelope = TestContext::shared().run(command).envelope();
    assert_eq!(envelope.success(), "a\u{fffd}b\0c");
    assert_eq!(BASE64_STANDARD.decode(envelope.text("stdout_bytes")).unwrap(), b"a\xffb\0c");
    assert_eq!(BASE64_STANDARD.decode(envelope.text("stderr_bytes")).unwrap(), b"\xc3");
}

#[test]
fn nul_bytes_are_text() {
    let envelope = TestContext::shared().run(r"printf '\000x\000'").envelope();
    assert_eq!(envelope.success(), "\0x\0");
    assert!(envelope.get("stdout_bytes").is_none());
}

#[test]
fn a_long_line_is_whole() {
    let envelope =
        TestContext::shared().run("head -c 81920 /dev/zero | tr '\\0' x; echo").envelope();
    assert_eq!(envelope.success(), format!("{}\n", "x".repeat(81920)));
}

#[test]
fn lines_on_both_streams_keep_their_order() {
    let command = "i=0; while [ $i -lt 100 ]; do echo $i; echo $i >&2; i=$((i+1)); done";
    let envelope = TestContext::shared().run(command).envelope();
    let numbers: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    let lines = numbers.join("\n") + "\n";
    assert_eq!(envelope.success(), lines);
    assert_eq!(envelope.text("stderr"), lines);
}

/// `seq` says something else at every place of its output.
fn sequence(length: usize) -> Vec<u8> {
    use std::io::Write;
    let mut bytes = Vec::with_capacity(length + 16);
    for i in 1_u64.. {
        if bytes.len() >= length {
            break;
        }
        writeln!(bytes, "{i}").unwrap();
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_hundred_megabytes_are_there_byte_for_byte() {
    const LENGTH: usize = 100_000_000;
    let own = TestContext::own();
    let expected = sequence(LENGTH);
    let command = format!("seq 1 20000000 | head -c {LENGTH}");
    let rows: [(&[&str], usize); 2] = [(&[], 64 << 20), (&["--max-output", "1MB"], 1 << 20)];
    for (words, kept) in rows {
        let envelope = own.run(&command).args(words).envelope();
        let cut = &envelope["meta"]["truncated"]["stdout"];
        assert_eq!(cut["total_bytes"], LENGTH);
        assert_eq!(cut["kept_bytes"], kept);
        let file = std::path::Path::new(cut["file"].as_str().unwrap());
        assert!(std::fs::read(file).unwrap() == expected, "{words:?}");
        let text = envelope.success().as_bytes();
        assert!(text.starts_with(&expected[..kept / 2]));
        assert!(text.ends_with(&expected[LENGTH - kept / 2..]));
        assert!(text.len() < kept + 1000);
        std::fs::remove_file(file).unwrap();
    }
    own.assert_tidy();
}

#[test]
fn output_that_never_ends_is_cut_by_the_timeout() {
    let own = TestContext::own();
    let call = own.run("yes").args(["--timeout", "2s", "--max-output", "1MB"]);
    let envelope = call.envelope();
    envelope.error("timeout");
    assert!(envelope.text("partial_stdout").starts_with("y\ny\n"));
    assert!(envelope["meta"]["truncated"]["stdout"]["total_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(envelope.took < 8 * SECOND, "{:?}", envelope.took);
    assert_eq!(entries(&own.home().join("outputs")).len(), 1);
    own.assert_tidy();
}

#[test]
fn ndjson_ends_with_a_closing_line() {
    let shared = TestContext::shared();
    let ndjson = |command: &str| {
        let call = shared.run(command).args(["--timeout", "1s"]).env("LAMPYR_OUTPUT", "ndjson");
        let finished = call.finish();
        let lines = finished.stdout.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
        (finished.status(), lines.collect::<Vec<Value>>())
    };
    let said = |lines: &[Value], stream: &str| {
        let ours = lines.iter().filter(|line| line["stream"] == stream);
        ours.map(|line| line["data"].as_str().unwrap()).collect::<String>()
    };

    let (status, lines) = ndjson("echo one; echo two >&2; echo drei; exit 3");
    assert_eq!(status, Some(3));
    assert_eq!(
        (said(&lines, "stdout"), said(&lines, "stderr")),
        ("one\ndrei\n".into(), "two\n".into())
    );
    let last = lines.last().unwrap();
    assert!(last["exit_code"] == 3 && last["duration_ms"].is_u64() && last.get("error").is_none());
    assert_eq!(lines.iter().filter(|line| line.get("stream").is_none()).count(), 1);

    let (status, lines) = ndjson("echo one; sleep 9");
    assert_eq!(status, Some(1));
    assert_eq!(said(&lines, "stdout"), "one\n");
    let last = lines.last().unwrap();
    assert!(last["error"] == "timeout" && last.get("exit_code").is_none());
}

#[test]
fn text_is_the_commands_own_bytes() {
    let shared = TestContext::shared();
    let text = |command: &str| shared.run(command).env("LAMPYR_FORMAT", "text").finish();
    let finished = text(r"printf 'a\377'; printf 'b' >&2; exit 7");
    assert_eq!(finished.status(), Some(7));
    assert_eq!(finished.stdout, b"a\xff");
    assert_eq!(finished.stderr, b"b");

    let call = shared.run("echo hi; sleep 9").args(["--timeout", "500ms"]);
    let finished = call.env("LAMPYR_FORMAT", "text").finish();
    assert_eq!(finished.status(), Some(1));
    assert_eq!(finished.stdout(), "hi\n");
    assert!(finished.stderr().starts_with("error: the command ran longer than 500ms\n"));
}

#[test]
fn a_boot_trace_draws_the_stages_beside_the_envelope() {
    let envelope = TestContext::shared().run("true").env("LAMPYR_BOOT_TRACE", "1").envelope();
    envelope.success();
    for stage in ["template", "restored", "resumed", "command"] {
        assert!(envelope.stderr.lines().any(|line| line.starts_with(stage)), "{}", envelope.stderr);
    }
}

#[test]
fn an_input_that_cannot_be_read_is_an_error_and_not_an_end() {
    let from_a_directory = ["sh", "-c", "exec \"$@\" < /", "sh"];
    let envelope = TestContext::shared().run("cat").under(from_a_directory).envelope();
    let message = envelope.error("connection_failed");
    assert!(message.contains("cannot read standard input: Is a directory"), "{message}");
    assert!(envelope.get("hint").is_some(), "{envelope:?}");
}
