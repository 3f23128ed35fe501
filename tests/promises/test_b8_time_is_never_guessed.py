"""B8: boot time orders everything, wall time is evidence with a quality; a step seals first, nothing is re-stamped."""

import asyncio
import contextlib
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import LAYOUT, Bench, until

from agent.clock import Look, SystemClock
from agent.clock_sources import Evidence
from agent.time_floor import TimeFloor
from agent.timekeeper import ANCHOR_NS, QUIET_NS, Judge, Timekeeper
from buffer.block import ClockQuality, Header, open_envelope, trust
from buffer.frame import Event
from buffer.store import Reader
from buffer.timeline import Placed, Timeline
from buffer.verify import Verifier, payload_of

SECOND = 10**9
HOUR = 3600 * SECOND
WALL = 1_800_000_000 * SECOND
NOBODY = Evidence(ClockQuality("unsynchronised", None, "kernel"))


def good(error_ns: int = 1000) -> Evidence:
    """Give the evidence of a synchronised kernel."""
    return Evidence(ClockQuality("synchronised", error_ns, "kernel"))


def kinds(notices) -> list[str]:
    """Give the types of notices."""
    return [notice.kind for notice in notices]


class Clocks:
    """Clocks that anyone may set, for the rules."""

    def __init__(self, wall_ns: int = WALL) -> None:
        self.boot_ns, self.offset_ns, self.asleep_ns = 10 * SECOND, wall_ns - 10 * SECOND, 0
        self.judge = Judge(self.look())

    def look(self) -> Look:
        """Read them."""
        return Look(self.boot_ns, self.boot_ns - self.asleep_ns, self.boot_ns + self.offset_ns)

    def after(self, elapsed_ns: int, evidence: Evidence) -> list:
        """Let time pass and have it judged."""
        self.boot_ns += elapsed_ns
        return self.judge.look(self.look(), evidence)

    def shown(self) -> tuple[int, ClockQuality]:
        """Give what a header would show now."""
        return self.judge.belief.shown(self.look())


