"""The power fails at any instant: an ext4 file system is shut down without flushing its log, under the running agent.

`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` leaves on the device what was synchronised and nothing else, as a
power cut does. `TRAMBIEN_POWER_CUTS=50` asks for as many as the promise names. Root only.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chains import fill, key
from keepers import Bench
from outstation import Outstation, ext4, read_contents, run, unmount

from buffer.intervals import Intervals
from buffer.keys import load_or_create
from buffer.store import Store

CUTS = int(os.environ.get("TRAMBIEN_POWER_CUTS", "5"))
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.root, pytest.mark.timeout(300 + 20 * CUTS)]

APPENDING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from chains import key, station_of
from buffer.intervals import Intervals
from buffer.store import Store
store = Store.open(Path({path!r}), [key().public_key])
station = station_of(store)
while True:
    sealed = station.seal()
    last = store.last_position("main") + len(sealed.blocks)
    store.append([sealed, station.seal(stream="side")], {{("province", "main"): Intervals([(1, last)])}})
    print(sealed.head.digest.hex(), last, flush=True)
"""

KEYS = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from buffer.keys import load_or_create
for number in range(10**6):
    key, _ = load_or_create(Path({path!r}) / f"{{number}}.key")
    print(number, key.public_key.hex(), flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of its own, or skip and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root: loop devices and mounts")
    try:
        with ext4(tmp_path) as mount:
            yield mount
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device or no mount here: {error.stderr.strip()}")


def cut(mount: Path) -> None:
    """Cut the power."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def power_on(mount: Path) -> None:
    """Mount what the device has, as after a start; the journal is replayed.

    It is a copy. Whoever began a mount namespace meanwhile still holds the file system that was shut down, and the same
    image mounted beside it would be that one: it can do nothing but fail.
    """
    image = mount.with_name("image")
    run("cp", "--sparse=always", str(image), str(image.with_name("copy")))
    unmount(mount)
    image.with_name("copy").rename(image)
    run("mount", "-o", "loop", str(image), str(mount))


def until_cut(script: str, path: Path, mount: Path, after_s: float) -> list[list[str]]:
    """Run a script, cut the power under it, kill it; give the lines that it had told before."""
    source = script.format(tests=str(ROOT / "tests"), path=str(path))
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, bufsize=0, cwd=ROOT) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        os.set_blocking(process.stdout.fileno(), False)
        told = process.stdout.read() or b""  # without a buffer, so that nothing to read is no error
        cut(mount)
        process.kill()
    power_on(mount)
    lines = (first + told).decode().splitlines()
    return [line.split() for line in lines if line.count(" ") >= 1][:-1]


def test_what_append_returned_for_is_there_after_a_power_cut(disk: Path) -> None:
    """And what was acknowledged with it; the next opening goes on in an epoch of its own."""
    rng = random.Random(5)
    path = disk / "buffer.db"
    epochs: set[bytes] = set()
    for _ in range(CUTS):
        told = until_cut(APPENDING, path, disk, rng.uniform(0.05, 0.6))
        assert told
        contents = read_contents(path, key().public_key)
        assert contents.report.verdict == "complete"
        assert {digest for digest, _ in told} <= {digest.hex() for digest in contents.digests["main"]}
        last = int(told[-1][1])
        with Store.open(path, [key().public_key]) as store:
            acknowledged = store.acknowledged("province", "main")
            assert acknowledged.covers(1, last)
            assert acknowledged == Intervals([(1, store.last_position("main"))])
            assert store.epoch not in epochs
            fill(store, commits=1, stream="other")
        epochs |= {header.epoch for headers in contents.headers.values() for header in headers}


def test_the_power_comes_back_though_another_namespace_holds_the_old_mount(disk: Path) -> None:
    """Else a colleague of this suite makes every later look at the disk fail, which is taken for an empty file."""
    kept = disk / "kept"
    kept.write_text("synchronised")
    os.sync()
    with subprocess.Popen(["unshare", "--mount", "sleep", "20"]) as holder:
        while Path(f"/proc/{holder.pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink():
            time.sleep(0.01)
        (disk / "lost").write_text("not synchronised")
        cut(disk)
        power_on(disk)
        assert kept.read_text() == "synchronised"
        assert not (disk / "lost").exists()
        holder.kill()


UNSYNCHRONISED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from chains import key
from keepers import Bench
bench = Bench(Path({path!r}))
bench.seal(2)
bench.keeper._file.store._db.execute("PRAGMA synchronous = OFF")
bench.seal(2)
os._exit(0)
"""


def test_what_a_killed_process_left_unsynchronised_is_not_shown_before_it_is_durable(disk: Path) -> None:
    """It wrote its commit and was killed before the disk had it: the next one finds it in the system's memory (B3)."""
    path = disk / "buffer.db"
    subprocess.run([sys.executable, "-c", UNSYNCHRONISED.format(tests=str(ROOT / "tests"), path=str(path))], check=True)
    shown = Bench(path, second=1000).blocks()
    assert len(shown) > 8
    cut(disk)
    power_on(disk)
    with Store.open(path, [key().public_key]) as store:
        there = {(stream, at): block.envelope for stream in store.streams() for at, block in store.rows(stream, 1, 99)}
    assert {place: envelope for place, (envelope, _) in shown.items()} == there


def test_a_device_key_that_was_given_is_there_after_a_power_cut(disk: Path) -> None:
    """Whole, the same, and never half a file that stops the start."""
    rng = random.Random(6)
    for number in range(CUTS):
        folder = disk / str(number)
        folder.mkdir()
        os.sync()
        told = until_cut(KEYS, folder, disk, rng.uniform(0.01, 0.3))
        for name, public in told:
            found, fate = load_or_create(folder / f"{name}.key")
            assert (found.public_key.hex(), fate) == (public, "loaded")
        next_one, fate = load_or_create(folder / f"{len(told)}.key")
        assert fate in ("created", "loaded")
        assert len(next_one.public_key) == 32
        shutil.rmtree(folder)


@pytest.mark.slow
async def test_the_power_fails_under_the_running_agent(disk: Path, tmp_path: Path) -> None:
    """What the platform has is in the file, the chain is proven, and no identity is used twice."""
    rng = random.Random(7)
    async with Outstation(tmp_path, disk / "buffer.db") as out:
        os.sync()
        before: dict[str, list[bytes]] = {}
        identities: dict[object, bytes] = {}
        for _ in range(CUTS):
            await out.start()
            await asyncio.sleep(rng.uniform(0.8, 3.0))
            os.kill(out.pid, signal.SIGSTOP)  # a call under way ends, as on a machine whose power fails a moment later
            await asyncio.sleep(0.2)
            seen = set(out.platform.verifier.seen.values())
            cut(disk)
            await out.kill()
            power_on(disk)
            contents = out.read()
            assert contents.report.verdict == "complete" or not contents.digests
            for stream, digests in before.items():
                assert contents.digests[stream][: len(digests)] == digests
            assert seen <= {digest for digests in contents.digests.values() for digest in digests}
            before = contents.digests
            for identity, digest in (*contents.identities().items(), *out.platform.verifier.seen.items()):
                assert identities.setdefault(identity, digest) == digest
        await out.start()
        await asyncio.sleep(2)
        await out.drained()
        assert await out.leave() == 0
        contents = out.read()
        await out.heard(contents)
        assert contents.report.verdict == "complete"
        assert contents.identities() == out.platform.verifier.seen
        assert out.platform.verifier.report().verdict == "complete"
