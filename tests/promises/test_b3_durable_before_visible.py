"""B3: an uplink sees committed blocks only, committed with `synchronous=FULL`; what fails is sealed in a new epoch."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from chains import Station, key
from rig import Bench, until

from agent.kept import Kept
from buffer.block import FLAG_VOLATILE, read_header
from buffer.errors import CommitFailed
from buffer.intervals import Intervals
from buffer.store import Reader, Store
from buffer.verify import Verifier

TRUSTED = [key().public_key]
ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from chains import Station, key
from buffer.store import Store
store = Store.open(Path({path!r}), [key().public_key])
station = Station(epoch=store.epoch, heads=store.heads())
for _ in range(5):
    store.append([station.seal()])
print(store.counts("main").sealed, flush=True)
store._db.execute("BEGIN IMMEDIATE")
for one in range(50):
    store._insert(station.seal())
    store._heads = station.heads
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_every_commit_reaches_the_disk_before_append_returns(tmp_path):
    """FULL, on the connection that writes, whatever the file was made with."""
    path = tmp_path / "buffer.db"
    for _ in range(2):
        with Store.open(path, TRUSTED) as store:
            assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
            assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
def test_append_waits_for_the_disk(tmp_path):
    """One synchronisation a commit at least, as the operating system sees it."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from pathlib import Path\nfrom chains import Station, key\nfrom buffer.store import Store\n"
        f"store = Store.open(Path({str(tmp_path / 'buffer.db')!r}), [key().public_key])\n"
        "station = Station(epoch=store.epoch, heads=store.heads())\n"
        "for _ in range(20):\n    store.append([station.seal()])\n"
    )
    command = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", sys.executable, "-c", script]
    traced = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    calls = [int(line.split()[3]) for line in traced.stderr.splitlines() if line.strip().endswith("sync")]
    assert sum(calls) >= 20, traced.stderr


def test_what_is_not_committed_is_not_visible(tmp_path):
    """Neither to a reader beside the service, nor after a kill in the middle of a commit."""
    path = tmp_path / "buffer.db"
    script = KILLED.format(tests=str(ROOT / "tests"), path=str(path))
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    committed = int(killed.stdout)
    with Reader(path) as reader:
        assert len(list(reader.blocks("main"))) == committed == 6
    with Store.open(path, TRUSTED) as store:
        assert store.counts("main").sealed == committed
        assert store.prove().verdict == "complete"


def test_a_reader_sees_nothing_of_an_open_transaction(tmp_path):
    """Until it is committed."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store, Reader(path) as reader:
        store.append([Station(epoch=store.epoch).seal()])
        store._db.execute("BEGIN IMMEDIATE")
        store._db.execute("INSERT INTO block_1 (position, envelope) VALUES (3, x'00')")
        assert reader.last_position("main") == 2
        store._db.execute("COMMIT")
        assert reader.last_position("main") == 3


def test_a_failed_append_leaves_nothing_of_any_stream(tmp_path):
    """Blocks of all streams and acknowledgements are one transaction."""
    path = tmp_path / "buffer.db"
    store = Store.open(path, TRUSTED)
    station = Station(epoch=store.epoch)
    store.append([station.seal(), station.seal(stream="other")], {("up", "main"): Intervals([(1, 1)])})
    store._db.execute("CREATE TRIGGER fail BEFORE INSERT ON block_2 BEGIN SELECT RAISE(ABORT, 'I/O'); END")
    with pytest.raises(CommitFailed):
        store.append([station.seal(), station.seal(stream="other")], {("up", "main"): Intervals([(1, 2)])})
    with store.reopen() as again:
        assert (again.counts("main").sealed, again.counts("other").sealed) == (2, 2)
        assert again.acknowledged("up", "main") == Intervals([(1, 1)])


def test_a_write_error_at_commit_is_a_failed_commit(tmp_path):
    """The caller hears of it; nobody is shown the block."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        station = Station(epoch=store.epoch)
        store.append([station.seal()])
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(CommitFailed):
            store.append([station.seal()])
        other.execute("ROLLBACK")
        other.close()
        assert store.failed


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
        await bench.owner.call(lambda: bench.keeper._file.store._db.execute("PRAGMA max_page_count = 1"))
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
    monkeypatch.setattr("agent.gathering.ROOM_READINGS", 100)
    async with Bench(path, seal_every_s=30) as bench:
        await until(lambda: bool(bench.committed))
        bench.add(*range(60))
        assert not bench.recorder._roomy.is_set()
        bench.recorder._urgent.set()
        await bench.recorder.room()
    assert sorted(bench.numbers()) == list(range(60))


