"""Formats that need time wait for it, and never guess it (B8)."""

from dataclasses import replace

import pytest
from chains import SECOND, WALL
from golden import BOOT, UNSYNCHRONISED, Nowhen, data_block, opener, station, told
from rig import Bench

from agent.formats import make
from agent.formats.api import Hold, Skip, drift_ns
from agent.formats.placing import APART_NS, MOST_BOOTS, HeaderPlacer
from buffer.block import ClockQuality, Header, read_header
from config.model import Uplink

TIMED = {"topic": "a", "payload": "{{ utc_ms }} {{ bound_us }}"}
UNTIMED = {"topic": "a", "payload": "{{ boot_us }}"}
NEEDY = [{"format": "thingsboard"}, {"format": "template", "template": TIMED}]
CONTENT = [{"format": "json"}, {"format": "template", "template": UNTIMED}]


def answer(placer: Nowhen, **uplink: object):
    """Ask a format about a block whose clock was not synchronised."""
    made = make(station(), Uplink(url="mqtt://h", **uplink))
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
    uplink = Uplink(url="mqtt://h", format="thingsboard")
    one, other = (
        told(make(station(), uplink).converse(), data_block(), placer=placer)
        for placer in (Nowhen(), Nowhen(known={BOOT: WALL + 500 * SECOND}))
    )
    assert one == other


def header(second: int, clock: ClockQuality, boot_id: bytes = BOOT) -> Header:
    """Give a header sealed so many seconds after boot, with a wall clock one second ahead."""
    plain = read_header(data_block().block.envelope)
    return replace(plain, boot_id=boot_id, boot_ns=second * SECOND, wall_ns=WALL + (second + 1) * SECOND, clock=clock)


GOOD = ClockQuality("synchronised", 5_000_000, "ntp")


def test_a_moment_is_placed_from_a_synchronised_header_with_an_honest_bound() -> None:
    """The anchor's error and 100 ppm of the distance, forwards and backwards."""
    placer = HeaderPlacer(BOOT)
    placer.learn(header(50, ClockQuality("unsynchronised", None, "kernel")))
    placer.learn(header(60, ClockQuality("holdover", 5, "kernel")))
    assert placer.place(BOOT, 50 * SECOND) is None
    placer.learn(header(1000, GOOD))
    assert placer.place(BOOT, 1010 * SECOND) == (WALL + 1011 * SECOND, 5_000_000 + 1_000_000)
    assert placer.place(BOOT, 900 * SECOND) == (WALL + 901 * SECOND, 5_000_000 + 10_000_000)
    assert placer.place(b"C" * 16, 900 * SECOND) is None
    assert drift_ns(1) == 1


def test_the_anchor_that_bounds_best_is_taken_and_memory_is_bounded() -> None:
    """One a minute, in whatever order they come; the oldest boots go first."""
    placer = HeaderPlacer(BOOT)
    for second in (600, 300, 601, 630, 2000):
        placer.learn(header(second, GOOD))
    apart_s = APART_NS // SECOND
    assert [anchor[0] // SECOND for anchor in placer._anchors[BOOT]] == [300, 600, 2000]
    assert apart_s == 60
    assert placer.place(BOOT, 590 * SECOND) == (WALL + 591 * SECOND, 5_000_000 + 1_000_000)
    assert placer.place(BOOT, 310 * SECOND) == (WALL + 311 * SECOND, 5_000_000 + 1_000_000)
    for number in range(MOST_BOOTS):
        placer.learn(header(1, GOOD, bytes([number]) * 16))
    assert placer.place(BOOT, SECOND) is None


async def test_a_boot_is_final_when_it_has_ended_and_all_of_it_was_read(tmp_path) -> None:
    """Before that nobody may say that its time will never be known; the present boot never is."""
    async with Bench(tmp_path / "buffer.db") as bench:
        placer = HeaderPlacer(bench.clock.boot_id)
        for number in (1, 2, 3):
            await bench.sealed(number)
        assert not placer.final(BOOT)
        await placer.run(bench.recorder, ("main", "side"))
        assert placer.final(BOOT)
        assert not placer.final(bench.clock.boot_id)
        quality = bench.clock.moment().clock.quality
        placed = placer.place(bench.clock.boot_id, bench.clock.boot_ns())
        assert (placed is not None) == (quality == "synchronised")
        assert bench.recorder.listeners[0] == placer.committed
