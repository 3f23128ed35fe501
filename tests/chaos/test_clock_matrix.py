"""The clock matrix: the real agent under libfaketime, with a wall clock that is wrong in every way a gateway's can be.

The kernel's opinion of this machine's own clock says nothing of the faked one, so the agent is kept from asking it; its
daemon is a `chronyc` of ours. CLOCK_BOOTTIME and CLOCK_MONOTONIC stay real.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from asking import OPTIONS, asked, ended

from buffer.block import Header, open_envelope, trust
from buffer.frame import Event
from buffer.keys import known_public
from buffer.layout import decode_catalogue, decode_layout
from buffer.store import Reader
from buffer.timeline import Bracket, Placed, Timeline
from buffer.verify import Verifier, payload_of

LIBRARIES = [*map(str, Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))][:1]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime: apt-get install faketime")

IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
"""Where the faked clock stands: it is read whenever the agent looks at its own, and must not wait for a busy disk."""
SECOND = 10**9
DAY_S = 86_400
EVERY_S = 0.2
CONFIG = """
gateway: {id: station-1, language: en, watch: null}
buffer: {path: data/buffer.db, seal_every: 300ms, keep: 1d}
links:
  waves: {driver: simulated, devices: {tank: {every: 200ms, points: {level: {wave: sine}}}}}
