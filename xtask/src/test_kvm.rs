//! `cargo xtask test-kvm`: lampyr on a host that has KVM, on any host.
//!
//! QEMU emulates an AMD processor with its virtualization extension; in it
//! Debian's kernel offers a real `/dev/kvm`. The emulated host is a tree of
//! unpacked Debian packages on one disk, without an initramfs: the kernel has
//! `NVMe` and ext4 built in. QEMU, kernel and tree are the same packages, so the
//! outer machine runs from the tree as well and nothing is installed.
//!
//! The bed may stall or spin: each try is killed from outside when its time is
//! up, and a try that did not get to its end is made once more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::apt::{Apt, cached};
use crate::command::{bounded, find, run, say};
use crate::failure::{At, Failure, Result};
use crate::{packages, run as launch, workspace};

const SUITE: &str = "trixie";

/// What the emulated host consists of; a change wants a new name for [`TREE`].
const PACKAGES: &[&str] =
    &["bash", "busybox-static", "coreutils", "linux-image-cloud-amd64", "qemu-system-x86"];
const TREE: &str = "tree-1";

const LIMIT: Duration = Duration::from_mins(4);
const TRIES: usize = 2;

/// What the cases printed in a try that got to its end.
struct Report {
    cases: Vec<String>,
}

/// Boots the emulated host, runs the cases in it and judges their report.
pub(crate) fn test() -> Result<()> {
    if workspace::HOST_ARCH != "x86_64" {
        say("test-kvm: left out, the emulated host is made for x86-64 alone");
        return Ok(());
    }
    packages::ensure(packages::IMAGE)?;
    let bed = workspace::target().join("kvm-bed");
    let tree = tree(&bed)?;
    furnish(&tree)?;
    judge(&report(&bed, &tree)?)
}

/// The emulated host's files, fetched once.
fn tree(bed: &Path) -> Result<PathBuf> {
    let tree = bed.join(TREE);
    cached(&tree, |new| {
        Apt::open(&bed.join("apt"), SUITE)?.unpack_closure(PACKAGES, new)?;
        let bin = new.join("usr/local/bin");
        fs::create_dir_all(&bin).at(&bin)
    })?;
    Ok(tree)
}

/// Puts lampyr, what it needs and the cases into the tree, afresh.
fn furnish(tree: &Path) -> Result<()> {
    let folder = tree.join("lampyr");
    if folder.exists() {
        fs::remove_dir_all(&folder).at(&folder)?;
    }
    fs::create_dir_all(&folder).at(&folder)?;
    for (name, text) in [
        ("init.sh", include_str!("test_kvm/init.sh")),
        ("cases.sh", include_str!("test_kvm/cases.sh")),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).at(&path)?;
        run(Command::new("chmod").arg("755").arg(&path))?;
    }
    furnish_lampyr(&folder)
}

/// The kit and the images are copied, not what this host found out about
/// itself: the accelerator and the templates are the emulated host's to make.
fn furnish_lampyr(folder: &Path) -> Result<()> {
    launch::build()?;
    let (from, home) = (workspace::test_home(), folder.join("home"));
    launch::provision(&from)?;
    fs::create_dir(&home).at(&home)?;
    for part in ["format", "kits", "images"].map(|part| from.join(part)) {
        if part.exists() {
            run(Command::new("cp").args(["-a", "--sparse=always"]).arg(&part).arg(&home))?;
        }
    }
    run(Command::new("chmod").arg("700").arg(&home))?;
    run(Command::new("cp").arg(workspace::lampyr()).arg(folder))
}

fn report(bed: &Path, tree: &Path) -> Result<Report> {
    for attempt in 1..=TRIES {
        let console = boot(bed, tree)?;
        if let Some(report) = Report::parse(&console) {
            return Ok(report);
        }
        say(&format!("test-kvm: try {attempt} of {TRIES} did not get to its end:\n{console}"));
    }
    Err(Failure::new("the emulated KVM host did not get to its end"))
}

