# The cases of the emulated KVM host. Each is a function; the report is TAP,
# and the plan comes last, so a bed that died half-way has none.
# Nothing here asserts on time: the bed is emulated and may stall.

lampyr=/lampyr/lampyr
export LAMPYR_HOME=/lampyr/home LAMPYR_ACCEL=kvm

kvm_device_is_there() { [ -c /dev/kvm ]; }

# Says whether the bed itself is sound, where a case of Lampyr fails.
kvm_runs_a_bare_guest() {
    qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -kernel /boot/vmlinuz-* \
        -append "console=ttyS0 panic=-1" </dev/null >/tmp/bare.log 2>&1
    grep -q 'Unable to mount root fs' /tmp/bare.log || { tail -n 5 /tmp/bare.log; return 1; }
}

number=0
check() {
    number=$((number + 1))
    if "$1" >/tmp/case.log 2>&1; then
        echo "ok $number $1"
    else
        sed 's/^/# /' /tmp/case.log
        echo "not ok $number $1"
    fi
}

check kvm_device_is_there
check kvm_runs_a_bare_guest
echo "1..$number"