def test_a_clock_is_what_a_source_says_of_it():
    """Anchors at the first synchronisation and every hour; in holdover the error grows by 100 ppm."""
    clocks = Clocks()
    assert clocks.after(5 * SECOND, NOBODY) == []
    assert clocks.shown()[1] == NOBODY.clock
    (first,) = clocks.after(5 * SECOND, good())
    assert (first.kind, first.urgent) == ("clock-synchronised", True)
    assert first.data == {
        "source": "kernel",
        "boot_ns": 20 * SECOND,
        "wall_ns": WALL + 10 * SECOND,
        "max_error_ns": 1000,
    }
    assert clocks.after(ANCHOR_NS - 1, good()) == []
    assert kinds(clocks.after(1, good())) == ["clock-synchronised"]
    (lost,) = clocks.after(100 * SECOND, NOBODY)
    assert (lost.kind, lost.data["max_error_ns"]) == ("clock-lost", 1000 + 10_000_000)
    assert clocks.after(HOUR, NOBODY) == []
    assert clocks.shown()[1] == ClockQuality("holdover", 1000 + (HOUR + 100 * SECOND) // 10_000, "kernel")
    held, again = clocks.after(HOUR, good(5))
    assert (held.kind, held.data["boot_ns"]) == ("clock-held", clocks.boot_ns - HOUR)
    assert held.data["max_error_ns"] == 1000 + (HOUR + 100 * SECOND) // 10_000
    assert (again.kind, again.data["max_error_ns"]) == ("clock-synchronised", 5)


def test_what_a_header_says_grows_while_nobody_looks():
    """By 500 ppm while a daemon keeps the clock."""
    clocks = Clocks()
    clocks.after(0, good(7))
    clocks.boot_ns += 10 * SECOND
    assert clocks.shown() == (WALL + 10 * SECOND, ClockQuality("synchronised", 5_000_007, "kernel"))


@pytest.mark.parametrize("by_ns", [SECOND // 50, 10 * 365 * 24 * HOUR, -SECOND // 50, -WALL])
def test_a_step_in_either_direction_is_told_before_it_is_used(by_ns):
    """Until its event is committed headers carry on the clock before; then they show the new one, without quality."""
    clocks = Clocks()
    clocks.after(0, good(7))
    clocks.offset_ns += by_ns
    assert clocks.shown() == (WALL, ClockQuality("holdover", 7, "kernel"))
    (step,) = clocks.after(5 * SECOND, NOBODY)
    before_ns = WALL - 10 * SECOND
    assert (step.kind, step.urgent) == ("clock-stepped", True)
    assert step.data == {
        "by_ns": by_ns,
        "boot_ns": clocks.boot_ns,
        "before_ns": before_ns,
        "after_ns": before_ns + by_ns,
    }
    assert clocks.after(5 * SECOND, good()) == []
    assert clocks.shown()[0] == WALL + 10 * SECOND
    clocks.judge.accept(clocks.boot_ns)
    assert clocks.shown() == (WALL + 10 * SECOND + by_ns, ClockQuality("unsynchronised", None, "kernel"))
    assert clocks.after(5 * SECOND, NOBODY) == []
    assert kinds(clocks.after(5 * SECOND, good())) == ["clock-synchronised"]


def test_slewing_is_no_step():
    """It moves wall and boot time together; what is left is the blur of reading both."""
    clocks = Clocks()
    clocks.offset_ns += SECOND // 100
    assert clocks.after(5 * SECOND, NOBODY) == []
    clocks.offset_ns += SECOND
    look = clocks.look()._replace(blur_ns=SECOND)
    assert clocks.judge.look(look, NOBODY) == []


def test_a_clock_that_is_set_again_and_again_is_told_once_a_minute():
    """Meanwhile headers carry on the clock before, and the event says the whole way."""
    clocks = Clocks()
    clocks.offset_ns += HOUR
    assert kinds(clocks.after(SECOND, NOBODY)) == ["clock-stepped"]
    clocks.judge.accept(clocks.boot_ns)
    for _ in range(11):
        clocks.offset_ns += HOUR
        assert clocks.after(5 * SECOND, NOBODY) == []
    assert clocks.shown()[0] == WALL + HOUR + SECOND + 55 * SECOND
    (step,) = clocks.after(QUIET_NS - 55 * SECOND, NOBODY)
    assert step.data["by_ns"] == 11 * HOUR


def test_a_suspend_is_told_and_is_no_step():
    """Boot time goes on in suspend, CLOCK_MONOTONIC does not."""
    clocks = Clocks()
    clocks.asleep_ns += HOUR
    (told,) = clocks.after(HOUR + SECOND, NOBODY)
    assert (told.kind, told.data) == ("suspended", {"slept_ns": HOUR, "boot_ns": clocks.boot_ns})
    assert clocks.after(SECOND, NOBODY) == []


def test_what_a_daemon_knew_before_a_step_says_nothing_of_the_clock_after_it():
    """Neither forward nor back; an answer taken since is believed."""
    for by_ns in (HOUR, -HOUR):
        clocks = Clocks()
        stale = Evidence(ClockQuality("synchronised", 5, "timesyncd"), WALL)
        assert kinds(clocks.after(0, stale)) == ["clock-synchronised"]
        clocks.offset_ns += by_ns
        clocks.after(5 * SECOND, stale)
        clocks.judge.accept(clocks.boot_ns)
        assert clocks.after(5 * SECOND, stale) == []
        assert clocks.shown()[1] == ClockQuality("unsynchronised", None, "timesyncd")
        fresh = stale._replace(taken_wall_ns=clocks.look().wall_ns)
        assert kinds(clocks.after(5 * SECOND, fresh)) == ["clock-synchronised"]


def test_a_clock_of_which_nobody_knows_is_unknown():
    """Also after it was set."""
    clocks = Clocks()
    nobody = Evidence(ClockQuality("unknown", None, "none"))
    clocks.offset_ns += HOUR
    assert kinds(clocks.after(SECOND, nobody)) == ["clock-stepped"]
    clocks.judge.accept(clocks.boot_ns)
    assert clocks.shown()[1].quality == "unknown"


WORLD = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 20_000)),
        st.tuples(st.just("set"), st.integers(-(10**18), 10**18)),
        st.tuples(st.just("sync"), st.integers(-(10**9), 10**9)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("suspend"), st.integers(1, 20_000)),
        st.tuples(st.just("boot"), st.integers(0, 10**6)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(WORLD)
def test_whatever_happens_to_the_clock_every_placed_reading_lies_within_its_bound(actions):
    """The rules, the headers and the timeline together: order stays, honest sources place within the stated bound."""
    clocks, line, boot = Clocks(), Timeline(), 1
    true_ns, evidence, moments = WALL + 12345, NOBODY, []
    for seq, (action, amount) in enumerate([*actions, ("run", 1)], 1):
        match action:
            case "set":
                clocks.offset_ns += amount
                evidence = NOBODY
            case "sync":
                clocks.offset_ns = true_ns + amount - clocks.boot_ns
                evidence = good(abs(amount))
            case "lose":
                evidence = NOBODY
            case "run" | "suspend":
                clocks.asleep_ns += amount * SECOND if action == "suspend" else 0
                clocks.boot_ns += amount * SECOND
                true_ns += amount * SECOND + amount * SECOND // 20_000
                if evidence.clock.max_error_ns is not None:
                    drifted = clocks.offset_ns + clocks.boot_ns - true_ns
                    evidence = good(abs(drifted))
            case "boot":
                true_ns += amount * SECOND
                clocks, boot, evidence = Clocks(0), boot + 1, NOBODY
        notices = clocks.judge.look(clocks.look(), evidence)
        wall_ns, quality = clocks.shown()
        line.note(_header(seq, boot, clocks.boot_ns, wall_ns, quality))
        for notice in notices:
            line.note_event(Event(notice.kind, clocks.boot_ns, b"I" * 8, tuple(notice.data.items())))
        if clocks.judge.pending:
            clocks.judge.accept(clocks.boot_ns)
        moments.append((boot, clocks.boot_ns, true_ns))
    assert all(one <= other for one, other in pairwise(moments)), "boot and boot time order as true time does"
    for boot, boot_ns, true_ns in moments:
        placed = line.place(bytes([boot]) * 16, boot_ns)
        if isinstance(placed, Placed):
            assert not placed.disputed
            assert abs(placed.utc_ns - true_ns) <= placed.bound_ns
        elif placed is not None:
            assert placed.not_before_ns is None or placed.not_before_ns <= true_ns
            assert placed.not_after_ns is None or true_ns <= placed.not_after_ns


def _header(seq: int, boot: int, boot_ns: int, wall_ns: int, clock: ClockQuality) -> Header:
    return Header(
        gateway="g",
        stream="s",
        epoch=bytes(8),
        seq=seq,
        prev=None,
        kind=0,
        flags=0,
        payload_digest=bytes(32),
        payload_length=0,
        raw_length=0,
        codec=0,
        boot_id=bytes([boot]) * 16,
        boot_ns=boot_ns,
        wall_ns=wall_ns,
        clock=clock,
        interval=None,
        frames=0,
        readings=0,
        totals=(0, 0, 0),  # type: ignore[arg-type]
        catalogue=bytes(32),
    )


class SetClock(SystemClock):
    """The clocks of this machine; the wall clock as someone set it."""

    by_ns = 0

    def look(self) -> Look:
        """Read them."""
        look = super().look()
        return look._replace(wall_ns=look.wall_ns + self.by_ns)


async def test_a_step_seals_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block with the event, and all before it, show the clock before; the next ones the clock after."""
    monkeypatch.setattr("agent.timekeeper.LOOK_S", 0.05)
    bench = Bench(tmp_path / "buffer.db", seal_every_s=0.02)
    bench.clock = clock = SetClock({})
    bench.keeper._moment = clock.moment
    keeper = Timekeeper(clock, bench.recorder, floor(tmp_path), quick=lambda _: NOBODY, thorough=lambda: None)
    began_ns = time.time_ns()
    async with bench:
        keeping = asyncio.create_task(keeper.run())
        await bench.sealed(1)
        clock.by_ns = -1_000_000 * SECOND
        for number in range(2, 12):
            await bench.sealed(number)
        await until(lambda: not keeper._judge.pending and keeper._judge._accepted_ns > 0)
        await bench.sealed(12)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    found = [(header, payload) for header, payload in blocks(bench) if header.stream == "main"]
    step = next(at for at, (_, payload) in enumerate(found) if "clock-stepped" in [one.type for one in payload.events])
    assert all(header.wall_ns >= began_ns for header, _ in found[: step + 1])
    assert found[-1][0].wall_ns < began_ns - 900_000 * SECOND
    order = [header.boot_ns for header, _ in found]
    assert order == sorted(order)
    verifier = Verifier([bench.key.public_key])
    with Reader(tmp_path / "buffer.db") as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    assert verifier.report().verdict == "complete"


def floor(tmp_path: Path) -> TimeFloor:
    """Give a floor beside the buffer."""
    return TimeFloor(tmp_path / "clock.floor", 0)


def blocks(bench: Bench):
    """Open every committed block."""
    for kept in bench.committed:
        header = open_envelope(kept.block.envelope, trust([bench.key.public_key]))
        yield header, payload_of(kept.block, header, (LAYOUT,) if kept.stream == "main" else ())


async def test_daemons_are_asked_where_the_kernel_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more than once a minute; what they said grows older meanwhile. The floor is kept when the task ends."""
    monkeypatch.setattr("agent.timekeeper.LOOK_S", 0.01)
    asked: list[int] = []
    silent = Evidence(ClockQuality("unknown", None, "none"))

    def ask() -> Evidence:
        asked.append(1)
        return Evidence(ClockQuality("synchronised", 5000, "chrony"))

    async with Bench(tmp_path / "buffer.db") as bench:
        keeper = Timekeeper(bench.clock, bench.recorder, floor(tmp_path), quick=lambda _: silent, thorough=ask)
        keeping = asyncio.create_task(keeper.run())
        await until(lambda: bench.clock.belief.clock.quality == "synchronised")
        await asyncio.sleep(0.1)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert asked == [1]
    assert bench.clock.belief.clock.source == "chrony"
    assert bench.clock.belief.clock.max_error_ns > 5000
    events = [event.type for _, payload in blocks(bench) for event in payload.events]
    assert events.count("clock-synchronised") == 2, "once in each stream"


@pytest.mark.parametrize("told", ["unsynchronised", "unknown"])
async def test_where_nobody_is_synchronised_whoever_answers_is_the_source(tmp_path: Path, told: str) -> None:
    """The kernel first."""
    daemon = Evidence(ClockQuality("unsynchronised", None, "chrony"))
    kernel = Evidence(ClockQuality(told, None, "kernel"))
    async with Bench(tmp_path / "buffer.db") as bench:
        keeper = Timekeeper(
            bench.clock, bench.recorder, floor(tmp_path), quick=lambda _: kernel, thorough=lambda: daemon
        )
        await keeper._ask()
        keeper.look()
        assert bench.clock.belief.clock == (kernel if told == "unsynchronised" else daemon).clock
        keeper._quick = lambda _: good()
        await keeper._ask()
        keeper._asked = None
        await keeper._ask()
        assert keeper._asked is None


async def test_only_the_commit_of_its_event_ends_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of what was gathered before it. The floor is written while the task runs."""
    monkeypatch.setattr("agent.timekeeper.LOOK_S", 0.01)
    async with Bench(tmp_path / "buffer.db", seal_every_s=0.02) as bench:
        clock = SetClock({})
        below = floor(tmp_path)
        keeper = Timekeeper(clock, bench.recorder, below, quick=lambda _: NOBODY, thorough=lambda: None)
        await bench.sealed(1)
        earlier = bench.committed[-1:]
        clock.by_ns = HOUR
        keeper.look()
        assert keeper._judge.pending
        keeper._committed(earlier)
        assert keeper._judge.pending
        await until(lambda: not keeper._judge.pending)
        assert clock.moment().wall_ns - time.time_ns() > HOUR // 2
        below._floor_ns = WALL
        keeping = asyncio.create_task(keeper.run())
        await until((tmp_path / "clock.floor").exists)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


def test_the_clocks_are_read_close_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that was interrupted is made again; of three bad ones the best counts."""
    clock = SystemClock({})
    boot = iter([0, 10**9, 10**9, 10**9 + 10**6, 2 * 10**9, 3 * 10**9])
    monkeypatch.setattr(clock, "boot_ns", lambda: next(boot))
    assert clock.look().blur_ns == 10**6
    boot = iter([0, 10**9, 10**9, 10**9])
    assert clock.look().blur_ns == 0
