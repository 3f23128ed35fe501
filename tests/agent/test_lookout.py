"""How an uplink stands: what waits, how old it is and who says so, a day of bytes, the days of a certificate."""

import asyncio
from pathlib import Path

import pytest
from carrying import carrying, delivered, filled
from hostile import Hostile
from rig import Bench, Platform, until

from agent.certificate import expires_ns
from agent.health import UplinkHealth
from agent.lookout import Lookout, spread
from agent.recorder import Recorder
from agent.standing import DAY_NS, SLICE_NS, Day
from buffer.block import ClockQuality
from buffer.errors import BufferUnreadable
from buffer.intervals import Intervals

SECOND = 10**9
SYNCHRONISED = ClockQuality("synchronised", 1_000_000, "ntp")
UNSYNCHRONISED = ClockQuality("unsynchronised", None, "none")


def set_clock(bench: Bench, clock: ClockQuality, *, boot: bytes | None = None, later_ns: int = 0) -> None:
    """Let the station seal and look with this clock."""
    true = bench.clock.moment()

    def moment() -> object:
        now = bench.clock.moment()
        return now._replace(
            boot_id=boot or true.boot_id, boot_ns=now.boot_ns + later_ns, wall_ns=now.wall_ns + later_ns, clock=clock
        )

    bench.keeper._moment = moment  # type: ignore[assignment]


def lookout(bench: Bench) -> tuple[Lookout, UplinkHealth]:
    """Give a lookout over what the bench holds."""
    health = UplinkHealth(("main",))
    return Lookout("province", bench.recorder, health), health


async def test_the_backlog_is_told_in_bytes_and_by_its_oldest_block(tmp_path: Path) -> None:
    """In the present boot the age is exact; what was acknowledged counts no more."""
    async with Bench(tmp_path / "buffer.db") as bench:
        await filled(bench)
        watch, health = lookout(bench)
        blocks = [kept for kept in bench.committed if kept.stream == "main"]
        set_clock(bench, UNSYNCHRONISED, later_ns=100 * SECOND)
        await watch.look()
        assert health.standing.backlog_bytes == sum(kept.block.size for kept in blocks)
        oldest = health.standing.oldest
        assert oldest is not None
        assert (oldest.stream, oldest.seq, oldest.by) == ("main", 1, "boot")
        assert oldest.age_s is not None
        assert 100 <= oldest.age_s < 130
        bench.recorder.settle_range("province", "main", 1, 3)
        await watch.look()
        assert health.standing.backlog_bytes == sum(kept.block.size for kept in blocks[3:])
        assert health.standing.oldest is not None
        assert health.standing.oldest.seq == 4
        bench.recorder.settle_range("province", "main", 4, bench.recorder.head("main"))
        await watch.look()
        assert (health.standing.backlog_bytes, health.standing.oldest) == (0, None)


@pytest.mark.parametrize(
    ("sealed_by", "asked_by", "by"),
    [
        (SYNCHRONISED, SYNCHRONISED, "wall"),
        (UNSYNCHRONISED, SYNCHRONISED, None),
        (SYNCHRONISED, UNSYNCHRONISED, None),
        (SYNCHRONISED, ClockQuality("holdover", 5, "ntp"), "wall"),
    ],
)
async def test_a_block_of_another_boot_is_as_old_as_both_wall_clocks_say(
    tmp_path: Path, sealed_by: ClockQuality, asked_by: ClockQuality, by: str | None
) -> None:
    """And of unknown age where one of them was worth nothing."""
    async with Bench(tmp_path / "buffer.db") as bench:
        set_clock(bench, sealed_by)
        await bench.sealed(1)
        watch, health = lookout(bench)
        set_clock(bench, asked_by, boot=b"another boot id!", later_ns=50 * SECOND)
        await watch.look()
        oldest = health.standing.oldest
        assert oldest is not None
        assert oldest.by == by
        assert (oldest.age_s is None) == (by is None)
        assert by is None or 50 <= (oldest.age_s or 0) < 80


