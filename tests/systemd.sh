#!/bin/sh
# Runs the station as it is installed, under a systemd that is the first process: `make systemd`, or sh tests/systemd.sh [RELEASE].
#
# Needs root, debootstrap, git, a network, 700 MB in /var/tmp, and five minutes. It makes a Debian (bookworm, or RELEASE) in a
# directory of its own, boots its systemd in namespaces of its own (no network but a loopback), and in there:
#
#   1. installs by README's own commands (those between the marks `install-*` there), beside a mosquitto with mutual TLS;
#   2. starts it by README's commands, and looks at what the unit promises: readiness, account, sandbox, the kernel's word on
#      the clock, the order to reload, the watchdog, restarts and the end without one, a key from a credential;
#   3. pushes a configuration to it as an operator does, and proves the chain at the end, live and from the file;
#   4. runs the demonstration inside the same sandbox: Modbus, OPC UA and serial lines under its filters.
#
# Each step is bounded in time, a failed one is told and the others go on; the exit code is the number of those that failed.
# KEEP=1 leaves the directory, and says where it is. The kernel is this machine's.
set -u
cd "$(dirname "$0")/.."
release=${1:-bookworm}
[ "$(id -u)" = 0 ] || { echo "a Debian is made by root only: sudo make systemd" >&2; exit 77; }
for tool in debootstrap unshare nsenter git; do
    command -v "$tool" >/dev/null || { echo "needs $tool: apt install debootstrap util-linux git" >&2; exit 69; }
done

name="systemd-$release"
. tests/debian.sh
cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts) group='' booted=''
clean() {
    [ -z "$booted" ] || { kill -KILL "$booted"; wait "$booted"; } 2>/dev/null
    [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    clear_debian
}
trap clean EXIT
trap 'exit 130' INT TERM
[ -n "$cgroups" ] || { echo "needs a cgroup2 file system, which systemd keeps its processes in" >&2; exit 69; }

# inside SECONDS COMMAND: in that Debian; while nothing is booted, with this machine's network.
inside() {
    if [ -z "$booted" ]; then
        clean_env timeout --kill-after=10 "$1" unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc" &&
            exec chroot "$0" sh -euc "cd /srv/trambien; . tests/systemd/steps.sh; $1"' "$root" "$2"
    else
        clean_env timeout --kill-after=10 "$1" nsenter --target "$first" --all \
            sh -euc "cd /srv/trambien; . tests/systemd/steps.sh; $2"
    fi
}

# boot: systemd becomes the first process of namespaces that have this directory as their root.
boot() {
    group=$cgroups/trambien-test.$$
    mkdir "$group"
    sh -c 'echo $$ >"$1/cgroup.procs"; exec unshare --mount --pid --fork --kill-child --ipc --uts --net --cgroup sh tests/systemd/boot.sh "$0"' \
        "$root" "$group" >"$root/srv/boot.log" 2>&1 </dev/null &
    booted=$!
    tries=100
    until first=$(pgrep --parent $booted) && [ "$(cat "/proc/$first/comm")" = systemd ] || [ $tries = 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
}

echo "== $release in $root, on $(uname -rm)"
make_debian "$(dpkg --print-architecture)" "$release" ca-certificates,mosquitto,procps,python3-venv,systemd-sysv
step "install as README says" 600 "$(readme install-arm64)
$(readme install-unit)"
step "a platform" 60 platform
boot
step "systemd is there" 60 'until_ systemctl is-system-running; systemctl --version | head -n 1'
step "a file" 60 configuration
step "start as README says" 60 "$(readme install-start)"
step "ready, and alive" 60 'systemctl is-active trambien; until_ alive tank; trambien status'
step "nobody, in a sandbox" 60 sandboxed
step "the clock is asked of the kernel" 60 'test "$(of status clock.source)" = kernel; of status clock'
step "blocks are taken" 60 'listener; until_ acknowledged 5'
step "reload takes a good file over, and no bad one" 60 reloads
step "a push is obeyed, and a forged one is not" 120 pushes
step "SIGKILL: it is back" 60 'comes_back systemctl kill --signal=KILL trambien'
step "a loop that stands still: the watchdog" 90 'quick_watchdog; comes_back systemctl kill --signal=STOP trambien'
step "a file with faults: said, and not tried again" 60 stays_down
step "a key from a credential" 60 credential
step "stopping takes seconds" 60 'began=$(date +%s); systemctl stop trambien; test $(($(date +%s) - began)) -le 6
trambien verify /var/lib/trambien/buffer.db'
step "what was delivered is proven" 60 heard
step "the demonstration, inside the sandbox" 400 demonstration
exit $failed
