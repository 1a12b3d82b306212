//! A machine as QEMU's command line. Pure: the descriptors are numbers.

use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use lampyr_engine::{Accel, MachineSpec};
use serde_json::{Value, json};

use crate::inherit::path_of;
use crate::layers::Layer;
use crate::program::Program;

/// Raised whenever a line here changes what a saved machine can be restored on.
pub(crate) const PROFILE: &str = "microvm-5";

/// A card without a queue for orders, and without what needs one.
const PLAIN: &str = ",ctrl_vq=off,ctrl_rx=off,ctrl_rx_extra=off,ctrl_vlan=off,ctrl_mac_addr=off,\
                     ctrl_guest_offloads=off,guest_announce=off";

/// The descriptor set of the accelerator's device; the disks count from 0.
const ACCEL_SET: u32 = 100;

/// How the guest's memory is backed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Memory {
    /// By nothing that stays.
    Anonymous,
    /// By a file that is to hold it when the machine is saved.
    Shared(RawFd),
    /// By a saved machine's file, which is never written.
    Private(RawFd),
}

/// What the machine begins with.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// The kernel and initramfs, and the kernel's command line.
    Kernel { kernel: RawFd, initramfs: RawFd, append: String },
    /// The device state that comes through the monitor.
    Incoming,
}

/// The other end of a machine's network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A socket that frames go over.
    Ours(RawFd),
    /// QEMU's own user networking, which reaches whatever QEMU may: the
    /// gateway is the host's loopback.
    Qemus { gateway: Ipv4Addr },
}

/// All that a command line is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) accel: Accel,
    pub(crate) spec: MachineSpec,
    pub(crate) memory: Memory,
    pub(crate) disks: Vec<RawFd>,
    pub(crate) start: Start,
    pub(crate) monitor: RawFd,
    pub(crate) channel: RawFd,
    pub(crate) console: RawFd,
    /// What the network card is on, where there is one.
    pub(crate) card: Option<Wire>,
    /// The accelerator's device, where QEMU takes that by descriptor.
    pub(crate) accel_device: Option<RawFd>,
    pub(crate) firmware: Vec<PathBuf>,
}

impl Plan {
    /// The command line, without the program's name.
    pub(crate) fn arguments(&self, program: &Program) -> Vec<String> {
        let mut line = Line::default();
        for dir in &self.firmware {
            line.add(["-L", &dir.to_string_lossy()]);
        }
        self.machine(&mut line);
        self.memory(&mut line, program);
        self.wires(&mut line);
        self.disks(&mut line);
        self.card(&mut line);
        self.start(&mut line);
        Self::seal(&mut line);
        line.0
    }

