"""Long gaps: where many blocks are missing in a row, what stands behind them is found and sent all the same."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from carrying import carrying
from hostile import Hostile
from rig import LAYOUT, Bench, numbers_in, until

from agent.carrier import READ_BLOCKS
from agent.formats.placing import ChainPlacer
from agent.lanes import Lanes
from agent.seek import block_of
from agent.start import Start, skipped
from buffer.block import decode_block, read_header
from buffer.intervals import Intervals

GONE = 2 * READ_BLOCKS + 6
LAST = GONE + 6


async def with_gap(bench: Bench) -> None:
    """Commit blocks, and take many in a row away, as a long time without a disk does."""
    for number in range(1, LAST + 1):
        bench.add(number)
        await one_more(bench, bench.recorder.head("main"))
    with sqlite3.connect(bench.path) as db:
        db.execute("DELETE FROM block_1 WHERE position > 2 AND position <= ?", (2 + GONE,))
    db.close()
    bench.recorder._recent.clear()


async def one_more(bench: Bench, head: int) -> None:
    """Wait until a block is committed."""
    await until(lambda: bench.recorder.head("main") > head)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_what_stands_behind_a_long_gap_is_sent(tmp_path: Path, newest_first: bool) -> None:
    """Nothing is sealed meanwhile that could wake anybody; what is not there is counted for its reason."""
    async with Bench(tmp_path / "buffer.db", seal_every_s=0.01) as bench, Hostile() as broker:
        await with_gap(bench)
        async with carrying(bench, broker, newest_first=newest_first) as health:
            await until(lambda: LAST in arrived(broker, bench) and 1 in arrived(broker, bench))
            await until(lambda: health.lost == {"damaged": GONE})


def arrived(broker: Hostile, bench: Bench) -> list[int]:
    """Give the numbers in the blocks that arrived."""
    blocks = tuple(map(decode_block, broker.blocks().values()))
    return [number for block in blocks for number in numbers_in(block, LAYOUT, bench.key.public_key)]


async def test_what_is_looked_for_behind_a_long_gap_is_found(tmp_path: Path) -> None:
    """By its number, by its day, and by who reads all of it to place moments in time."""
    async with Bench(tmp_path / "buffer.db", seal_every_s=0.01) as bench:
        await with_gap(bench)
        read, head = bench.recorder.read, bench.recorder.head("main")
        for seq in (1, 2, GONE + 3, head):
            kept = await block_of(read, "main", head, seq)
            assert kept is not None
            assert read_header(kept.block.envelope).seq == seq
        assert await block_of(read, "main", head, 9) is None
        first = read_header(bench.committed[0].block.envelope).wall_ns
        assert await skipped(Start(wall_ns=first - 1), "main", head, read) == 0
        placer = ChainPlacer(bytes(16))
        await asyncio.wait_for(placer.run(bench.recorder, ("main",)), 60)
        assert placer.final(bench.clock.boot_id)


@pytest.mark.parametrize("reach", [1, 10])
async def test_reading_all_ends_whatever_stands_there_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    """A reading that lies within the gap gives nothing at all; so does one of an end that is gone."""
    monkeypatch.setattr("agent.formats.placing.READ_BLOCKS", reach)
    async with Bench(tmp_path / "buffer.db", seal_every_s=0.01) as bench:
        await with_gap(bench)
        with sqlite3.connect(bench.path) as db:
            db.execute("DELETE FROM block_1 WHERE position > ?", (LAST,))
        db.close()
        await asyncio.wait_for(ChainPlacer(bytes(16)).run(bench.recorder, ("main",)), 60)


def test_blocks_that_nobody_told_of_are_pending_once_a_later_one_is_told() -> None:
    """An uplink that comes while blocks are sealed in memory hears of the next one only."""
    lanes = Lanes({"main": (Intervals([(0, 3)]), 3)})
    assert lanes.take_backlog(32) is None
    lanes.committed("main", 6, fresh=True)
    assert lanes.take_backlog(32) == ("main", range(4, 6))
    assert lanes.take_fresh() == ("main", 6)
    assert lanes.take_backlog(32) is None
