"""B3: an uplink sees committed blocks only; what could not be committed is kept and sealed again in a new epoch."""

import contextlib
from pathlib import Path

import pytest
from rig import Bench, until

from agent.keeper import Kept
from buffer.store import Reader
from buffer.verify import Verifier


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the buffer is."""
    return tmp_path / "buffer.db"


def stored(path: Path, stream: str = "main") -> list[bytes]:
    """Read, as another process would, the digests that are committed."""
    with contextlib.closing(Reader(path)) as reader:
        return [block.digest for _, block in reader.blocks(stream)]


async def test_when_an_uplink_hears_of_a_block_another_process_can_read_it(path: Path) -> None:
    """The announcement comes after the commit."""
    seen: list[bool] = []

    def check(kept: list[Kept]) -> None:
        seen.extend(one.block.digest in stored(path, one.stream) for one in kept)

    async with Bench(path) as bench:
        bench.recorder.listeners.append(check)
        await bench.sealed(1, 2, 3)
    assert seen
    assert all(seen)


async def test_what_cannot_be_committed_is_not_announced_and_not_lost(path: Path) -> None:
    """A full store: nothing is announced meanwhile, everything after it has healed, and a new epoch says so."""
    async with Bench(path) as bench:
        await bench.sealed(1)
        first_epoch = bench.recorder.epoch
        await bench.owner.call(lambda: bench.keeper._store._db.execute("PRAGMA max_page_count = 1"))
        announced = len(bench.committed)
        bench.add(*range(2, 2000))
        await until(lambda: bench.health.buffer_error is not None)
        assert len(bench.committed) == announced
        await until(lambda: 1999 in bench.numbers())
        assert bench.health.buffer_error is None
        assert bench.recorder.epoch != first_epoch
    assert bench.numbers() == list(range(1, 2000))
    verifier = Verifier([bench.key.public_key])
    with contextlib.closing(Reader(path)) as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    assert report.verdict == "complete"
    assert len(report.epochs) == 2


async def test_while_too_much_waits_for_a_commit_the_pollers_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by making room a condition, not by dropping."""
    monkeypatch.setattr("agent.recorder.ROOM_READINGS", 100)
    async with Bench(path, seal_every_s=30) as bench:
        await until(lambda: bool(bench.committed))
        bench.add(*range(60))
        assert not bench.recorder._roomy.is_set()
        bench.recorder._urgent.set()
        await bench.recorder.room()
    assert sorted(bench.numbers()) == list(range(60))
