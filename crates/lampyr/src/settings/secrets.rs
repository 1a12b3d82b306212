//! `--secret NAME[=SOURCE]@HOST[:HEADER]`. What is typed never has the value
//! itself in it: everybody can read the arguments of a process.

use std::fs::File;
use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::bad_secret::BadSecretInput;
use crate::conceal::conceal;
use crate::core_api::limits::{named_twice, reaches};
use crate::core_api::{BadSecret, Domain, Policy, Secret, USUAL_HEADER};
use crate::env_vars::Env;
use crate::printed::printed;

use super::shown;

/// The most bytes that are read of a value; a longer one is none.
const MOST: u64 = 16 << 10;

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

/// Secrets that can be handed over. None of their values has been asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted(Vec<Word>);

impl Wanted {
    /// Reads all `--secret`.
    pub(super) fn read(
        given: &[String],
        policy: Option<&Policy>,
        env: &Env,
    ) -> Result<Self, BadSecretInput> {
        let words: Vec<_> = given.iter().map(|given| word(given, env)).collect::<Result<_, _>>()?;
        for (n, word) in words.iter().enumerate() {
            reachable(word, policy, env)?;
            let known = words.iter().take(n).find(|known| known.name == word.name);
            if known.is_some_and(|known| known.source != word.source) {
                return Err(BadSecretInput::TwoSources(called(word, env)));
            }
            if word.source == Source::Variable && variable(&word.name, env).is_none() {
                return Err(BadSecretInput::Unset(called(word, env)));
            }
        }
        Ok(Self(words))
    }

    /// Refuses a name that is a variable of the command's as well.
    pub(super) fn no_variables(&self, env: &[(String, String)]) -> Result<(), BadSecretInput> {
        let both = named_twice(self.0.iter().map(|word| word.name.as_str()), env);
        both.map_or(Ok(()), |name| Err(BadSecretInput::AlsoVariable(name.to_owned())))
    }

    /// Asks for all values: the last that is done before a VM is started.
    pub(super) fn fetch(&self, env: &Env) -> Result<Vec<Secret>, BadSecretInput> {
        let mut secrets: Vec<Secret> = Vec::new();
        for word in &self.0 {
            let known = secrets.iter().find(|secret| secret.name() == word.name);
            let (host, header) = (word.host.clone(), word.header.as_str());
            secrets.push(match known {
                Some(known) => known.also(host, header)?,
                None => Secret::new(&word.name, host, header, value(word, env)?)?,
            });
        }
        Ok(secrets)
    }
}

fn word(given: &str, env: &Env) -> Result<Word, BadSecretInput> {
    let bad = || BadSecretInput::Form;
    let (held, place) = given.rsplit_once('@').ok_or_else(bad)?;
    let (name, source) = match held.split_once('=') {
        None => (held, Source::Variable),
        Some((name, source)) => (name, self::source(source).ok_or_else(bad)?),
    };
    let (host, header) = place.split_once(':').unwrap_or((place, USUAL_HEADER));
    let no_host = |_| {
        if is_name(name, &source, env) {
            BadSecretInput::Host { name: shown(name), host: shown(host) }
        } else {
            BadSecretInput::NoHost
        }
    };
    let host = Domain::parse(host).map_err(no_host)?;
    Secret::check(name, header)?;
    Ok(Word { name: name.to_owned(), source, host, header: header.to_owned() })
}

/// Whether what is typed as a name is one, and not a value by mistake.
fn is_name(name: &str, source: &Source, env: &Env) -> bool {
    *source != Source::Variable || env.named(name).is_some()
}

/// What to call a secret by.
fn called(word: &Word, env: &Env) -> String {
    let known = is_name(&word.name, &word.source, env);
    if known { word.name.clone() } else { format!("…@{}", word.host) }
}

fn variable(name: &str, env: &Env) -> Option<Zeroizing<String>> {
    env.named(name)?.into_string().ok().map(Zeroizing::new)
}

fn source(text: &str) -> Option<Source> {
    let (kind, what) = text.split_once(':').filter(|(_, what)| !what.is_empty())?;
    match kind {
        "file" => Some(Source::File(what.to_owned())),
        "cmd" => Some(Source::Command(what.to_owned())),
        _ => None,
    }
}

