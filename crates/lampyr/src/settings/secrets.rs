//! `--secret NAME[=SOURCE]@HOST[:HEADER]`. What is typed never has the value
//! itself in it: everybody can read the arguments of a process.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::bad_secret::BadSecretInput;
use crate::conceal::conceal;
use crate::core_api::limits::{named_twice, reaches};
use crate::core_api::{Domain, Policy, Secret, USUAL_HEADER};
use crate::env_vars::Env;

use super::shown;

/// The most bytes that are read of a value; a longer one is none.
const MOST: u64 = 16 << 10;
/// How long a command may take to print a value.
const PATIENCE: Duration = Duration::from_mins(1);

/// A secret as it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    name: String,
    source: Source,
    host: Domain,
    header: String,
}

/// Where a value comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The variable of the same name.
    Variable,
    /// A file.
    File(String),
    /// What a command prints.
    Command(String),
}

/// Reads all `--secret`. No value is asked for before it is known that all of
/// them can be handed over.
pub(super) fn secrets(
    given: &[String],
    policy: Option<&Policy>,
    env: &Env,
) -> Result<Vec<Secret>, BadSecretInput> {
    let words: Vec<_> = given.iter().map(|given| word(given)).collect::<Result<_, _>>()?;
    words.iter().try_for_each(|word| reachable(word, policy))?;
    let mut secrets: Vec<Secret> = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let known = words.iter().take(n).position(|known| known.name == word.name);
        secrets.push(match known {
            Some(at) if words[at].source != word.source => {
                return Err(BadSecretInput::TwoSources(word.name.clone()));
            }
            Some(at) => secrets[at].also(word.host.clone(), &word.header)?,
            None => Secret::new(&word.name, word.host.clone(), &word.header, value(word, env)?)?,
        });
    }
    Ok(secrets)
}

/// Refuses a name that is a variable of the command's as well.
pub(super) fn no_variables(
    secrets: &[Secret],
    env: &[(String, String)],
) -> Result<(), BadSecretInput> {
    let both = named_twice(secrets, env);
    both.map_or(Ok(()), |name| Err(BadSecretInput::AlsoVariable(name.to_owned())))
}

fn word(given: &str) -> Result<Word, BadSecretInput> {
    // Nobody knows what follows the name of one that is not understood.
    let known = given.split(['=', '@', ':']).next().unwrap_or_default();
    let bad = || BadSecretInput::Form(shown(known));
    let (held, place) = given.rsplit_once('@').ok_or_else(bad)?;
    let (name, source) = match held.split_once('=') {
        None => (held, Source::Variable),
        Some((name, source)) => (name, self::source(source).ok_or_else(bad)?),
    };
    let (host, header) = place.split_once(':').unwrap_or((place, USUAL_HEADER));
    let no_host = |_| BadSecretInput::Host { name: shown(name), host: shown(host) };
    let host = Domain::parse(host).map_err(no_host)?;
    Ok(Word { name: name.to_owned(), source, host, header: header.to_owned() })
}

fn source(text: &str) -> Option<Source> {
    let (kind, what) = text.split_once(':').filter(|(_, what)| !what.is_empty())?;
    match kind {
        "file" => Some(Source::File(what.to_owned())),
        "cmd" => Some(Source::Command(what.to_owned())),
        _ => None,
    }
}

fn reachable(word: &Word, policy: Option<&Policy>) -> Result<(), BadSecretInput> {
    if reaches(policy, &word.host) {
        return Ok(());
    }
    let (name, host) = (word.name.clone(), word.host.to_string());
    Err(BadSecretInput::Shut { name, host, net: policy.is_some() })
}

