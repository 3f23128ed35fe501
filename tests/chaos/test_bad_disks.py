"""The disk does not work: full, read-only, erring, gone. The real agent goes on, says so, and heals by itself.

For each fault: polling goes on; an alarm reaches the platform within ten seconds; readings reach it from memory; once
the disk works again the chain is one, proven from its first block to its last, and everything that was served is in it.
Root only: it needs mounts, and strace to make system calls fail.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from outstation import STREAMS, Outstation, ext4, run, tmpfs, unmount
from rig import until
from steady import SteadyLoop

from buffer.block import FLAG_VOLATILE

ALARM_S = 10.0
DISK_S = 5.0
"""How long the disk below may hold up everybody, now and then."""
PAUSE_NS = 4 * 10**9
"""No instrument waits longer for its next question, whatever the disk does, while the machine goes on."""

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(400)]


class Fault(ABC):
    """Something wrong with the file system at `mount`, of the agent `out`."""

    tmpfs = False

    def __init__(self, mount: Path, out: Outstation) -> None:
        self._mount = mount
        self._out = out

    @abstractmethod
    async def begin(self) -> None:
        """Break it."""

    @abstractmethod
    async def mend(self) -> None:
        """Mend it."""

    def failing(self) -> bool:
        """Say whether the last state that the platform got speaks of trouble."""
        states = self._out.platform.states
        return bool(states) and states[-1][1].get("buffer", {}).get("error") is not None


class Full(Fault):
    """Another process takes all the space, and whatever becomes free again."""

    async def begin(self) -> None:
        """Fill, and keep it full."""
        self._fill()
        self._filling = asyncio.create_task(self._keep_full())

    async def mend(self) -> None:
        """Give the space back."""
        await self._rest()
        (self._mount / "filler").unlink()

    async def _rest(self) -> None:
        self._filling.cancel()
        await asyncio.wait([self._filling])

    async def _keep_full(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self._fill()

    def _fill(self) -> None:
        descriptor = os.open(self._mount / "filler", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            for size in (1 << 20, 1 << 14, 1 << 10):
                with contextlib.suppress(OSError):
                    while os.write(descriptor, bytes(size)) == size:
                        pass
        finally:
            os.close(descriptor)


class FullTmpfs(Full):
    """The same on a small file system in memory."""

    tmpfs = True


class ReadOnly(Full):
    """Remounted read-only, as a kernel does that has found an error; nothing may be open for writing then."""

    async def begin(self) -> None:
        """Let the agent close its file, then remount."""
        await super().begin()
        await until(self.failing)
        await self._rest()
        command = ["mount", "-o", "remount,ro", str(self._mount)]
        await until(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0)

    async def mend(self) -> None:
        """Remount for writing."""
        run("mount", "-o", "remount,rw", str(self._mount))
        (self._mount / "filler").unlink()


class Gone(Full):
    """The medium is unplugged, and put in again."""

    async def begin(self) -> None:
        """Let the agent close its file, then take the medium away."""
        await super().begin()
        await until(self.failing)
        await self._rest()
        unmount(self._mount)

    async def mend(self) -> None:
        """Put it in again."""
        run("mount", "-o", "loop", str(self._mount.with_name("image")), str(self._mount))
        (self._mount / "filler").unlink()


class NoSync(Fault):
    """Every synchronisation fails, which leaves what was written in doubt."""

    calls = "fdatasync,fsync"

    async def begin(self) -> None:
        """Attach to the running agent."""
        options = ["-f", "-qq", "-e", f"trace={self.calls}", "-e", f"inject={self.calls}:error=EIO"]
        self._strace = await asyncio.create_subprocess_exec(
            "strace", *options, "-o", "/dev/null", "-p", str(self._out.pid)
        )
        await asyncio.sleep(0.5)
        if self._strace.returncode is not None:
            pytest.skip("strace may not attach to a process here")

    async def mend(self) -> None:
        """Let go of it."""
        with contextlib.suppress(ProcessLookupError):  # it ends with the process that it is attached to
            self._strace.send_signal(signal.SIGINT)
        await self._strace.wait()


class NoWrite(NoSync):
    """Every write into a file at an offset fails."""

    calls = "pwrite64"


FAULTS: list[type[Fault]] = [FullTmpfs, Full, ReadOnly, Gone, NoSync, NoWrite]


@pytest.fixture
async def broken(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Fault, Outstation]]:
    """Give a running agent over a file system of its own, and its fault; or skip and say why."""
    kind: type[Fault] = request.param
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts")
    if issubclass(kind, NoSync) and shutil.which("strace") is None:
        pytest.skip("needs strace")
    with contextlib.ExitStack() as stack:
        try:
            mount = stack.enter_context(tmpfs(tmp_path) if kind.tmpfs else ext4(tmp_path))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no mount here: {error.stderr.strip()}")
        async with Outstation(tmp_path, mount / "buffer.db") as out:
            await out.start()
            await until(lambda: all(len(out.platform.evidence.numbers[name]) > 10 for name in STREAMS))
            yield kind(mount, out), out


@pytest.mark.parametrize("broken", FAULTS, indirect=True, ids=lambda fault: fault.__name__)
async def test_it_goes_on_says_so_and_heals_by_itself(broken: tuple[Fault, Outstation]) -> None:
    """One chain at the end, and everything that was served in it."""
    fault, out = broken
    platform = out.platform
    breaking = asyncio.create_task(fault.begin())
    alarm_s = await until(fault.failing)
    await breaking
    await until(lambda: bool(platform.told("buffer-failed")))
    assert alarm_s < ALARM_S + DISK_S
    marks = {name: served[-1].serial for name, served in out.served.items()}
    await until(lambda: all(max(platform.evidence.numbers[name]) > mark for name, mark in marks.items()))
    await asyncio.sleep(2)
    assert fault.failing()
    assert platform.verifier.volatile > 0
    await fault.mend()
    await until(lambda: bool(platform.told("buffer-back")))
    await until(lambda: not fault.failing())
    await out.drained()
    assert await out.leave() == 0
    await check(out)


async def check(out: Outstation) -> None:
    """Check the file, the platform's copy, and what the instruments saw."""
    contents = out.read()
    await out.heard(contents)
    stood_s = SteadyLoop.running().stood_s
    assert contents.report.verdict == "complete"
    assert not any(out.unaccounted(contents).values())
    assert contents.identities() == out.platform.verifier.seen
    assert not out.platform.verifier.twice
    assert out.platform.verifier.report().verdict == "complete"
    for stream, headers in contents.headers.items():
        assert any(header.flags & FLAG_VOLATILE for header in headers)
        known = [dict(event.data)["known"] for event in contents.events[stream] if event.type == "start"]
        assert known[0] == "none"
        assert "volatile" in known
        first, last = out.served_between()
        assert headers[-1].totals.ticks_missed <= 40 + 10 * stood_s(first, last)
    for served in out.served.values():
        for before, after in pairwise(one.t_boot_ns for one in served):
            assert after - before < PAUSE_NS + stood_s(before, after) * 1e9