fn reachable(word: &Word, policy: Option<&Policy>, env: &Env) -> Result<(), BadSecretInput> {
    if reaches(policy, &word.host) {
        return Ok(());
    }
    let (name, host) = (called(word, env), word.host.to_string());
    Err(BadSecretInput::Shut { name, host, net: policy.is_some() })
}

/// Fetches a value, without the end of its line.
fn value(word: &Word, env: &Env) -> Result<Zeroizing<String>, BadSecretInput> {
    conceal();
    let name = || word.name.clone();
    let bytes = match &word.source {
        Source::Variable => {
            return variable(&word.name, env).ok_or_else(|| BadSecretInput::Unset(name()));
        }
        Source::File(path) => File::open(path)
            .and_then(read)
            .map_err(|source| BadSecretInput::File { name: name(), source })?,
        Source::Command(command) => {
            printed(command, read).map_err(|why| BadSecretInput::Command { name: name(), why })?
        }
    };
    if bytes.len() as u64 == MOST {
        return Err(BadSecret::Length(name()).into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| BadSecretInput::NotText(name()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

fn read(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that no copy is left behind by a move.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    from.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &[&str]) -> Result<Vec<Secret>, BadSecretInput> {
        let given: Vec<_> = given.iter().map(ToString::to_string).collect();
        let policy = Policy::parse("allow=api.example.com,b.example.com").unwrap();
        let env = Env::of(&[("TOKEN", "0123456789"), ("SHORT", "x")]);
        Wanted::read(&given, policy.as_ref(), &env)?.fetch(&env)
    }

    /// What is said of secrets of which the last is wrong, before any value is
    /// asked for: each of those would leave a file behind.
    fn refused_before_all(last: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("left");
        let first = format!("A=cmd:echo 0123456789; touch {}@b.example.com", left.display());
        let said = refused(&[&first, &last.replace("LEFT", &left.display().to_string())]);
        assert!(!left.exists(), "{last}: {said}");
        said
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
    fn no_value_is_asked_for_before_all_is_known_to_hold() {
        let rows = [
            ("B=cmd:touch LEFT@api.example.com:Host", "'Host' is not a header"),
            ("B=cmd:@api.example.com", "it is not NAME"),
            ("A=cmd:touch LEFT@b.example.com", "two sources"),
            ("OTHER@api.example.com", "there is no such variable"),
            ("B=cmd:touch LEFT@shut.example.com", "no rule"),
            ("1B=cmd:touch LEFT@api.example.com", "called as no environment variable"),
        ];
        for (last, expected) in rows {
            let said = refused_before_all(last);
            assert!(said.contains(expected), "{last}: {said}");
        }
        let policy = Policy::parse("allow=b.example.com").unwrap();
        let given = ["A=cmd:exit 3@b.example.com".to_owned()];
        let wanted = Wanted::read(&given, policy.as_ref(), &Env::of(&[])).unwrap();
        let twice = wanted.no_variables(&[("A".to_owned(), String::new())]).unwrap_err();
        assert!(twice.to_string().contains("both as --env and as --secret"), "{twice}");
    }

    #[test]
    fn a_value_that_is_typed_by_mistake_is_not_repeated() {
        for given in [
            "hunter2222",
            "hunter2222@api.example.com",
            "hunter-2222@api.example.com",
            "hunter2222@shut.example.com",
            "x@hunter2222",
            "x@hunter/2222",
            "hunter2222=@api.example.com",
            "@hunter2222",
            "TOKEN@api.example.com:hunter 2222",
        ] {
            let error = resolve(&[given]).unwrap_err();
            let said = format!("{error} {}", error.hint());
            let host = Domain::parse("hunter2222").is_ok() && given.starts_with('x');
            assert!(host || !said.contains("hunter"), "{given}: {said}");
        }
        let said = refused(&["@a.example.com"]);
        assert!(said.contains("called as no environment variable could be"), "{said}");
    }

    #[test]
    fn a_value_that_is_no_text_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let given = format!("A=file:{}@api.example.com", file.path().display());
        std::fs::write(file.path(), b"0123456789\xff").unwrap();
        assert_eq!(refused(&[&given]), "--secret A: its value is not text");
        std::fs::write(file.path(), "é".repeat(20_000)).unwrap();
        assert!(refused(&[&given]).contains("is not 8 to 4096 bytes long"));
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