/// Fetches a value, without the end of its line.
fn value(word: &Word, env: &Env) -> Result<Zeroizing<String>, BadSecretInput> {
    conceal();
    let name = || word.name.clone();
    let bytes = match &word.source {
        Source::Variable => {
            let value = env.named(&word.name).and_then(|value| value.into_string().ok());
            return value.map(Zeroizing::new).ok_or_else(|| BadSecretInput::Unset(name()));
        }
        Source::File(path) => File::open(path)
            .and_then(read)
            .map_err(|source| BadSecretInput::File { name: name(), source })?,
        Source::Command(command) => {
            printed(command).map_err(|why| BadSecretInput::Command { name: name(), why })?
        }
    };
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

fn read(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that no copy is left behind by a move.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    from.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a command prints; what it says besides is for whoever asked.
fn printed(command: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(|e| format!("could not be started: {e}"))?;
    let stdout = child.stdout.take();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || told.send(stdout.map(read)));
    let read = heard.recv_timeout(PATIENCE);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match read {
        Err(_) => Err(format!("took longer than {} s", PATIENCE.as_secs())),
        Ok(_) if !status.success() => Err(format!("failed: {status}")),
        Ok(Some(Ok(bytes))) => Ok(bytes),
        Ok(_) => Err("could not be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &[&str]) -> Result<Vec<Secret>, BadSecretInput> {
        let given: Vec<_> = given.iter().map(ToString::to_string).collect();
        let policy = Policy::parse("allow=api.example.com,b.example.com").unwrap();
        let env = Env::of(&[("TOKEN", "0123456789"), ("SHORT", "x")]);
        secrets(&given, policy.as_ref(), &env)
    }

    fn refused(given: &[&str]) -> String {
        resolve(given).unwrap_err().to_string()
    }

    #[test]
    fn a_value_comes_from_where_it_is_said_to_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of a file 1\n").unwrap();
        let of_file = format!("A=file:{}@api.example.com", file.path().display());
        let of_command = "B=cmd:echo x@y 123456@api.example.com:X-Key";
        let secrets = resolve(&["TOKEN@api.example.com", &of_file, of_command]).unwrap();
        let lengths: Vec<_> = secrets.iter().map(|s| (s.name(), s.header())).collect();
        let usual = "authorization";
        assert_eq!(lengths, [("TOKEN", usual), ("A", usual), ("B", "x-key")]);
        // The values themselves are seen by nobody; equal ones are equal.
        let same = Secret::new(
            "B",
            Domain::parse("api.example.com").unwrap(),
            "x-key",
            Zeroizing::new("x@y 123456".to_owned()),
        );
        let text = |secret: &Secret| {
            let json = serde_json::to_value(secret).unwrap();
            json["value"].as_str().unwrap().to_owned()
        };
        assert_eq!(text(&secrets[2]), text(&same.unwrap()));
        assert_eq!(text(&secrets[1]), "of a file 1");
    }

    #[test]
    fn one_name_has_one_placeholder_wherever_it_goes() {
        let secrets = resolve(&["TOKEN@api.example.com", "TOKEN@b.example.com:x-key"]).unwrap();
        assert_eq!(secrets[0].placeholder(), secrets[1].placeholder());
        let twice = refused(&["TOKEN@api.example.com", "TOKEN=cmd:x@b.example.com"]);
        assert!(twice.contains("two sources"), "{twice}");
    }

    #[test]
    fn a_bad_secret_is_refused_and_nothing_of_it_repeated() {
        let rows = [
            ("TOKEN", "it is not NAME"),
            ("TOKEN=hunter2222@api.example.com", "it is not NAME"),
            ("TOKEN=file:@api.example.com", "it is not NAME"),
            ("hunter2222@evil.example.com", "no rule lets the VM reach evil.example.com"),
            ("TOKEN@1.2.3.4", "'1.2.3.4' is not the name of a host"),
            ("TOKEN@api.example.com:host", "'host' is not a header"),
            ("OTHER@api.example.com", "there is no such variable"),
            ("SHORT@api.example.com", "the value of SHORT is not 8 to 4096 bytes"),
            ("A=file:/nowhere@api.example.com", "cannot read its file"),
            ("A=cmd:exit 3@api.example.com", "its command failed: exit status: 3"),
            ("A=cmd:printf 'two\\nlines of it'@api.example.com", "characters"),
        ];
        for (given, expected) in rows {
            let said = refused(&[given]);
            assert!(said.contains(expected), "{given}: {said}");
            assert!(!said.contains("=hunter"), "{said}");
        }
        assert!(refused(&["A=cmd:touch /nowhere/x@shut.example.com"]).contains("no rule"));
    }
}
