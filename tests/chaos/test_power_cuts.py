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
from collections.abc import Iterator
from pathlib import Path

import pytest
from chains import fill, key
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
    """Mount it again, as after a start; the journal is replayed."""
    unmount(mount)
    run("mount", "-o", "loop", str(mount.with_name("image")), str(mount))


def until_cut(script: str, path: Path, mount: Path, after_s: float) -> list[list[str]]:
    """Run a script, cut the power under it, kill it; give the lines that it had told before."""
    source = script.format(tests=str(ROOT / "tests"), path=str(path))
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        os.set_blocking(process.stdout.fileno(), False)
        told = process.stdout.read() or ""
        cut(mount)
        process.kill()
    power_on(mount)
    return [line.split() for line in (first + told).splitlines(keepends=False) if line.count(" ") >= 1][:-1]


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
