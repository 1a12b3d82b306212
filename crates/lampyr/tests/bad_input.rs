//! Bad input, as the real program meets it: a sentence and a hint on standard
//! error, exit status 2, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs `lampyr` with a home directory that is not there.
fn lampyr(home: &Path, words: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lampyr"));
    command.env_clear().env("LAMPYR_HOME", home).envs(env.iter().copied());
    command.args(words).output().unwrap()
}

/// Bad input that must be told with `reason`.
fn refused(words: &[&str], env: &[(&str, &str)], reason: &str) {
    let tmp = tempfile::tempdir().unwrap();
    let home = tmp.path().join("home");
    let output = lampyr(&home, words, env);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{words:?}: {stderr}");
    assert!(stderr.contains(reason), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty() && !home.exists(), "{words:?}");
}

#[test]
fn bad_arguments_start_nothing() {
    let rows: [(&[&str], &str); 25] = [
        (&["fly"], "'fly'"),
        (&["run", "--fly", "true"], "'--fly'"),
        (&["run", "echo", "hi"], "quote a command"),
        (&["run"], "no command"),
        (&["run", ""], "empty"),
        (&["run", "  "], "empty"),
        (&["run", "--"], "no command"),
        (&["run", "true", "--", "true"], "both"),
        (&["run", "--pty", "sh"], "session"),
        (&["run", "--memory", "much", "true"], "invalid size"),
        (&["run", "--memory", "64MB", "true"], "too small"),
        (&["run", "--memory", "4096TB", "true"], "more than this host has"),
        (&["run", "--disk-size", "100000000GB", "true"], "too large: the most is 16TB"),
        (&["session", "start", "--disk-size", "17TB"], "too large: the most is 16TB"),
        (&["run", "--disk-size", "1MB", "true"], "too small"),
        (&["run", "--cpus", "0", "true"], "too small"),
        (&["run", "--cpus", "100000", "true"], "more than this host has"),
        (&["run", "--timeout", "1", "true"], "invalid duration"),
        (&["run", "--image", "No", "true"], "invalid name"),
        (&["run", "--workdir", "here", "true"], "absolute"),
        (&["run", "-e", "NOVALUE", "true"], "invalid variable"),
        (&["run", "--copy", "nocolon", "true"], "invalid"),
        (&["run", "--copy", "/no/such/file:/x", "true"], "not found"),
        (&["run", "--download", "nocolon", "true"], "invalid"),
        (&["completions", "cobol"], "cobol"),
    ];
    for job in ["--wait", "--attach"] {
        for flag in [["--timeout", "1s"], ["--workdir", "/"], ["--user", "me"], ["-e", "A=1"]] {
            refused(&[&["exec", "it", job, "j1"], &flag[..]].concat(), &[], "cannot be used with");
        }
        refused(&["exec", "it", job, "j1", "--key", "k"], &[], "cannot be used with");
        refused(&["exec", "it", job, "j1", "true"], &[], "cannot be used with");
    }
    for (words, reason) in rows {
        refused(words, &[], reason);
    }
}

#[test]
fn bad_pools_start_nothing() {
    let rows: [(&[&str], &str); 6] = [
        (&["pool", "start"], "--size"),
        (&["pool", "start", "--size", "0"], "'0'"),
        (&["pool", "start", "--size", "1", "--ttl", "soon"], "soon"),
        (&["pool", "stop"], "one pool or --all"),
        (&["pool", "run", "--count", "2", "--download", "/a:b", "true"], "one place"),
        (&["pool", "run", "--forward", "1:2", "true"], "share the port"),
    ];
    for (words, reason) in rows {
        refused(words, &[], reason);
    }
}

#[test]
fn bad_variables_start_nothing() {
    for (name, value) in [
        ("LAMPYR_MEMORY", "1"),
        ("LAMPYR_FORMAT", "xml"),
        ("LAMPYR_ENGINE", "magic"),
        ("LAMPYR_DISK_SIZE", "17TB"),
    ] {
        refused(&["run", "true"], &[(name, value)], name);
    }
}

#[test]
fn a_home_that_can_be_none_is_said_to_be_so() {
    let tmp = tempfile::tempdir().unwrap();
    let (file, gone) = (tmp.path().join("file"), tmp.path().join("gone"));
    std::fs::write(&file, "").unwrap();
    let in_file = format!("LAMPYR_HOME: {} is no directory", file.display());
    let relative = "LAMPYR_HOME: 'here' is relative to a directory that is not there any more";
    for (home, reason) in [(file.as_path(), in_file.as_str()), (Path::new("here"), relative)] {
        let script = r#"mkdir -p "$GONE"; cd "$GONE"; rmdir "$GONE"; exec "$0" run true"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_lampyr")]).env("GONE", &gone);
        let output = command.env("LAMPYR_HOME", home).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(reason) && stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn help_version_and_completions_are_data() {
    let tmp = tempfile::tempdir().unwrap();
    let home = tmp.path().join("home");
    for (words, part) in [
        (&["--help"][..], "LAMPYR_MEMORY"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["completions", "bash"], "_lampyr"),
    ] {
        let output = lampyr(&home, words, &[]);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(part), "{words:?}");
        assert!(!home.exists());
    }
}