"""
AGENT = (
    "import sys; from agent import clock_sources as c; c.kernel = lambda: c.UNKNOWN; c.timesyncd = lambda *_: None; "
    "c.ntp = lambda _: None; import agent.timekeeper as t; t.LOOK_S = 0.5; t.ASK_NS = 10**9; "
    "from agent.service import main; sys.exit(main(sys.argv[1:]))"
)
CHRONYC = '#!/bin/sh\necho "A29FC87B,192.0.2.1,3,$(date +%s).0,0.0,0.0,0.0,0.0,0.0,0.0,0.02,0.001,64,{leap}"\n'


class Station:
    """A configuration, a buffer, and starts of the agent with a clock of our choice."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "gateway.yaml"
        self.config.write_text(CONFIG)
        self.buffer = folder / "data" / "buffer.db"
        self.clock = IN_MEMORY / f"trambien-faketime-{os.getpid()}-{folder.name}"
        self.log = folder / "log"
        self._tools = folder / "bin"
        self._tools.mkdir()
        self.boots = 0

    def set_clock(self, by_s: int) -> None:
        """Set the wall clock, atomically: so far from the true time."""
        fresh = self.clock.with_name("faketime.new")
        fresh.write_text(f"{by_s:+d}\n")
        fresh.rename(self.clock)

    def start(self, by_s: int, leap: str = "Not synchronised") -> None:
        """Boot: another boot id, a wall clock so far from the true time, and chronyd's opinion of it."""
        self.boots += 1
        self.set_clock(by_s)
        chronyc = self._tools / "chronyc"
        chronyc.write_text(CHRONYC.format(leap=leap))
        chronyc.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "TRAMBIEN_BOOT_ID": f"{self.boots:032x}",
            "LD_PRELOAD": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        command = [sys.executable, *OPTIONS, "-c", AGENT, "-c", str(self.config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stderr=log)
        self.status()

    def status(self):
        """Ask it."""
        return asked(self.buffer, self._process, self.log)

    def seal_more(self, blocks: int) -> None:
        """Wait until so many more blocks are sealed."""
        enough, deadline = self.sealed() + blocks, time.monotonic() + 60
        while self.sealed() < enough:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def seal_until_synchronised(self) -> None:
        """Wait until a header has said that the clock is synchronised."""
        deadline = time.monotonic() + 60
        while self.status()["clock"].get("quality") != "synchronised":
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def sealed(self) -> int:
        """Ask how many blocks there are."""
        return int(self.status()["streams"]["main"]["sealed"])

    def stop(self) -> None:
        """End it as systemd does."""
        self._process.send_signal(signal.SIGTERM)
        assert ended(self._process, self.log) == 0, self.log.read_text()
        self.clock.unlink()

    def run(self, by_s: int, leap: str = "Not synchronised", seconds: float = 2.0) -> None:
        """Boot, measure for a while, stop."""
        self.start(by_s, leap)
        time.sleep(seconds)
        self.stop()


@dataclass
class Chain:
    """What a station left behind, proven."""

    headers: list[Header]
    events: list[tuple[int, Event]]
    """With the place of their block."""
    frames: list[tuple[bytes, int]]
    """Boot id and boot time."""
    line: Timeline

    @classmethod
    def of(cls, station: Station) -> "Chain":
        """Read it; it must be complete, and nothing of it may have expired."""
        keys = known_public(station.buffer.with_name("device.key"))
        verifier, chain = Verifier(keys), cls([], [], [], Timeline())
        with Reader(station.buffer) as reader:
            for _, block in reader.blocks("main"):
                verifier.feed(block.envelope, block.payload)
                header = open_envelope(block.envelope, trust(keys))
                listed = decode_catalogue(reader.catalogue(header.catalogue))
                layouts = tuple(decode_layout(reader.layout(one)) for one in listed)
                payload = payload_of(block, header, layouts)
                chain._take(header, payload)
        report = verifier.report()
        assert report.verdict == "complete"
        assert report.evicted == 0
        return chain

    def _take(self, header, payload) -> None:
        self.line.note(header)
        for event in payload.events:
            self.line.note_event(event)
            self.events.append((len(self.headers), event))
        self.headers.append(header)
        self.frames += [(header.boot_id, frame.t_boot_ns) for _, frames in payload.frames for frame in frames]

    def kinds(self) -> list[str]:
        """Give the types of all events, in order."""
        return [event.type for _, event in self.events]


def assert_on_time(chain: Chain) -> None:
    """Every 200 ms by boot time, whatever the wall clock does: none too many, none an hour late."""
    assert [header.boot_ns for header in chain.headers] == sorted(header.boot_ns for header in chain.headers)
    for boot in {boot for boot, _ in chain.frames}:
        times_ns = [t_ns for same, t_ns in chain.frames if same == boot]
        assert len(times_ns) <= (times_ns[-1] - times_ns[0]) / SECOND / EVERY_S + 3
        assert all(0 < after_ns - before_ns < 10 * SECOND for before_ns, after_ns in pairwise(times_ns))


def years(number: int) -> int:
    """Give seconds."""
    return number * 365 * DAY_S


SET_AT = {"1970": -int(time.time()) + 600, "build-time": -years(1), "ten-years-ahead": years(10)}


@pytest.mark.parametrize("by_s", SET_AT.values(), ids=SET_AT.keys())
def test_a_clock_that_boots_wrong_changes_neither_order_nor_pace(tmp_path, by_s):
    """The chain is complete, headers say that the clock is worth nothing, the pollers keep their interval."""
    station = Station(tmp_path)
    station.run(by_s)
    chain = Chain.of(station)
    assert len(chain.frames) >= 3
    assert_on_time(chain)
    assert {header.clock.quality for header in chain.headers} <= {"unknown", "unsynchronised"}
    assert all(abs(header.wall_ns / SECOND - (time.time() + by_s)) < 300 for header in chain.headers)
    assert "clock-stepped" not in chain.kinds()
    assert chain.line.place(*chain.frames[0]) is None


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S, years(50)])
def test_a_step_while_measuring_seals_first_and_nothing_is_early_or_late(tmp_path, by_s):
    """The event says by how much; its block and those before show the clock before, those behind the clock after."""
    station = Station(tmp_path)
    station.start(0)
    time.sleep(1.5)
    station.set_clock(by_s)
    station.seal_more(10)
    station.stop()
    chain = Chain.of(station)
    assert_on_time(chain)
    ((place, event),) = [entry for entry in chain.events if entry[1].type == "clock-stepped"]
    sealed_ns = chain.headers[place].boot_ns
    at = max(place for place, header in enumerate(chain.headers) if header.boot_ns == sealed_ns)
    assert abs(dict(event.data)["by_ns"] / SECOND - by_s) < 2
    shown = [header.wall_ns / SECOND - time.time() for header in chain.headers]
    assert all(abs(offset) < 300 for offset in shown[: at + 1])
    assert shown[at + 1 :]
    assert all(abs(offset - by_s) < 300 for offset in shown[at + 1 :])


def test_three_boots_without_synchronisation_are_placed_by_the_fourth(tmp_path):
    """Readings of the fourth lie within their bound, all others before them, in the order of the chain."""
    station = Station(tmp_path)
    for by_s in (-int(time.time()) + 600, years(10), -years(1)):
        station.run(by_s, seconds=1.0)
    began_ns = time.time_ns()
    station.start(0, leap="Normal")
    station.seal_until_synchronised()
    station.stop()
    ended_ns = time.time_ns()
    chain = Chain.of(station)
    assert_on_time(chain)
    assert "clock-synchronised" in chain.kinds()
    assert len({boot for boot, _ in chain.frames}) == 4
    for boot, boot_ns in chain.frames:
        match chain.line.place(boot, boot_ns):
            case Placed(utc_ns, bound_ns, False):
                assert boot == (4).to_bytes(16, "big")
                assert bound_ns < SECOND
                assert began_ns - bound_ns <= utc_ns <= ended_ns + bound_ns
            case Bracket(None, int(late_ns)):
                assert boot != (4).to_bytes(16, "big")
                assert late_ns <= began_ns + 30 * SECOND
            case other:
                raise AssertionError(other)
