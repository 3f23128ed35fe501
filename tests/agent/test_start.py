"""Where a new uplink begins."""

from pathlib import Path

import pytest
from rig import Bench, until

from agent import start as starting
from agent.start import Start
from buffer.block import ClockQuality


async def test_a_day_is_judged_by_the_headers_and_blocks_of_unknown_time_are_sent_rather_than_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending begins behind the last block that is known to be older."""
    async with Bench(tmp_path / "buffer.db") as bench:
        plain = bench.clock.moment
        times = iter([(1_000, "synchronised"), (5, "unknown"), (2_000, "holdover"), (7, "unknown"), (9_000, "unknown")])
        now = [0, "synchronised"]
        bench.keeper._moment = lambda: plain()._replace(wall_ns=now[0], clock=ClockQuality(now[1], None, ""))
        await until(lambda: bench.recorder.head("main") > 0)
        first = bench.recorder.head("main")
        for number, (wall_ns, quality) in enumerate(times, 1):
            now[:] = [wall_ns, quality]
            await bench.sealed(number)
        head = bench.recorder.head("main")
        assert head == first + 5
        for wall_ns, skipped in ((3_000, first + 3), (1_500, first + 1), (0, 0), (2_000, first + 1)):
            assert await starting.skipped(Start(wall_ns=wall_ns), "main", head, bench.recorder.read) == skipped
        monkeypatch.setattr(starting, "READ_BLOCKS", 2)
        assert await starting.skipped(Start(wall_ns=1_500), "main", head, bench.recorder.read) == first + 1
        assert await starting.skipped(Start(now=True), "main", head, bench.recorder.read) == head