@pytest.mark.parametrize("broken", [Full, NoSync], indirect=True, ids=lambda fault: fault.__name__)
async def test_a_process_that_dies_without_its_disk_goes_on_from_what_the_disk_has(
    broken: tuple[Fault, Outstation],
) -> None:
    """What was in memory only is abandoned; nobody takes another block for it, and nothing is taken as delivered."""
    fault, out = broken
    await fault.begin()
    await until(lambda: out.platform.verifier.volatile > 4)
    await asyncio.sleep(1)
    await out.kill()
    durable = out.platform.verifier.seen.copy()
    await fault.mend()
    contents = out.read()
    assert contents.report.verdict == "complete"
    assert not any(header.flags for headers in contents.headers.values() for header in headers)
    await out.start()
    await asyncio.sleep(2)
    await out.drained()
    assert await out.leave() == 0
    after = out.read()
    await out.heard(after)
    assert after.report.verdict == "complete"
    for stream, digests in contents.digests.items():
        assert after.digests[stream][: len(digests)] == digests
    missing = {
        identity
        for identity, digest in after.identities().items()
        if out.platform.verifier.seen.get(identity) != digest
    }
    assert not missing, "a block was taken as delivered that is another one"
    assert not out.platform.verifier.twice
    abandoned = set(out.platform.verifier.seen) - set(after.identities())
    assert abandoned <= set(durable)
    assert abandoned
