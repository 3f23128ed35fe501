"""The lookout of an uplink: finds from time to time how it stands, while there is a session and while there is none.

What is always true here:

- A look reads at most `SAMPLES` blocks of a stream, whatever waits, and none where nothing does.
- What cannot be read now leaves the last look standing.
- A certificate is read once a connection is made with it, by a process of its own (`agent.aside`), and again only
  when its file has changed by a later connection.

The uplink enters.
"""

import contextlib
from typing import NoReturn

from agent import aside, tls
from agent.beat import beat
from agent.errors import AsideFailed
from agent.health import UplinkHealth
from agent.kept import Kept
from agent.owner import in_daemon
from agent.recorder import Recorder
from agent.standing import WORTH, Day, Oldest, Standing
from buffer.block import Header, read_header
from buffer.errors import BufferFault
from buffer.intervals import Intervals
from buffer.seal import Moment

LOOK_EVERY_S = 10.0
SAMPLES = 16
NS_PER_S = 10**9


_Seen = tuple[str, tls.Fingerprint]
"""A certificate's file, and the state that it was in."""


class Lookout:
    """Keeps `health.standing` of one uplink."""

    def __init__(self, name: str, recorder: Recorder, health: UplinkHealth) -> None:
        self._name = name
        self._recorder = recorder
        self._health = health
        self._day = Day()
        self._until_ns: int | None = None
        self._cert: _Seen | None = None
        self._read: _Seen | None = None

    def certificate(self, cert: str | None) -> None:
        """Note the certificate that a connection is made with."""
        self._cert = None if cert is None else (cert, tls.fingerprint((cert,)))

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(
                BufferFault
            ):  # told by the recorder; the store is opened again with the next commit
                await self.look()
            await beat(LOOK_EVERY_S)

    async def _read_certificate(self) -> None:
        """Find when the certificate ends that the last connection was made with."""
        if self._cert == self._read:
            return
        self._until_ns, self._read = None, self._cert
        if self._cert is not None:
            cert, _ = self._cert
            with contextlib.suppress(AsideFailed):  # nobody knows when it ends, then
                self._until_ns = await in_daemon("certificate", lambda: aside.ask("certificate-end", cert))

    async def look(self) -> None:
        """Look once. Raises what the store raises."""
        await self._read_certificate()
        bytes_waiting, oldest = 0, []
        for stream in self._health.streams:
            size, first = await self._waiting(stream)
            bytes_waiting += size
            oldest += [] if first is None else [first]
        moment = self._recorder.moment()
        headers = [read_header(kept.block.envelope) for kept in oldest]
        aged = [_aged(header, moment) for header in headers]
        self._health.standing = Standing(
            bytes_waiting,
            max(aged, key=_age, default=None),
            self._day.grown(moment.boot_ns, self._health.bytes_sent),
            self._until_ns,
            None if self._until_ns is None or moment.clock.quality not in WORTH else _days(self._until_ns, moment),
        )

    async def _waiting(self, stream: str) -> tuple[int, Kept | None]:
        """Give about how many bytes of a stream wait, and the oldest block of them."""
        gaps = Intervals(self._recorder.settled(self._name, stream).gaps(1, self._recorder.head(stream)))
        blocks = gaps.count()
        found = [await self._block(stream, position) for position in spread(gaps, SAMPLES)]
        known = [kept for kept in found if kept is not None]
        return sum(kept.block.size for kept in known) * blocks // max(1, len(known)), next(iter(known), None)

    async def _block(self, stream: str, position: int) -> Kept | None:
        if kept := self._recorder.recent(stream, position):
            return kept
        return next(iter((await self._recorder.read(stream, position, position, 1)).blocks), None)


def spread(ranges: Intervals, most: int) -> list[int]:
    """Give at most so many numbers that lie evenly in ranges, the first among them."""
    total = ranges.count()
    wanted = [index * total // min(most, total) for index in range(min(most, total))]
    numbers: list[int] = []
    before = 0
    for first, last in ranges:
        size = last - first + 1
        while len(numbers) < len(wanted) and wanted[len(numbers)] < before + size:
            numbers.append(first + wanted[len(numbers)] - before)
        before += size
    return numbers


def _aged(header: Header, moment: Moment) -> Oldest:
    """Say how old a block is, by what can be believed."""
    if header.boot_id == moment.boot_id:
        return Oldest(header.stream, header.seq, (moment.boot_ns - header.boot_ns) / NS_PER_S, "boot")
    if header.clock.quality in WORTH and moment.clock.quality in WORTH:
        return Oldest(header.stream, header.seq, max(0, moment.wall_ns - header.wall_ns) / NS_PER_S, "wall")
    return Oldest(header.stream, header.seq, None, None)


def _age(oldest: Oldest) -> float:
    """Order by age; what is unknown was sealed in an earlier boot."""
    return float("inf") if oldest.age_s is None else oldest.age_s


def _days(until_ns: int, moment: Moment) -> int:
    return (until_ns - moment.wall_ns) // (86_400 * NS_PER_S)
