"""Formats that need time wait for it, and never guess it (B8)."""

import asyncio
from pathlib import Path

import pytest
from chains import SECOND, WALL
from golden import BOOT, SYNCHRONISED, UNSYNCHRONISED, Nowhen, data_block, opener, station, told
from rig import SIDE_GROUP, Bench, until
from settings import uplink_of

from agent.formats import make
from agent.formats.api import Hold, Skip
from agent.formats.placing import ChainPlacer
from buffer.block import ClockQuality

TIMED = {"topic": "a", "payload": "{{ utc_ms }} {{ bound_us }}"}
UNTIMED = {"topic": "a", "payload": "{{ boot_us }}"}
NEEDY = [{"format": "thingsboard"}, {"format": "template", "template": TIMED}]
CONTENT = [{"format": "json"}, {"format": "template", "template": UNTIMED}]


def answer(placer: Nowhen, **uplink: object):
    """Ask a format about a block whose clock was not synchronised."""
    made = make(station(), uplink_of(url="mqtt://h", **uplink))
    return made.converse().messages(opener(placer=placer).open(data_block(UNSYNCHRONISED)))


@pytest.mark.parametrize("uplink", NEEDY)
def test_a_block_waits_while_its_boot_may_still_be_synchronised(uplink: dict) -> None:
    """Held, with what must become known."""
    assert answer(Nowhen(), **uplink) == Hold(BOOT, 105 * SECOND)


@pytest.mark.parametrize("uplink", NEEDY)
def test_a_block_of_a_boot_that_ended_without_is_skipped_as_untimed(uplink: dict) -> None:
    """Not now and not later, but it can be sent again."""
    assert answer(Nowhen(BOOT), **uplink) == Skip("untimed")


@pytest.mark.parametrize("uplink", NEEDY)
def test_a_block_is_told_once_its_time_became_known(uplink: dict) -> None:
    """Even of a boot that has ended."""
    messages = list(answer(Nowhen(BOOT, known={BOOT: WALL}), **uplink))
    assert any(str((WALL + 102 * SECOND) // 10**6).encode() in one.payload for one in messages)


@pytest.mark.parametrize("uplink", CONTENT)
def test_a_format_that_is_content_with_boot_time_waits_for_nothing(uplink: dict) -> None:
    """Boot times are there and order everything."""
    assert list(answer(Nowhen(), **uplink))


def test_a_synchronised_block_is_told_alike_whatever_the_placer_knows_by_now() -> None:
    """So that a repeat is a repeat: time is taken from the block's own header."""
    uplink = uplink_of(url="mqtt://h", format="thingsboard")
    one, other = (
        told(make(station(), uplink).converse(), data_block(), placer=placer)
        for placer in (Nowhen(), Nowhen(known={BOOT: WALL + 500 * SECOND}))
    )
    assert one == other


async def test_moments_are_placed_by_what_the_chains_say(tmp_path: Path) -> None:
    """From what was stored before the start, and from each commit; a boot is final once all of it was read."""
    path = tmp_path / "buffer.db"
    async with Bench(path) as bench:
        clock_says(bench, UNSYNCHRONISED)
        await bench.sealed(1)
    async with Bench(path) as bench:
        clock_says(bench, UNSYNCHRONISED)
        placer, boot_id = ChainPlacer(b"C" * 16), bench.clock.boot_id
        await bench.sealed(2)
        assert not placer.final(boot_id)
        await placer.run(bench.recorder, ("main", "side"))
        assert placer.final(boot_id)
        assert not placer.final(b"C" * 16)
        assert placer.place(boot_id, bench.clock.boot_ns()) is None
        clock_says(bench, SYNCHRONISED)
        await bench.sealed(3, group=SIDE_GROUP)
        moment = bench.clock.moment()
        placed = placer.place(boot_id, moment.boot_ns - 3600 * SECOND)
        assert placed is not None
        utc_ns, bound_ns = placed
        assert abs(utc_ns - (moment.wall_ns - 3600 * SECOND)) < SECOND
        assert 360_000_000 <= bound_ns <= 400_000_000
        assert placer.place(b"D" * 16, 1) is None


async def test_a_clock_event_places_a_boot_before_the_next_header_does(tmp_path: Path) -> None:
    """`clock-synchronised` in the logbook is an anchor."""
    async with Bench(tmp_path / "buffer.db") as bench:
        clock_says(bench, UNSYNCHRONISED)
        placer = ChainPlacer(bench.clock.boot_id)
        await placer.run(bench.recorder, ("main", "side"))
        bench.recorder.event("clock-synchronised", source="x", boot_ns=5, wall_ns=WALL + 5, max_error_ns=7, urgent=True)
        await until(lambda: placer.place(bench.clock.boot_id, 5) is not None)
        assert placer.place(bench.clock.boot_id, 5) == (WALL + 5, 7)


async def test_a_store_that_cannot_be_read_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And until then nothing is final."""
    monkeypatch.setattr("agent.formats.placing.UNREADABLE_PAUSE_S", 0.1)
    async with Bench(tmp_path / "buffer.db", seal_every_s=60) as bench:
        await bench.sealed(1)
        await bench.owner.call(bench.keeper._file.store._db.close)
        placer = ChainPlacer(b"C" * 16)
        task = asyncio.create_task(placer.run(bench.recorder, ("main", "side")))
        await asyncio.sleep(0.3)
        assert not placer.final(b"D" * 16)
        bench.add(2)
        bench.recorder._urgent.set()
        await asyncio.wait_for(task, 60)
        assert placer.final(b"D" * 16)


def clock_says(bench: Bench, quality: ClockQuality) -> None:
    """Let the station believe this of its wall clock."""
    true = bench.clock.moment
    bench.keeper._moment = lambda: true()._replace(clock=quality)
