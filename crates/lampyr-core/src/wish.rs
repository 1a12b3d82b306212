//! What an image wants of whoever runs it, as far as nobody wants otherwise.

use lampyr_image::Image;
use lampyr_oci::Config;
use lampyr_proto::Exec;

use crate::{Command, Error};

/// Signals that images ask for, by name.
const SIGNALS: [(&str, i32); 9] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("TERM", libc::SIGTERM),
    ("WINCH", libc::SIGWINCH),
    // The C library keeps two of the real-time signals, which begin at 32.
    ("RTMIN+3", 37),
];

/// What is run: what was asked for, else what the image says.
pub(crate) fn command(asked: Option<&Command>, image: &Image) -> Result<Command, Error> {
    match asked {
        Some(command) => Ok(command.clone()),
        None if image.command.is_empty() => Err(Error::NoCommand(image.name.clone())),
        None => Ok(Command::Argv(image.command.clone())),
    }
}

/// Fills in what a command leaves open.
pub(crate) fn fill_in(mut exec: Exec, config: &Config) -> Exec {
    let pairs = config.env.iter().filter_map(|pair| pair.split_once('='));
    add(&mut exec.env, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    exec.workdir = exec.workdir.or_else(|| told(&config.workdir));
    exec.user = exec.user.or_else(|| told(&config.user));
    exec
}

/// Adds the variables that nobody has set.
pub(crate) fn add(
    env: &mut Vec<(String, String)>,
    more: impl IntoIterator<Item = (String, String)>,
) {
    for (key, value) in more {
        if !env.iter().any(|(own, _)| *own == key) {
            env.push((key, value));
        }
    }
}

/// The signal that asks a command of the image to end.
pub(crate) fn stop_signal(config: &Config) -> i32 {
    let name = config.stop_signal.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let found = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = || name.parse().ok().filter(|number| (1..=64).contains(number));
    found.or_else(number).unwrap_or(libc::SIGTERM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_proto::Job;

    #[test]
    fn what_was_asked_for_comes_first() {
        let pairs = ["A=image", "B=b=c", "nonsense"].map(str::to_owned).to_vec();
        let (workdir, user) = ("/srv".to_owned(), "www".to_owned());
        let config = Config { env: pairs, workdir, user, ..Config::default() };
        let mut exec = Exec::new(Job::Shell("x".into()));
        exec.env.push(("A".into(), "user".into()));
        exec.user = Some("root".into());
        let exec = fill_in(exec, &config);
        let env: Vec<_> = exec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("A", "user"), ("B", "b=c")]);
        assert_eq!((exec.workdir.as_deref(), exec.user.as_deref()), (Some("/srv"), Some("root")));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let signal =
            |text: &str| stop_signal(&Config { stop_signal: text.to_owned(), ..Config::default() });
        for (text, number) in [("", 15), ("SIGINT", 2), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)] {
            assert_eq!(signal(text), number, "{text}");
        }
        assert_eq!((signal("SIGNONSENSE"), signal("65")), (15, 15));
    }
}
