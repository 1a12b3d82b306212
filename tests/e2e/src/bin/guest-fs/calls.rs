//! What calls answer: a line for each, the same on every good file system.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, RenameFlags, access, flock, mknodat,
    renameat_with,
};

type Outcome = io::Result<String>;
type Call = (&'static str, fn(&Path) -> Outcome);

/// Makes each call in a directory of its own and prints what it answered.
pub(crate) fn print(dir: &Path) {
    // The guest's own umask must make no difference.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for (name, call) in CALLS {
        let own = dir.join(name.replace(' ', "-"));
        fs::create_dir(&own).unwrap();
        let outcome = match call(&own) {
            Ok(said) => said,
            Err(e) => {
                rustix::io::Errno::from_io_error(&e).map_or(e.to_string(), |e| format!("{e:?}"))
            }
        };
        println!("{name}: {outcome}");
    }
}

const CALLS: &[Call] = &[
    ("open what is missing", |d| File::open(d.join("x")).map(|_| "opened".into())),
    ("make twice", |d| {
        File::create_new(d.join("x"))?;
        File::create_new(d.join("x")).map(|_| "made".into())
    }),
    ("open a directory to write", |d| {
        OpenOptions::new().write(true).open(d).map(|_| "opened".into())
    }),
    ("a file as a directory", |d| {
        fs::write(d.join("f"), "x")?;
        fs::read(d.join("f/x")).map(|_| "read".into())
    }),
    ("modes of new files", |d| {
        OpenOptions::new().create_new(true).write(true).mode(0o666).open(d.join("a"))?;
        OpenOptions::new().create_new(true).write(true).mode(0o751).open(d.join("b"))?;
        fs::create_dir(d.join("c"))?;
        modes(d, &["a", "b", "c"])
    }),
    ("change modes", |d| {
        fs::write(d.join("a"), "")?;
        fs::set_permissions(d.join("a"), Permissions::from_mode(0o400))?;
        fs::create_dir(d.join("b"))?;
        fs::set_permissions(d.join("b"), Permissions::from_mode(0o1777))?;
        modes(d, &["a", "b"])
    }),
    ("change times", |d| {
        let file = File::create(d.join("a"))?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time))?;
        let found = fs::metadata(d.join("a"))?;
        Ok(format!("{} {} {}", found.mtime(), found.mtime_nsec(), found.atime()))
    }),
    ("a write changes the time", |d| {
        let file = File::create(d.join("a"))?;
        file.set_modified(SystemTime::UNIX_EPOCH)?;
        file.write_all_at(b"x", 0)?;
        Ok(format!("{}", file.metadata()?.mtime() > 1_000_000))
    }),
    ("remove what is missing", |d| fs::remove_file(d.join("x")).map(|()| "removed".into())),
    ("remove a directory as a file", |d| {
        fs::create_dir(d.join("x"))?;
        fs::remove_file(d.join("x")).map(|()| "removed".into())
    }),
    ("remove a full directory", |d| {
        fs::create_dir_all(d.join("x/y"))?;
        fs::remove_dir(d.join("x")).map(|()| "removed".into())
    }),
    ("read what has no name any more", |d| {
        let mut file = File::options().create_new(true).read(true).write(true).open(d.join("a"))?;
        file.write_all(b"still here")?;
        fs::remove_file(d.join("a"))?;
        file.set_len(8)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let (found, mut text) = (file.metadata()?, String::new());
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        Ok(format!("{text} {} {} {:?}", found.len(), found.nlink(), names(d)?))
    }),
    ("a new file under an old name", |d| {
        fs::write(d.join("a"), "old")?;
        let old = File::open(d.join("a"))?;
        fs::remove_file(d.join("a"))?;
        fs::write(d.join("a"), "newer")?;
        Ok(format!("{} {}", io::read_to_string(old)?, fs::read_to_string(d.join("a"))?))
    }),
    ("rename over a file", |d| {
        fs::write(d.join("a"), "a")?;
        fs::write(d.join("b"), "b")?;
        let replaced = File::open(d.join("b"))?;
        fs::rename(d.join("a"), d.join("b"))?;
        let now = fs::read_to_string(d.join("b"))?;
        Ok(format!("{now} {} {:?}", io::read_to_string(replaced)?, names(d)?))
    }),
    ("rename an open directory", |d| {
        fs::create_dir_all(d.join("a/b"))?;
        let mut file = File::create(d.join("a/b/file"))?;
        fs::rename(d.join("a"), d.join("c"))?;
        file.write_all(b"x")?;
        fs::write(d.join("c/b/other"), "y")?;
        Ok(format!("{} {:?}", fs::read_to_string(d.join("c/b/file"))?, names(&d.join("c/b"))?))
    }),
    ("rename into itself", |d| {
        fs::create_dir_all(d.join("a/b"))?;
        fs::rename(d.join("a"), d.join("a/b/c")).map(|()| "renamed".into())
    }),
    ("rename a directory over a full one", |d| {
        fs::create_dir(d.join("a"))?;
        fs::create_dir_all(d.join("b/x"))?;
        fs::rename(d.join("a"), d.join("b")).map(|()| "renamed".into())
    }),
    ("rename without replacing", |d| {
        fs::write(d.join("a"), "a")?;
        fs::write(d.join("b"), "b")?;
        renameat_with(CWD, d.join("a"), CWD, d.join("b"), RenameFlags::NOREPLACE)?;
        Ok("renamed".into())
    }),
    ("exchange two names", |d| {
        fs::write(d.join("a"), "a")?;
        fs::create_dir(d.join("b"))?;
        renameat_with(CWD, d.join("a"), CWD, d.join("b"), RenameFlags::EXCHANGE)?;
        Ok(format!("{} {}", d.join("a").is_dir(), fs::read_to_string(d.join("b"))?))
    }),
    ("hard links", |d| {
        fs::write(d.join("a"), "x")?;
        fs::hard_link(d.join("a"), d.join("b"))?;
        fs::write(d.join("b"), "longer")?;
        let (a, b) = (fs::metadata(d.join("a"))?, fs::metadata(d.join("b"))?);
        let same = a.ino() == b.ino();
        fs::remove_file(d.join("a"))?;
        let left = fs::metadata(d.join("b"))?.nlink();
        Ok(format!("{same} {} {left} {}", a.nlink(), fs::read_to_string(d.join("b"))?))
    }),
    ("link a directory", |d| {
        fs::create_dir(d.join("a"))?;
        fs::hard_link(d.join("a"), d.join("b")).map(|()| "linked".into())
    }),
    ("symbolic links", |d| {
        symlink("target", d.join("a"))?;
        fs::write(d.join("target"), "x")?;
        let length = fs::symlink_metadata(d.join("a"))?.len();
        Ok(format!(
            "{} {} {length}",
            fs::read_link(d.join("a"))?.display(),
            fs::read_to_string(d.join("a"))?
        ))
    }),
    ("a link to itself", |d| {
        symlink("a", d.join("a"))?;
        fs::read(d.join("a")).map(|_| "read".into())
    }),
    ("a long name", |d| fs::write(d.join("x".repeat(255)), "").map(|()| "written".into())),
    ("a name too long", |d| fs::write(d.join("x".repeat(256)), "").map(|()| "written".into())),
    ("names of any bytes", |d| {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(b"a\xff\n b".to_vec());
        fs::write(d.join(&name), "x")?;
        Ok(format!("{:?}", names(d)?))
    }),
    ("append from two", |d| {
        let open = || File::options().create(true).append(true).open(d.join("a"));
        let (mut one, mut two) = (open()?, open()?);
        for _ in 0..3 {
            one.write_all(b"1")?;
            two.write_all(b"2")?;
        }
        fs::read_to_string(d.join("a"))
    }),
    ("open to empty", |d| {
        fs::write(d.join("a"), "something")?;
        let file = File::create(d.join("a"))?;
        file.write_all_at(b"x", 3)?;
        Ok(format!("{:?}", fs::read(d.join("a"))?))
    }),
    ("holes", |d| {
        let file = File::create_new(d.join("a"))?;
        file.write_all_at(b"x", 1 << 20)?;
        let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0))?;
        let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0))?;
        Ok(format!("{} {data} {hole}", file.metadata()?.len()))
    }),
    ("many entries", |d| {
        for i in 0..300 {
            fs::write(d.join(format!("a file with a rather long name {i}")), "")?;
        }
        let before = names(d)?.len();
        for i in (0..300).step_by(2) {
            fs::remove_file(d.join(format!("a file with a rather long name {i}")))?;
        }
        Ok(format!("{before} {}", names(d)?.len()))
    }),
    ("special files", |d| {
        let make = |name, kind| mknodat(CWD, d.join(name), kind, Mode::from_raw_mode(0o640), 0);
        make("fifo", FileType::Fifo)?;
        make("socket", FileType::Socket)?;
        let mut reader = OpenOptions::new();
        reader.read(true).custom_flags(libc::O_NONBLOCK);
        let mut fifo = reader.open(d.join("fifo"))?;
        OpenOptions::new().write(true).open(d.join("fifo"))?.write_all(b"through")?;
        let mut text = String::new();
        fifo.read_to_string(&mut text)?;
        Ok(format!("{text} {}", modes(d, &["fifo", "socket"])?))
    }),
    ("locks", |d| {
        let (one, two) = (File::create(d.join("a"))?, File::open(d.join("a"))?);
        flock(&one, FlockOperation::NonBlockingLockExclusive)?;
        flock(&two, FlockOperation::NonBlockingLockExclusive)
            .map(|()| "locked".into())
            .map_err(Into::into)
    }),
    ("who may", |d| {
        fs::write(d.join("a"), "")?;
        fs::set_permissions(d.join("a"), Permissions::from_mode(0o755))?;
        let may = |mode| access(d.join("a"), mode).is_ok();
        let all = rustix::fs::Access::READ_OK
            | rustix::fs::Access::WRITE_OK
            | rustix::fs::Access::EXEC_OK;
        Ok(format!("{} {:?}", may(all), access(d.join("b"), all)))
    }),
    ("run a program", |d| {
        fs::write(d.join("program"), "#!/bin/sh\necho ran $1\n")?;
        fs::set_permissions(d.join("program"), Permissions::from_mode(0o755))?;
        let ran = std::process::Command::new(d.join("program")).arg("it").output()?;
        Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    }),
    ("be told of changes", |d| {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let watch = init(CreateFlags::NONBLOCK)?;
        add_watch(&watch, d, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        fs::write(d.join("a"), "")?;
        fs::rename(d.join("a"), d.join("b"))?;
        let mut events = [0; 512];
        Ok(format!("{}", rustix::io::read(&watch, &mut events)?))
    }),
    ("a directory that was removed", |d| {
        fs::create_dir(d.join("a"))?;
        std::env::set_current_dir(d.join("a"))?;
        fs::remove_dir(d.join("a"))?;
        let made = fs::write("x", "").map(|()| "written".into());
        std::env::set_current_dir("/")?;
        made
    }),
    ("owners", |d| {
        fs::write(d.join("a"), "")?;
        rustix::fs::chownat(CWD, d.join("a"), Some(rustix::fs::Uid::ROOT), None, AtFlags::empty())?;
        let found = fs::metadata(d.join("a"))?;
        Ok(format!("{} {}", found.uid(), found.gid()))
    }),
];

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names: Vec<_> =
        fs::read_dir(dir)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn modes(dir: &Path, names: &[&str]) -> Outcome {
    let mode =
        |name: &&str| fs::metadata(dir.join(name)).map(|found| format!("{:o}", found.mode()));
    names.iter().map(mode).collect::<io::Result<Vec<_>>>().map(|modes| modes.join(" "))
}
