#!/usr/bin/busybox sh
# Process 1 of the emulated KVM host: turns a bare kernel and a tree of
# unpacked packages into a host, runs the cases and switches off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
bb=/usr/bin/busybox

$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
$bb mkdir -p /dev/pts /dev/shm /sys/fs/cgroup
$bb mount -t devpts devpts /dev/pts
$bb mount -t tmpfs shm /dev/shm
$bb mount -t tmpfs run /run
$bb mount -t tmpfs tmp /tmp
$bb mount -t cgroup2 cgroup /sys/fs/cgroup
$bb ip link set lo up
$bb ln -sf /proc/self/fd /dev/fd
$bb --install -s /usr/local/bin
export PATH="$PATH:/usr/local/bin"

modules=/usr/lib/modules/$(uname -r)/kernel
insmod "$modules/virt/lib/irqbypass.ko.xz"
insmod "$modules/arch/x86/kvm/kvm.ko.xz"
insmod "$modules/arch/x86/kvm/kvm-amd.ko.xz"

setsid cttyhack bash /lampyr/cases.sh </dev/null 2>&1
sync
poweroff -f