/// One try on a new disk; returns what came over the serial console.
fn boot(bed: &Path, tree: &Path) -> Result<String> {
    let (disk, log) = (bed.join("disk.ext4"), bed.join("console.log"));
    make_disk(tree, &disk)?;
    let file = fs::File::create(&log).at(&log)?;
    let status = qemu(tree, &disk)?.stdin(Stdio::null()).stdout(file).status();
    status.map_err(|error| Failure::new(format!("cannot start QEMU: {error}")))?;
    let console = fs::read(&log).at(&log)?;
    Ok(String::from_utf8_lossy(&console).replace('\r', ""))
}

/// fakeroot makes every file root's, whoever runs this.
fn make_disk(tree: &Path, disk: &Path) -> Result<()> {
    let missing = || Failure::new("mkfs.ext4 is missing");
    let mkfs = find("mkfs.ext4").ok_or_else(missing)?;
    if disk.exists() {
        fs::remove_file(disk).at(disk)?;
    }
    run(Command::new("fakeroot").arg(mkfs).args(["-q", "-d"]).arg(tree).arg(disk).arg("8G"))
}

/// The tree's own QEMU on the tree's own libraries, as the emulated host.
fn qemu(tree: &Path, disk: &Path) -> Result<Command> {
    let mut command = bounded(LIMIT, tree.join("lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(tree.join("usr/lib/x86_64-linux-gnu"));
    command.arg(tree.join("usr/bin/qemu-system-x86_64"));
    for firmware in ["qemu", "seabios"] {
        command.arg("-L").arg(tree.join("usr/share").join(firmware));
    }
    command.args(["-accel", "tcg", "-cpu", "max,+svm", "-smp", "1", "-m", "4096"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio", "-device", "nvme,drive=disk,serial=disk", "-drive"]);
    command.arg(format!("if=none,id=disk,format=raw,cache=unsafe,file={}", disk.display()));
    command.arg("-kernel").arg(kernel(tree)?).arg("-append");
    command.arg("console=ttyS0 loglevel=1 panic=-1 root=/dev/nvme0n1 rw init=/lampyr/init.sh");
    Ok(command)
}

fn kernel(tree: &Path) -> Result<PathBuf> {
    let boot = tree.join("boot");
    let entries = fs::read_dir(&boot).at(&boot)?.flatten();
    let mut kernels = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/boot/vmlinuz-"));
    kernels.next().ok_or_else(|| Failure::new(format!("no kernel in {}", boot.display())))
}

impl Report {
    /// Reads TAP; nothing where the plan, which comes last, is missing or does
    /// not fit the cases.
    fn parse(console: &str) -> Option<Self> {
        let starts = |starts: &'static [&str]| {
            move |line: &&str| starts.iter().any(|start| line.starts_with(start))
        };
        let cases: Vec<String> =
            console.lines().filter(starts(&["ok ", "not ok ", "# "])).map(str::to_owned).collect();
        let count = cases.iter().filter(|line| !line.starts_with('#')).count();
        let plan = console.lines().find(starts(&["1.."]))?;
        (plan.trim() == format!("1..{count}")).then_some(Self { cases })
    }
}

fn judge(report: &Report) -> Result<()> {
    let failed = report.cases.iter().filter(|line| line.starts_with("not ok ")).count();
    // What the cases went through interests where one failed.
    let told = report.cases.iter().filter(|line| failed > 0 || !line.starts_with('#'));
    told.for_each(|line| say(line));
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{failed} cases failed on the emulated KVM host")))
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_report_without_its_plan_is_none() {
        assert!(Report::parse("ok 1 a\n").is_none());
        assert!(Report::parse("ok 1 a\n1..2\n").is_none());
        assert!(Report::parse("noise\nok 1 a\n# why\nnot ok 2 b\n1..2\n").is_some());
    }
}
