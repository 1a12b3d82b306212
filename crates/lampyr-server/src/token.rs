//! The token that whoever comes by a port has to show.

use std::io::{self, Read, Write};
use std::path::Path;

/// The file in the state directory that holds it.
const FILE: &str = "token";
/// No token is longer than this, in bytes.
const MOST: u64 = 1024;

/// The token of the state directory `home`, made where there is none yet. Only
/// this user can read it.
pub fn token(home: &Path) -> io::Result<String> {
    let path = home.join(FILE);
    if !path.exists() {
        let mut file = tempfile::NamedTempFile::new_in(home)?;
        file.write_all(random()?.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            // Somebody else was first.
            Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => return Err(e.error),
            _ => {}
        }
    }
    let mut text = String::new();
    std::fs::File::open(&path)?.take(MOST).read_to_string(&mut text)?;
    let token = text.trim().to_owned();
    let good = token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_graphic());
    let weak = || io::Error::other(format!("{} is no token: remove it", path.display()));
    good.then_some(token).ok_or_else(weak)
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_is_private() {
        let home = tempfile::tempdir().unwrap();
        let made = token(home.path()).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(token(home.path()).unwrap(), made);
        let bits = home.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(bits & 0o777, 0o600);
        assert_ne!(token(tempfile::tempdir().unwrap().path()).unwrap(), made);
    }

    #[test]
    fn a_weak_token_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), "short\n").unwrap();
        assert!(token(home.path()).unwrap_err().to_string().contains("remove it"));
    }
}