    fn machine(&self, line: &mut Line) {
        // With these two a guest's kernel copies memory byte by byte, which is
        // the fastest way on a real processor and the slowest on TCG.
        let cpu = if self.accel == Accel::Tcg { "max,-erms,-fsrm" } else { "host" };
        let accel = match self.accel_device {
            Some(fd) => {
                line.add(["-add-fd", &format!("fd={fd},set={ACCEL_SET}")]);
                format!("{},device=/dev/fdset/{ACCEL_SET}", self.accel)
            }
            None => self.accel.to_string(),
        };
        line.add(["-machine", "microvm,memory-backend=mem", "-accel", &accel]);
        line.add(["-cpu", cpu, "-smp", &self.spec.cpus.to_string()]);
        line.add(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    }

    fn memory(&self, line: &mut Line, program: &Program) {
        let size = self.spec.memory;
        let object = match self.memory {
            Memory::Anonymous => format!("memory-backend-ram,id=mem,size={size}"),
            Memory::Shared(fd) => {
                format!("memory-backend-file,id=mem,size={size},mem-path={},share=on", path_of(fd))
            }
            Memory::Private(fd) => {
                let mode = if program.maps_read_only() { ",readonly=on,rom=off" } else { "" };
                let path = path_of(fd);
                format!("memory-backend-file,id=mem,size={size},mem-path={path},share=off{mode}")
            }
        };
        line.add(["-m", &format!("{size}B"), "-object", &object]);
    }

    fn wires(&self, line: &mut Line) {
        for (id, fd) in [("qmp", self.monitor), ("agent", self.channel), ("tty", self.console)] {
            line.add(["-chardev", &format!("socket,id={id},fd={fd}")]);
        }
        line.add(["-mon", "chardev=qmp,mode=control", "-serial", "chardev:tty"]);
        line.add(["-device", "virtio-serial-device,max_ports=2"]);
        line.add(["-device", "virtserialport,chardev=agent,nr=1,name=lampyr"]);
    }

    /// The layers of the root disk, each over the one before.
    fn disks(&self, line: &mut Line) {
        for (i, fd) in self.disks.iter().enumerate() {
            let top = i + 1 == self.disks.len();
            // The set's access mode is the descriptor's own.
            line.add(["-add-fd", &format!("fd={fd},set={i}")]);
            let format = if i == 0 { "raw" } else { "qcow2" };
            let below = i.checked_sub(1).map(|below| top_node(&below.to_string()));
            let [file, disk] = nodes(&i.to_string(), i, format, below, top);
            line.add(["-blockdev", &file.to_string(), "-blockdev", &disk.to_string()]);
        }
        if let Some(top) = self.top() {
            let top = top_node(&top.name);
            let device = format!("virtio-blk-device,drive={top},werror=report,rerror=report");
            line.add(["-device", &device]);
        }
    }

    /// The top layer.
    pub(crate) fn top(&self) -> Option<Layer> {
        let set = self.disks.len().checked_sub(1)?;
        Some(Layer { name: set.to_string(), set })
    }

    /// The address is the guest's to choose, and for us to believe or not.
    /// The guest's new address and each group that it joins would be told to a
    /// card that can be told such things, and the guest would wait for each answer.
    /// There is nobody on the wire whose packets it should not get.
    fn card(&self, line: &mut Line) {
        let Some(wire) = self.card else { return };
        let net = match wire {
            Wire::Ours(fd) => format!("stream,id=net,addr.type=fd,addr.str={fd}"),
            Wire::Qemus { gateway } => {
                format!("user,id=net,ipv6=off,net={gateway}/24,host={gateway}")
            }
        };
        line.add(["-netdev", &net, "-device", &format!("virtio-net-device,netdev=net{PLAIN}")]);
    }

    fn start(&self, line: &mut Line) {
        match &self.start {
            Start::Kernel { kernel, initramfs, append } => {
                line.add(["-kernel", &path_of(*kernel), "-initrd", &path_of(*initramfs)]);
                line.add(["-append", append]);
            }
            // It waits: not everything that it begins with comes that way.
            Start::Incoming => line.add(["-S", "-incoming", "defer"]),
        }
    }

    /// QEMU's own system call filter: it starts no process and gains nothing.
    fn seal(line: &mut Line) {
        let denied = "obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        line.add(["-sandbox", &format!("on,{denied}")]);
    }
}

/// The node of a layer's file, and the one that makes a disk of it.
fn nodes(name: &str, set: usize, format: &str, below: Option<String>, top: bool) -> [Value; 2] {
    let file = json!({
        "driver": "file", "filename": format!("/dev/fdset/{set}"), "node-name": file_node(name),
        "locking": "off", "read-only": !top, "discard": "unmap",
        "cache": {"direct": false, "no-flush": true},
    });
    let mut disk = json!({
        "driver": format, "file": file_node(name), "node-name": top_node(name),
        "read-only": !top, "discard": "unmap", "cache": {"direct": false, "no-flush": true},
    });
    if let (Some(below), Some(disk)) = (below, disk.as_object_mut()) {
        disk.insert("backing".into(), below.into());
    }
    [file, disk]
}

/// What makes a node for a new top layer, over nothing yet.
pub(crate) fn layer_node(name: &str, set: usize) -> [Value; 2] {
    let [file, mut disk] = nodes(name, set, "qcow2", None, true);
    disk["backing"] = Value::Null;
    [file, disk].map(|node| json!({"execute": "blockdev-add", "arguments": node}))
}

/// The node of a layer of a disk.
pub(crate) fn top_node(name: &str) -> String {
    format!("disk{name}")
}

/// The node of a layer's file.
pub(crate) fn file_node(name: &str) -> String {
    format!("file{name}")
}

/// The kernel's command line.
pub(crate) fn append(accel: Accel, tsc_khz: Option<u64>) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "quiet".to_owned(),
        // A kernel that panics ends the machine, and so is noticed at once.
        "panic=-1".to_owned(),
        "random.trust_cpu=on".to_owned(),
        "cryptomgr.notests".to_owned(),
    ];
    if accel == Accel::Tcg {
        // Emulation runs no guest code ahead of time: there is nothing for the
        // kernel's workarounds to guard, and each is slow here. So is what it
        // counts and checks for nobody.
        let lean = "mitigations=off apparmor=0 audit=0 psi=0 init_on_alloc=0 nowatchdog";
        words.extend(lean.split(' ').map(str::to_owned));
        words.push("tsc=reliable".to_owned());
        // For the agent: see its `warm` module.
        words.push("lampyr.warm".to_owned());
        words.extend(tsc_khz.map(|khz| format!("tsc_early_khz={khz}")));
    }
    words.join(" ")
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    fn program(version: Version) -> Program {
        Program {
            root: None,
            executable: "/bin/false".into(),
            libraries: vec![],
            firmware: vec![],
            version,
        }
    }

    fn plan(memory: Memory) -> Plan {
        Plan {
            accel: Accel::Tcg,
            spec: MachineSpec { cpus: 2, memory: 1 << 30, network: false },
            memory,
            disks: vec![20, 21, 22],
            start: Start::Incoming,
            monitor: 3,
            channel: 4,
            console: 5,
            card: None,
            accel_device: None,
            firmware: vec![],
        }
    }

    #[test]
    fn every_machine_is_sealed() {
        let line = plan(Memory::Anonymous).arguments(&program(Version(10, 0, 0))).join(" ");
        let seal = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        assert!(line.contains(&format!("-sandbox {seal}")));
        for outside in ["-netdev", "virtio-net", "-nic", "virtfs", "fsdev", "vhost"] {
            assert!(!line.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_card_is_a_wire_to_us_and_nothing_else() {
        let carded = Plan { card: Some(Wire::Ours(7)), ..plan(Memory::Anonymous) };
        let line = carded.arguments(&program(Version(10, 0, 0))).join(" ");
        let wire = "-netdev stream,id=net,addr.type=fd,addr.str=7 -device virtio-net-device";
        assert!(line.contains(wire) && line.matches("netdev").count() == 2, "{line}");
    }

    #[test]
    fn a_network_of_qemu_s_own_has_the_gateway_that_was_asked_for() {
        let card = Some(Wire::Qemus { gateway: Ipv4Addr::new(192, 0, 0, 1) });
        let line = Plan { card, ..plan(Memory::Anonymous) };
        let line = line.arguments(&program(Version(10, 0, 0))).join(" ");
        let user =
            "-netdev user,id=net,ipv6=off,net=192.0.0.1/24,host=192.0.0.1 -device virtio-net";
        assert!(line.contains(user), "{line}");
    }

    #[test]
    fn a_saved_machine_s_memory_is_opened_to_read_where_qemu_can() {
        let line = |version| plan(Memory::Private(9)).arguments(&program(version)).join(" ");
        assert!(line(Version(10, 0, 2)).contains("share=off,readonly=on,rom=off"));
        assert!(!line(Version(7, 2, 0)).contains("rom=off"));
    }

    #[test]
    fn only_the_top_layer_is_written() {
        let line = plan(Memory::Anonymous).arguments(&program(Version(10, 0, 0)));
        let writable: Vec<_> = line.iter().filter(|a| a.contains(r#""read-only":false"#)).collect();
        assert_eq!(writable.len(), 2);
        assert!(writable.iter().all(|a| a.contains("file2")));
    }
}