async def test_a_commit_whose_sync_alone_failed_is_not_sealed_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks are found after reopening; nothing is repeated, and the ledger is that of the file."""
    plain, failing = Store.append, [2]

    def append(self: Store, *arguments: object, **named: object) -> object:
        positions = plain(self, *arguments, **named)  # type: ignore[arg-type]
        failing[0] -= 1
        if failing[0] == 0:
            self.failed = True
            raise CommitFailed(path=str(path), reason="the sync failed")
        return positions

    monkeypatch.setattr(Store, "append", append)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await bench.sealed(2, 3)
        await bench.sealed(4)
        ledger = bench.health.streams["main"]
    assert bench.numbers() == [1, 2, 3, 4]
    with contextlib.closing(Reader(path)) as reader:
        assert reader.last_position("main") == ledger.head
        assert ledger.seq == ledger.head


async def test_another_file_in_the_place_of_ours_is_not_written_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A medium that vanishes is waited for; when it is back everything is committed, in order."""
    monkeypatch.setattr("agent.volatile.FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("agent.volatile.LONGEST_RETRY_S", 0.05)
    away = path.with_name("away")
    away.mkdir()
    async with Bench(path) as bench:
        await bench.sealed(1)

        def vanish() -> None:
            bench.keeper.close()
            for file in path.parent.glob("buffer.db*"):
                file.rename(away / file.name)

        await bench.owner.call(vanish)
        bench.add(2)
        await until(lambda: bench.health.buffer_error is not None)
        assert not path.exists()
        Store.open(path, [bench.key.public_key]).close()
        bench.add(3)
        await asyncio.sleep(0.2)
        assert bench.numbers() == [1]
        for file in away.iterdir():
            file.rename(path.with_name(file.name))
        await until(lambda: bench.numbers() == [1, 2, 3])
    with contextlib.closing(Reader(path)) as reader:
        assert reader.last_position("main") == bench.health.streams["main"].head


async def test_stopping_while_the_store_is_tried_again_tries_once_more_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for the disk is sealed if the disk has room again."""
    monkeypatch.setattr("agent.volatile.FIRST_RETRY_S", 60.0)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await bench.owner.call(lambda: bench.keeper._file.store._db.execute("PRAGMA max_page_count = 1"))
        bench.add(*range(2, 2000))
        await until(lambda: bench.health.buffer_error is not None)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 30
    assert bench.numbers() == list(range(1, 2000))


async def test_what_was_acknowledged_before_a_failed_commit_is_written_by_the_next(path: Path) -> None:
    """An acknowledgement that went down with a commit would be a repeat after the restart."""
    async with Bench(path) as bench:
        await bench.sealed(1)
        bench.recorder.settle("province", "main", 1)
        await bench.owner.call(lambda: bench.keeper._file.store._db.execute("PRAGMA max_page_count = 1"))
        bench.add(*range(2, 2000))
        await until(lambda: bench.health.buffer_error is not None)
        await until(lambda: 1999 in bench.numbers())
        assert ("province", "main") not in bench.recorder._unwritten
    async with Bench(path) as bench:
        assert 1 in bench.recorder.settled("province", "main")


async def test_what_is_shown_and_not_committed_says_so_in_its_header(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store cannot commit at all, every block that an uplink sees is committed, or flagged volatile."""
    monkeypatch.setattr("agent.volatile.VOLATILE_AFTER_S", 0.2)
    monkeypatch.setattr("agent.volatile.LONGEST_RETRY_S", 0.05)
    seen: list[Kept] = []
    unsaid: list[Kept] = []

    def check(kept: list[Kept]) -> None:
        seen.extend(kept)
        for one in kept:
            committed = path.exists() and one.block.digest in stored(path, one.stream)
            if not committed and not read_header(one.block.envelope).flags & FLAG_VOLATILE:
                unsaid.append(one)

    def vanish() -> None:
        bench.keeper.close()
        path.rename(path.with_name("away"))

    async with Bench(path) as bench:
        bench.recorder.listeners.append(check)
        await bench.sealed(1)
        await bench.owner.call(vanish)
        await bench.sealed(2)
        path.with_name("away").rename(path)
        await until(lambda: not bench.health.volatile)
        await bench.sealed(3)
    assert any(read_header(one.block.envelope).flags & FLAG_VOLATILE for one in seen)
    assert not unsaid
    assert {one.block.digest for one in seen if one.stream == "main"} <= set(stored(path))


def test_nothing_is_written_as_acknowledged_that_a_power_cut_would_take_back(tmp_path: Path) -> None:
    """Positions that are only in memory will be other blocks after it, and nobody would send those."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        store.append([Station(epoch=store.epoch).seal()], {("province", "main"): Intervals([(1, 1000)])})
        assert store.acknowledged("province", "main") == Intervals([(1, store.last_position("main"))])
