//! `--copy` and `--download`.

use std::io;
use std::path::PathBuf;

use crate::bad_input::BadInput;
use crate::core_api::{CopyIn, CopyOut};

/// Reads `LOCAL:REMOTE`. The local side may have colons in it.
pub(super) fn copy_in(given: &str) -> Result<CopyIn, BadInput> {
    let bad = || transfer("--copy", given, "LOCAL:REMOTE");
    let colon = given.rfind(":/").or_else(|| given.rfind(':')).ok_or_else(bad)?;
    let (local, remote) = (&given[..colon], &given[colon + 1..]);
    if local.is_empty() || remote.is_empty() {
        return Err(bad());
    }
    Ok(CopyIn { remote: remote_path("--copy", remote)?, local: existing("--copy", local)? })
}

/// Reads `REMOTE:LOCAL`. The local side may have colons in it.
pub(super) fn copy_out(given: &str) -> Result<CopyOut, BadInput> {
    let bad = || transfer("--download", given, "REMOTE:LOCAL");
    let (remote, local) = given.split_once(':').ok_or_else(bad)?;
    if local.is_empty() || remote.is_empty() {
        return Err(bad());
    }
    Ok(CopyOut { remote: remote_path("--download", remote)?, local: local.into() })
}

/// A path in the VM, which has no directory to be relative to.
pub(super) fn remote_path(what: &'static str, path: &str) -> Result<String, BadInput> {
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(BadInput::Relative { what, path: super::shown(path) })
    }
}

/// A local file or directory that is there.
pub(super) fn existing(what: &'static str, path: &str) -> Result<PathBuf, BadInput> {
    let path = PathBuf::from(path);
    match std::fs::metadata(&path).map_err(|e| (e.kind(), e)) {
        Ok(_) => Ok(path),
        Err((io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _)) => {
            Err(BadInput::NotFound { what, path })
        }
        Err((_, source)) => Err(BadInput::Unreadable { path, source }),
    }
}

fn transfer(flag: &'static str, given: &str, form: &'static str) -> BadInput {
    BadInput::Transfer { flag, given: super::shown(given), form }
}
