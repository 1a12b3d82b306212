# The cases of the emulated KVM host. Each is a function; the report is TAP,
# and the plan comes last, so a bed that died half-way has none.
# Nothing here asserts on time: the bed is emulated and may stall.

PATH=$PATH:/lampyr
export LAMPYR_HOME=/lampyr/home LAMPYR_ACCEL=kvm LAMPYR_CPUS=1 LAMPYR_MEMORY=512MB
# A bound for what hangs; the whole bed is killed from outside anyway.
export LAMPYR_TIMEOUT=100s

# mkfs.ext4 drops the nanoseconds by which an image's disk is known.
sed -i -E 's/("mtime_ns": *)[0-9]+/\10/' "$LAMPYR_HOME/images/default/manifest.json"

kvm_device_is_there() { [ -c /dev/kvm ]; }

# The first run bakes a template, the second one restores it.
a_run_answers() {
    answers "$(lampyr run "uname -a")" && answers "$(lampyr run "uname -a")"
}

answers() {
    echo "$1"
    has "$1" '"exit_code":0' '"stdout":"Linux '
}

the_exit_code_is_the_commands() {
    local status=0 out
    out=$(lampyr run "echo out; echo err >&2; exit 7") || status=$?
    echo "status $status: $out"
    [ "$status" = 7 ] && has "$out" '"exit_code":7' '"stdout":"out\n"' '"stderr":"err\n"'
}

a_timeout_keeps_what_was_printed() {
    local out
    out=$(lampyr run --timeout 10s "echo before; sleep 600")
    echo "$out"
    has "$out" '"error":"timeout"' '"partial_stdout":"before\n"'
}

qemu_is_confined_and_its_death_is_noticed() {
    begin || return 1
    local qemu
    qemu=$(pidof qemu-system-x86_64)
    echo "QEMU is process $qemu, its user $(stat -c %u "/proc/$qemu")"
    tr '\0' ' ' <"/proc/$qemu/cmdline"; echo
    ls -l "/proc/$qemu/fd" | grep -q 'anon_inode:kvm-vm' || return 1
    [ "$(stat -c %u "/proc/$qemu")" != 0 ] || return 1
    kill -KILL "$qemu"
    wait "$run"
    cat /tmp/run.out
    has "$(cat /tmp/run.out)" '"error":"vm_crashed"'
}

a_killed_lampyr_leaves_nothing_that_clean_does_not_remove() {
    begin || return 1
    kill -KILL "$run"
    wait "$run"
    until_true no_qemu || return 1
    lampyr clean || return 1
    ls "$LAMPYR_HOME/sandboxes"
    [ -z "$(ls "$LAMPYR_HOME/sandboxes")" ] && answers "$(lampyr run "uname -a")"
}

two_runs_at_once() {
    local one two
    lampyr run "uname -a" >/tmp/one & one=$!
    lampyr run "uname -a" >/tmp/two & two=$!
    wait "$one"
    wait "$two"
    answers "$(cat /tmp/one)" && answers "$(cat /tmp/two)"
}

# The probe gives a guest a time that an emulated host may not keep, so either
# answer is right; the report says which it was. The probe itself must come to
# its end and leave nothing behind.
auto_chooses_by_itself() {
    export LAMPYR_ACCEL=auto
    lampyr doctor || [ $? = 1 ] || return 1
    cat "$LAMPYR_HOME/accel.json"
    no_qemu || return 1
    case $(cat "$LAMPYR_HOME/accel.json") in
        *'"accel": "kvm"'*) note=kvm; answers "$(lampyr run "uname -a")" ;;
        *'"accel": "tcg"'*) note='tcg: no guest was up on kvm in time' ;;
        *) return 1 ;;
    esac
}

# Starts a run whose command has begun and goes on for long: process $run.
begin() {
    LAMPYR_OUTPUT=ndjson lampyr run "echo begun; sleep 600" >/tmp/run.out & run=$!
    until_true has_begun
    grep -q begun /tmp/run.out && return
    cat /tmp/run.out
    return 1
}

# Or has ended before that.
has_begun() { grep -q begun /tmp/run.out || ! kill -0 "$run"; }

no_qemu() { ! pidof qemu-system-x86_64 >/dev/null; }

until_true() {
    local i
    for i in $(seq 200); do
        "$@" && return
        sleep 0.5
    done
    return 1
}

# Whether a text has all of some parts.
has() {
    local text=$1 part
    shift
    for part; do
        case $text in *"$part"*) ;; *) echo "no $part in that"; return 1 ;; esac
    done
}

number=0
check() {
    local verdict=ok note=
    number=$((number + 1))
    "$1" >/tmp/case.log 2>&1 || verdict="not ok"
    sed 's/^/# /' /tmp/case.log
    echo "# at $(cut -d. -f1 /proc/uptime) s of the emulated host's clock"
    echo "$verdict $number $1${note:+ # $note}"
}

check kvm_device_is_there
check a_run_answers
check the_exit_code_is_the_commands
check a_timeout_keeps_what_was_printed
check qemu_is_confined_and_its_death_is_noticed
check a_killed_lampyr_leaves_nothing_that_clean_does_not_remove
check two_runs_at_once
check auto_chooses_by_itself
echo "1..$number"
