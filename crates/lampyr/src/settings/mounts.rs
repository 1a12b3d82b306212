//! `--mount` and `--volume`.

use std::path::PathBuf;

use crate::args::MachineArgs;
use crate::bad_input::BadInput;
use crate::core_api::limits::{mount_place, mounted_twice};
use crate::core_api::{Mount, MountSource};

use super::shown;
use super::transfer::{existing, remote_path};
use super::volume::volume_name;

const MOUNT: &str = "--mount";
const VOLUME: &str = "--volume";

/// Reads all of both; no two may have one place in the VM.
pub(super) fn mounts(args: &MachineArgs) -> Result<Vec<Mount>, BadInput> {
    let directories = args.mount.iter().map(|given| mount(MOUNT, given));
    let volumes = args.volume.iter().map(|given| mount(VOLUME, given));
    let mounts: Vec<_> = directories.chain(volumes).collect::<Result<_, _>>()?;
    match mounted_twice(&mounts) {
        Some(place) => Err(BadInput::MountedTwice(place.to_owned())),
        None => Ok(mounts),
    }
}

/// Reads `SOURCE:GUEST[:ro]`. The source may have colons in it.
fn mount(flag: &'static str, given: &str) -> Result<Mount, BadInput> {
    let form = if flag == MOUNT { "HOST:GUEST[:ro]" } else { "NAME_OR_PATH:GUEST[:ro]" };
    let bad = || BadInput::Transfer { flag, given: shown(given), form };
    let (pair, readonly) = match (given.strip_suffix(":ro"), given.strip_suffix(":rw")) {
        (Some(pair), _) => (pair, true),
        (_, Some(pair)) => (pair, false),
        _ => (given, false),
    };
    let colon = pair.rfind(":/").or_else(|| pair.rfind(':')).ok_or_else(bad)?;
    let (source, place) = (&pair[..colon], &pair[colon + 1..]);
    if source.is_empty() || place.is_empty() {
        return Err(bad());
    }
    let guest = guest(flag, place)?;
    Ok(Mount { source: self::source(flag, source)?, guest, readonly })
}

/// A place in the VM.
fn guest(flag: &'static str, given: &str) -> Result<String, BadInput> {
    remote_path(flag, given)?;
    mount_place(given).ok_or_else(|| BadInput::MountPlace(shown(given)))
}

/// A name is a volume's; what has a slash or begins with a dot is a path.
fn source(flag: &'static str, given: &str) -> Result<MountSource, BadInput> {
    if flag == VOLUME && !given.starts_with('.') && !given.contains('/') {
        return volume_name(given).map(MountSource::Volume);
    }
    let path = existing(flag, given)?;
    if !path.is_dir() {
        return Err(BadInput::NotDirectory { flag, path });
    }
    let unreadable = |source| BadInput::Unreadable { path: path.clone(), source };
    std::path::absolute::<&PathBuf>(&path).map(MountSource::Directory).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: &'static str, given: &str) -> Result<Mount, String> {
        mount(flag, given).map_err(|e| e.to_string())
    }

    #[test]
    fn a_volume_has_a_name_and_a_directory_a_path() {
        let volume = read(VOLUME, "cache:/var//cache/./x/:ro").unwrap();
        assert_eq!(volume.source, MountSource::Volume("cache".parse().unwrap()));
        assert_eq!((volume.guest.as_str(), volume.readonly), ("/var/cache/x", true));
        let tmp = tempfile::Builder::new().prefix("a:b").tempdir().unwrap();
        for flag in [MOUNT, VOLUME] {
            let given = format!("{}:/src:rw", tmp.path().display());
            let directory = read(flag, &given).unwrap();
            assert_eq!(directory.source, MountSource::Directory(tmp.path().to_owned()));
            assert!(!directory.readonly);
        }
        assert!(matches!(read(MOUNT, ".:/src").unwrap().source, MountSource::Directory(_)));
    }

    #[test]
    fn what_is_no_mount_is_refused_in_words() {
        let cases = [
            (MOUNT, "x", "invalid --mount 'x': it is not HOST:GUEST[:ro]"),
            (MOUNT, ":/x", "invalid --mount ':/x': it is not HOST:GUEST[:ro]"),
            (MOUNT, ".:x", "invalid --mount 'x': a path in the VM must be absolute"),
            (MOUNT, ".:/", "cannot mount at '/' in the VM"),
            (MOUNT, ".:/a/../b", "cannot mount at '/a/../b' in the VM"),
            (MOUNT, "/nowhere/at/all:/x", "--mount: /nowhere/at/all not found"),
            (MOUNT, "/etc/passwd:/x", "--mount: /etc/passwd is no directory"),
            (VOLUME, "No Name:/x", "invalid name 'No Name'"),
        ];
        for (flag, given, expected) in cases {
            let said = read(flag, given).unwrap_err();
            assert!(said.starts_with(expected), "{given}: {said}");
        }
    }

    #[test]
    fn two_mounts_cannot_have_one_place() {
        let mount = vec![".:/x".to_owned(), ".:/y".to_owned()];
        let volume = vec!["v:/x/".to_owned()];
        let args = MachineArgs { mount, volume, ..MachineArgs::default() };
        assert_eq!(mounts(&args).unwrap_err().to_string(), "two mounts have the place '/x'");
    }
}