async def test_a_long_backlog_is_told_from_a_few_of_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits, a look reads a bounded number; and none that is still in memory."""
    asked: list[int] = []
    read = Recorder.read

    async def counted(self: Recorder, stream: str, first: int, last: int, max_bytes: int) -> object:
        asked.append(first)
        return await read(self, stream, first, last, max_bytes)

    monkeypatch.setattr(Recorder, "read", counted)
    async with Bench(tmp_path / "buffer.db") as bench:
        for number in range(1, 41):
            await bench.sealed(number)
        watch, health = lookout(bench)
        await watch.look()
        assert asked == []
        bench.recorder._recent.clear()
        await watch.look()
        assert len(asked) == 16
        assert asked[0] == 1
        total = sum(kept.block.size for kept in bench.committed if kept.stream == "main")
        assert 0.5 * total < health.standing.backlog_bytes < 2 * total


async def test_what_cannot_be_read_now_leaves_the_last_look_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is away for a moment: the lookout goes on."""
    monkeypatch.setattr("agent.lookout.LOOK_EVERY_S", 0.01)
    async with Bench(tmp_path / "buffer.db") as bench:
        await filled(bench)
        watch, health = lookout(bench)
        looking = asyncio.create_task(watch.run())
        await until(lambda: health.standing.oldest is not None)
        before, read = health.standing, bench.keeper.read
        failed = 0

        def broken(*_: object) -> None:
            nonlocal failed
            failed += 1
            raise BufferUnreadable(path="x", reason="away")

        bench.recorder._recent.clear()
        bench.keeper.read = broken  # type: ignore[assignment, method-assign]
        await until(lambda: failed > 3)
        assert health.standing.oldest is not None
        assert before.oldest is not None
        assert health.standing.oldest.seq == before.oldest.seq
        bench.keeper.read = read  # type: ignore[method-assign]
        bench.recorder.settle_range("province", "main", 1, bench.recorder.head("main"))
        await until(lambda: health.standing.oldest is None)
        looking.cancel()
        await asyncio.wait([looking])


async def test_an_uplink_looks_while_there_is_no_session(tmp_path: Path) -> None:
    """What waits is known when it is needed most: while the platform cannot be reached."""
    async with Bench(tmp_path / "buffer.db") as bench:
        await bench.sealed(1)
        async with Hostile() as broker:
            port = broker.port
        gone = Hostile(port=port)
        async with carrying(bench, gone) as health:
            await until(lambda: health.standing.oldest is not None)
            assert not health.connected
            async with gone:
                await delivered(health)


async def test_the_days_of_a_certificate_are_counted_by_a_clock_that_is_known(
    tmp_path: Path, platform: Platform
) -> None:
    """Else only its end is told; a file that cannot be read tells nothing."""
    cert = platform.endpoint("station-1").cert
    async with Bench(tmp_path / "buffer.db") as bench:
        watch, health = lookout(bench)
        watch.certificate(cert)
        set_clock(bench, UNSYNCHRONISED)
        await watch.look()
        assert health.standing.certificate_days is None
        assert health.standing.document()["certificate_until"].endswith("Z")
        set_clock(bench, SYNCHRONISED)
        await watch.look()
        assert health.standing.certificate_days == 0, "those of these tests last a day"
        set_clock(bench, SYNCHRONISED, later_ns=3 * DAY_NS)
        await watch.look()
        assert health.standing.certificate_days == -3
        for nothing in (None, str(tmp_path / "missing.pem"), str(tmp_path / "device.key")):
            watch.certificate(nothing)
            await watch.look()
            assert (health.standing.certificate_until_ns, health.standing.certificate_days) == (None, None)
    assert cert is not None
    assert expires_ns(cert) is not None


def test_a_day_is_of_running_time_and_forgets_by_slices() -> None:
    """A steady sender has sent a day's worth, however long it runs."""
    day = Day()
    a_slice = 1000
    for number in range(500):
        told = day.grown(number * SLICE_NS, number * a_slice)
        if number <= 96:
            assert told == number * a_slice
        else:
            assert 96 * a_slice <= told <= 97 * a_slice
    assert day.grown(500 * SLICE_NS + 10 * DAY_NS, 499 * a_slice) == 0
    assert len(day._slices) < 100


def test_samples_lie_evenly_and_begin_with_the_first() -> None:
    """Over holes too."""
    assert spread(Intervals([(5, 5), (8, 10)]), 16) == [5, 8, 9, 10]
    assert spread(Intervals([(1, 100)]), 4) == [1, 26, 51, 76]
    assert spread(Intervals([(1, 50), (951, 1000)]), 4) == [1, 26, 951, 976]
    assert spread(Intervals(), 4) == []
