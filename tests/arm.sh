#!/bin/sh
# Runs what matters on Arm, without the hardware: `make arm`, or `make arm ARM="armhf trixie"`.
#
#   sh tests/arm.sh [armhf|arm64 [bookworm|trixie [TEST...]]]      armhf bookworm, and the tests named below
#
# Needs root, debootstrap, qemu-user-static, git, a network, 1.5 GB in /var/tmp, and half an hour or more. It makes a Debian of
# that architecture in a directory of its own (debootstrap), whose programs qemu emulates one by one, and in there:
#
#   1. installs by README's own commands (those between the marks `install-*` there), wheels only;
#   2. checks, runs and verifies: `trambien check`, `trambien demo` with a real mosquitto, `trambien verify`;
#   3. runs the tests of what depends on the width of a word: format, store, signatures, pushes. Others may be named; those
#      that hold a time that is real may fail at the speed of an emulator.
#
# Each step is bounded in time, a failed one is told and the others go on; the exit code is the number of those that failed.
# Whatever is mounted lives in a mount namespace and goes with it; the directory and the interpreter that were made here are
# taken away at the end. KEEP=1 leaves the directory, and says where it is. The kernel is this machine's: what is
# tested is the userland. The tests in test_cbor_beside_cbor2.py and test_floors.py need tools that have no Arm wheel.
set -u
cd "$(dirname "$0")/.."
arch=${1:-armhf} release=${2:-bookworm}
[ $# -gt 2 ] && shift 2 || set -- tests/buffer tests/contracts tests/config/test_push_attacks.py tests/promises/test_b6_*.py
case $arch in
    armhf) qemu=qemu-arm ;;
    arm64) qemu=qemu-aarch64 ;;
    *) echo "which Arm: armhf or arm64?" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "a foreign Debian is made by root only: sudo make arm" >&2; exit 77; }
for tool in debootstrap "$qemu-static" unshare git; do
    command -v "$tool" >/dev/null || { echo "needs $tool: apt install debootstrap qemu-user-static git" >&2; exit 69; }
done

name="$arch-$release"
. tests/debian.sh
binfmt=/proc/sys/fs/binfmt_misc registered='' mounted=''
clean() {
    [ -z "$registered" ] || echo -1 >"$binfmt/$qemu"
    [ -z "$mounted" ] || umount "$binfmt"
    clear_debian
}
trap clean EXIT
trap 'exit 130' INT TERM

# The kernel hands foreign programs to qemu. The rule's flag F opens the interpreter now, so that none is needed inside.
[ -e $binfmt/register ] || { mount -t binfmt_misc binfmt_misc $binfmt && mounted=1; } || exit 69
[ -e "$binfmt/$qemu" ] || { cat "/usr/lib/binfmt.d/$qemu.conf" >$binfmt/register && registered=1; } || exit 69

# inside SECONDS COMMAND: in the foreign Debian, in namespaces of its own.
inside() {
    clean_env timeout --kill-after=10 "$1" unshare --mount --pid --fork --kill-child --ipc sh -c 'mount -t proc proc "$0/proc" &&
        mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" && mount -t tmpfs tmpfs "$0/run" &&
        exec chroot "$0" sh -euc "cd /srv/trambien; $1"' "$root" "$2"
}

# pins NAME...: their lines of requirements-dev.txt, hashes and all.
pins() { awk -v names=" $* " '/^[a-z]/ { split($1, name, "=="); take = index(names, " " name[1] " ") } take' requirements-dev.txt; }

echo "== $arch $release in $root, by $("$qemu-static" --version | head -n 1), on $(uname -rm)"
make_debian "$arch" "$release" ca-certificates,mosquitto,python3-venv
pins attrs execnet hypothesis iniconfig joserfc jsonschema jsonschema-specifications packaging pluggy pytest pytest-asyncio \
    pytest-timeout pytest-xdist referencing rpds-py sortedcontainers >"$root/srv/tests.txt"

step "the machine" 60 'uname -m; dpkg --print-architecture; python3 -c "import sqlite3, struct, sys
print(sys.version.split()[0], struct.calcsize(\"P\") * 8, \"bit, SQLite\", sqlite3.sqlite_version)"'
step "install as README says" 1200 "apt-get update --quiet; $(readme "install-$arch" | sed 's/^apt install /apt-get install --yes --quiet /')"
step "what the libraries are" 120 '/opt/trambien/bin/python -c "import _cffi_backend, cryptography, pydantic_core, zstandard
print(\"cffi\", _cffi_backend.__version__, \"cryptography\", cryptography.__version__, \"pydantic-core\", pydantic_core.__version__,
    \"zstandard\", zstandard.__version__, *zstandard.ZSTD_VERSION)"'
step "trambien init, check, schema" 300 'PATH=$PATH:/opt/trambien/bin
trambien init --yes --wire none /tmp/gateway.yaml && trambien check /tmp/gateway.yaml && trambien schema | wc -c'
step "trambien demo and verify" 600 'PATH=$PATH:/opt/trambien/bin
trambien demo --language en --data tests/data --keep /tmp/demo && trambien verify /tmp/demo/buffer/buffer.db'
step "install what the tests need" 600 '/opt/trambien/bin/pip install -q --no-deps --only-binary :all: --require-hashes -r /srv/tests.txt'
for test; do
    step "$test" "${BOUND:-2400}" "PATH=\$PATH:/opt/trambien/bin
python -m pytest -q -p no:cacheprovider --timeout 600 --ignore tests/buffer/test_cbor_beside_cbor2.py --ignore tests/contracts/test_floors.py '$test'"
done
exit $failed
