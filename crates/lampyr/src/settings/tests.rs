use super::*;
use crate::args::RunArgs;
use crate::core_api::Command;

/// The arguments of `run true`, changed by `change`.
fn args(change: impl FnOnce(&mut RunArgs)) -> RunArgs {
    let mut args = RunArgs { command: Some("true".to_owned()), ..RunArgs::default() };
    change(&mut args);
    args
}

/// Resolves `args` with variables and a configuration file.
fn resolve(
    args: &RunArgs,
    env: &[(&'static str, &str)],
    config: &str,
) -> Result<RunSettings, BadInput> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let mut world = World::made_up(&[]);
    let dir = home.path().to_str().unwrap();
    world.env = Env::of(&[env, &[("LAMPYR_HOME", dir)]].concat());
    RunSettings::resolve(args, &Layers::open(&world)?)
}

fn plain() -> RunArgs {
    args(|_| ())
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let (flag, env, file) = (
        args(|a| a.machine.size.memory = Some("1GB".into())),
        [("LAMPYR_MEMORY", "512MB")],
        "memory = '256MB'",
    );
    let memory = |args: &_, env: &[_], file| {
        resolve(args, env, file).map(|s| s.request.memory.to_string()).ok().unwrap()
    };
    assert_eq!(memory(&flag, &env, file), "1GB");
    assert_eq!(memory(&plain(), &env, file), "512MB");
    assert_eq!(memory(&plain(), &[], file), "256MB");
    assert_eq!(memory(&plain(), &[], ""), "1GB");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = resolve(&plain(), &[], "").ok().unwrap();
    let request = settings.request;
    assert_eq!((request.cpus, request.origin.to_string().as_str()), (2, "default"));
    assert_eq!((request.timeout.as_millis(), request.disk_size.as_mib()), (60_000, 8192));
    assert_eq!((settings.report.max_output, settings.boot_trace), (64 << 20, false));
    assert!(matches!(settings.host.accel, AccelChoice::Auto) && settings.host.qemu.is_none());
    assert!(matches!(request.command, Some(Command::Shell(text)) if text == "true"));
}

#[test]
fn only_the_default_number_of_cpus_yields_to_the_host() {
    let mut world = World::made_up(&[("HOME", "/nowhere")]);
    world.cpus = 1;
    let layers = Layers::open(&world).unwrap();
    assert_eq!(RunSettings::resolve(&plain(), &layers).ok().unwrap().request.cpus, 1);
    let asked = args(|a| a.machine.size.cpus = Some("2".into()));
    let error = RunSettings::resolve(&asked, &layers).err().unwrap();
    assert_eq!(error.to_string(), "--cpus: 2 CPUs are more than this host has (1)");
}

#[test]
fn memory_is_rounded_up_to_two_megabytes() {
    let settings = resolve(&args(|a| a.machine.size.memory = Some("129MB".into())), &[], "");
    assert_eq!(settings.ok().unwrap().request.memory.as_mib(), 130);
}

#[test]
fn the_home_directory_is_in_the_users() {
    let world = World::made_up(&[("HOME", "/nowhere")]);
    assert_eq!(Layers::open(&world).unwrap().home(), Path::new("/nowhere/.lampyr"));
    let error = Layers::open(&World::made_up(&[])).err().unwrap();
    assert!(matches!(error, BadInput::NoHome));
}

#[test]
fn transfers_split_where_the_path_in_the_vm_is() {
    let here = tempfile::tempdir().unwrap();
    let odd = here.path().join("a:b");
    std::fs::write(&odd, "").unwrap();
    let copy = format!("{}:/data", odd.display());
    let asked = args(|a| {
        a.copy = vec![copy];
        a.download = vec!["/out:x:y".to_owned()];
    });
    let request = resolve(&asked, &[], "").ok().unwrap().request;
    assert_eq!((&request.copy_in[0].local, request.copy_in[0].remote.as_str()), (&odd, "/data"));
    assert_eq!(request.copy_out[0].local, Path::new("x:y"));
    assert_eq!(request.copy_out[0].remote, "/out");
}

#[test]
fn the_format_of_a_run_follows_terminal_and_variables() {
    type Variables = &'static [(&'static str, &'static str)];
    use RunFormat::{AtEnd, Envelope, Ndjson, Streamed};
    let rows: [(bool, Variables, RunFormat); 9] = [
        (false, &[], Envelope),
        (true, &[], Streamed),
        (true, &[("LAMPYR_STREAM", "0")], AtEnd),
        (false, &[("LAMPYR_STREAM", "0")], Envelope),
        (false, &[("LAMPYR_STREAM", "1")], Streamed),
        (false, &[("LAMPYR_STREAM", "1"), ("LAMPYR_FORMAT", "json")], Envelope),
        (false, &[("LAMPYR_FORMAT", "text")], Streamed),
        (true, &[("LAMPYR_FORMAT", "json")], Envelope),
        (true, &[("LAMPYR_OUTPUT", "ndjson")], Ndjson),
    ];
    for (terminal, env, expected) in rows {
        let mut world = World::made_up(&[]);
        world.env = Env::of(&[env, &[("HOME", "/nowhere")]].concat());
        world.stdout_is_terminal = terminal;
        assert_eq!(Layers::open(&world).unwrap().run_format().unwrap(), expected, "{env:?}");
    }
}

#[test]
fn every_bad_argument_is_refused_in_words() {
    type Change = fn(&mut RunArgs);
    let rows: [(Change, &str); 27] = [
        (|a| a.machine.size.memory = Some("1XB".into()), "--memory: invalid size '1XB'"),
        (
            |a| a.machine.size.memory = Some("127MB".into()),
            "--memory: 127MB is too small: the least is 128MB",
        ),
        (
            |a| a.machine.size.memory = Some("9GB".into()),
            "--memory: 9GB of memory is more than this host has",
        ),
        (|a| a.machine.size.cpus = Some("two".into()), "--cpus: invalid number 'two'"),
        (|a| a.machine.size.cpus = Some("0".into()), "--cpus: 0 is too small"),
        (
            |a| a.machine.size.cpus = Some("5".into()),
            "--cpus: 5 CPUs are more than this host has (4)",
        ),
        (|a| a.timeout = Some("3".into()), "--timeout: invalid duration '3'"),
        (|a| a.timeout = Some("0s".into()), "--timeout: 0s is too small"),
        (|a| a.machine.size.disk_size = Some("big".into()), "--disk-size: invalid size 'big'"),
        (|a| a.machine.size.disk_size = Some("512MB".into()), "--disk-size: 512MB is too small"),
        (|a| a.max_output = Some("-1".into()), "--max-output: invalid size '-1'"),
        (|a| a.machine.image = Some("../x".into()), "--image: invalid image reference '../x'"),
        (|a| a.machine.image = Some("X".into()), "--image: invalid name 'X'"),
        (|a| a.command = None, "there is no command to run"),
        (|a| a.command = Some(" \t".into()), "the command is empty"),
        (|a| (a.command, a.argv) = (None, vec![String::new()]), "the command is empty"),
        (|a| a.argv = vec!["ls".into()], "there is both a command and a program after '--'"),
        (|a| a.pty = true, "run has no --pty: only a command in a session"),
        (|a| a.env = vec!["KEY".into()], "invalid variable 'KEY'"),
        (|a| a.env = vec!["=x".into()], "invalid variable '=x'"),
        (|a| a.command = Some("a\0b".into()), "the command has a NUL byte in it"),
        (|a| a.copy = vec!["/etc".into()], "invalid --copy '/etc': it is not LOCAL:REMOTE"),
        (|a| a.copy = vec!["/etc:data".into()], "invalid --copy 'data'"),
        (|a| a.copy = vec!["/no/such:/data".into()], "--copy: /no/such not found"),
        (|a| a.download = vec!["/x".into()], "invalid --download '/x': it is not REMOTE:LOCAL"),
        (|a| a.download = vec!["x:y".into()], "invalid --download 'x'"),
        (|a| a.workdir = Some("src".into()), "invalid --workdir 'src'"),
    ];
    for (change, message) in rows {
        let error = resolve(&args(change), &[], "").err().expect(message);
        assert!(error.to_string().starts_with(message), "{error} is not {message}");
        assert!(!error.to_string().ends_with('.') && !error.hint().is_empty());
    }
}

#[test]
fn every_bad_variable_is_refused_in_words() {
    let rows = [
        ("LAMPYR_MEMORY", "lots", "invalid size"),
        ("LAMPYR_CPUS", "99", "more than this host has"),
        ("LAMPYR_TIMEOUT", "soon", "invalid duration"),
        ("LAMPYR_DISK_SIZE", "1", "invalid size"),
        ("LAMPYR_MAX_OUTPUT", "1", "invalid size"),
        ("LAMPYR_IMAGE", "A", "invalid name"),
        ("LAMPYR_FORMAT", "xml", "invalid value 'xml': use json or text"),
        ("LAMPYR_STREAM", "yes", "invalid value"),
        ("LAMPYR_OUTPUT", "json", "invalid value"),
        ("LAMPYR_ENGINE", "vz", "invalid value"),
        ("LAMPYR_ACCEL", "cuda", "invalid value"),
        ("LAMPYR_BOOT_TRACE", "2", "invalid value"),
    ];
    for (name, value, reason) in rows {
        let error = resolve(&plain(), &[(name, value)], "").err().expect(name);
        assert!(error.to_string().starts_with(&format!("{name}: ")), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.hint().contains(&format!("{name}=")), "{}", error.hint());
    }
}

#[test]
fn a_bad_configuration_file_is_refused_in_words() {
    let rows = [
        ("colour = 'red'", "unknown key 'colour'"),
        ("cpus = 2\nmemory = ", "config.toml, line 2: "),
        ("memory = ['1GB']", "invalid value: it must be a string or a number"),
        ("cpus = 99", "CPUs are more than this host has"),
    ];
    for (text, reason) in rows {
        let error = resolve(&plain(), &[], text).err().expect(text);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(resolve(&plain(), &[], "cpus = 3").ok().unwrap().request.cpus, 3);
}
