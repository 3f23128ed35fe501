"""Room runs out, or a commit is in doubt, while housekeeping has something to do: nothing is done twice or untold."""

import os
from collections.abc import Iterator
from io import FileIO
from itertools import takewhile
from pathlib import Path

import pytest
from chains import key
from keepers import STREAMS, Bench, noisy
from outstation import tmpfs
from rig import Bench as Recording
from rig import until

from agent.housekeeping import SCRUB_ROWS, SCRUB_WITHIN_NS, Housekeeping, Rules
from agent.kept import Kept
from agent.opener import ROOM_BYTES
from buffer.changes import Eviction, Thinned
from buffer.errors import CommitFailed, StoreFull
from buffer.intervals import Intervals
from buffer.quota import Quota
from buffer.store import PAGE_SIZE, Reader, Store
from buffer.verify import Report, Verifier


def proven(path: Path) -> Report:
    """Give the report of a verifier over the whole file."""
    verifier = Verifier([key().public_key])
    with Reader(path) as reader:
        for stream in reader.streams():
            for at, block in reader.blocks(stream):
                verifier.feed(block.envelope, block.payload, (stream, at))
    return verifier.report()


def held(*groups: tuple[Kept, ...]) -> dict[str, list[Kept]]:
    """Give what the memory holds."""
    found: dict[str, list[Kept]] = {stream: [] for stream in STREAMS}
    for kept in groups:
        for one in kept:
            found[one.stream].append(one)
    return found


def planning(path: Path) -> Bench:
    """Give a keeper that is about to evict."""
    bench = Bench(path)
    bench.seal(20)
    bench.keeper.seal({}, {("province", stream): Intervals([(1, 10)]) for stream in STREAMS})
    bench.keeper._planned = bench.keeper._house.urgent(bench.keeper._settled)
    assert any(isinstance(change, Eviction) for change in bench.keeper._planned)
    return bench


@pytest.mark.parametrize("through", [True, False])
def test_what_was_planned_for_a_commit_in_doubt_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: bool
) -> None:
    """Its blocks tell of it: they are adopted from memory, or were in the file after all."""
    path = tmp_path / "buffer.db"
    bench = planning(path)
    planned = sum(len(one.positions) for one in bench.keeper._planned if isinstance(one, Eviction))
    append = Store.append

    def failing(store: Store, *args: object) -> None:
        if through:
            append(store, *args)  # type: ignore[arg-type]
        store.failed = True
        raise CommitFailed(path="", reason="told so")

    monkeypatch.setattr(Store, "append", failing)
    batches = {"main": noisy(500, 10)}
    with pytest.raises(CommitFailed):
        bench.keeper.seal(batches, {})
    monkeypatch.undo()
    assert bench.keeper.seal_volatile(batches) == ()
    kept = bench.keeper.seal_volatile({"side": noisy(501, 10)})
    bench.keeper.reach()
    bench.keeper.adopt(held(kept), {})
    bench.second = 600
    bench.seal(1)
    assert sum(ledger.evicted for ledger in bench.keeper.ledgers.values()) == planned
    bench.keeper.close()
    assert proven(path).verdict == "complete"
    assert proven(path).evicted == planned


@pytest.mark.parametrize("through", [True, False])
def test_a_commit_in_doubt_that_is_sealed_again_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: bool
) -> None:
    """What came through is not done again; what did not is planned again."""
    path = tmp_path / "buffer.db"
    bench = planning(path)
    planned = sum(len(one.positions) for one in bench.keeper._planned if isinstance(one, Eviction))
    append = Store.append

    def failing(store: Store, *args: object) -> None:
        if through:
            append(store, *args)  # type: ignore[arg-type]
        store.failed = True
        raise CommitFailed(path="", reason="told so")

    monkeypatch.setattr(Store, "append", failing)
    batches = {"main": noisy(500, 10)}
    with pytest.raises(CommitFailed):
        bench.keeper.seal(batches, {})
    monkeypatch.undo()
    bench.keeper.seal(batches, {})
    assert sum(ledger.evicted for ledger in bench.keeper.ledgers.values()) == (planned if through else 0)
    assert bench.keeper._planned == ()
    bench.keeper.close()
    assert proven(path).verdict == "complete"


def test_what_is_in_memory_is_adopted_beyond_the_limit_and_room_is_made_behind_it(tmp_path: Path) -> None:
    """More than the file had room for: it is on the disk first, then the oldest go."""
    path = tmp_path / "buffer.db"
    bench = Bench(path, quota=Quota(1_000_000, 10**18, 0))
    bench.seal(150)
    while bench.keeper.ledgers["main"].evicted == 0:
        bench.seal(5, 200)
    assert bench.keeper._file.store is not None
    bench.keeper._file.store._db.execute("PRAGMA max_page_count = 1")
    groups, batches = [], {"main": noisy(9000, 20_000)}
    with pytest.raises(StoreFull):
        bench.keeper.seal(batches, {})
    groups.append(bench.keeper.seal_volatile(batches))
    groups += [bench.keeper.seal_volatile({"main": noisy(9001 + at, 5000)}) for at in range(20)]
    bench.keeper.tidy()
    bench.keeper.adopt(held(*groups), {})
    beyond = bench.keeper._file.store.space().pages
    assert beyond > 1_000_000 // PAGE_SIZE
    bench.second = 10_000
    evicted = bench.keeper.ledgers["main"].evicted
    bench.seal(60, 200)
    ledger = bench.keeper.ledgers["main"]
    assert ledger.evicted > evicted
    assert ledger.held + ledger.evicted + ledger.pruned == ledger.head
    assert bench.keeper._file.store.space().pages <= beyond + 16, "but for the commit before housekeeping"
    bench.keeper.close()
    assert proven(path).verdict == "complete"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of eight megabytes."""
    with tmpfs(tmp_path) as mount:
        yield mount


@pytest.mark.root
def test_a_disk_that_is_full_because_of_us_evicts_its_way_out(small_disk: Path) -> None:
    """However large the limit and small the reserve: no commit fails twice, and the file can be opened again."""
    bench = Bench(small_disk / "buffer.db", quota=Quota(10**9, 10**18, 0))
    for _ in range(300):
        bench.second += 10
        batches = {stream: noisy(bench.second, 6000) for stream in STREAMS}
        try:
            bench.keeper.seal(batches, {})
        except StoreFull:
            bench.keeper.seal(batches, {})
        bench.keeper.tidy()
        found = os.statvfs(small_disk)
        assert found.f_bfree * found.f_frsize > ROOM_BYTES
    assert sum(ledger.evicted for ledger in bench.keeper.ledgers.values()) > 50
    bench.keeper.close()
    assert proven(small_disk / "buffer.db").verdict == "complete"


def _write(file: FileIO, size: int) -> int:
    try:
        return file.write(bytes(size))
    except OSError:
        return 0


@pytest.mark.root
def test_a_disk_that_another_process_fills_is_waited_for(small_disk: Path) -> None:
    """Nothing is opened on it; what is sealed stands in memory, and is adopted once there is room."""
    path = small_disk / "buffer.db"
    bench = Bench(path)
    bench.seal(20)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        written = sum(takewhile(bool, (_write(file, 4096) for _ in range(4096))))
    assert written < 8 << 20
    batches = {"main": noisy(900, 6000)}
    for _ in range(2):
        with pytest.raises(StoreFull):
            bench.keeper.seal(batches, {})
    groups = [bench.keeper.seal_volatile(batches), bench.keeper.seal_volatile({"side": noisy(901, 10)})]
    with pytest.raises(StoreFull):
        bench.keeper.reach()
    filler.unlink()
    bench.keeper.reach()
    bench.keeper.adopt(held(*groups), {})
    bench.second = 1000
    bench.seal(2)
    assert sum(ledger.evicted for ledger in bench.keeper.ledgers.values()) == 0
    bench.keeper.close()
    assert proven(path).verdict == "complete"


async def test_a_disk_that_has_less_left_than_the_reserve_is_an_alarm_within_ten_seconds(tmp_path: Path) -> None:
    """However long the interval between two seals; nothing is broken yet, so it is no error."""
    plenty, short = (Rules(Quota(10**9, 10**18, reserve)) for reserve in (0, 1 << 60))
    async with Recording(tmp_path / "buffer.db", seal_every_s=600, rules=plenty) as bench:
        await bench.sealed(1)
        await until(lambda: bool(bench.health.buffer))
        assert bench.health.buffer_alarm is None
        bench.keeper._house.rules = short
        await until(lambda: bench.health.buffer_alarm is not None, 10)
        assert bench.health.document(0)["buffer"]["alarm"]["code"] == "buffer.reserve"
        assert bench.health.buffer_error is None
        bench.keeper._house.rules = plenty
        await until(lambda: bench.health.buffer_alarm is None, 10)


def test_a_commit_without_room_gets_more_than_the_end_of_a_round_of_thinning(tmp_path: Path) -> None:
    """What a failed commit planned is not written: with one scant slice it would be planned, and fail, for ever."""
    path = tmp_path / "buffer.db"
    bench = Bench(path, quota=Quota(1_000_000, 10**18, 0, "thin"))
    bench.seal(100)
    house = bench.keeper._house
    ends = {stream: bench.keeper.ledgers[stream].head - 16 for stream in STREAMS}
    bench.keeper._planned = tuple(Thinned(stream, 2, end) for stream, end in ends.items())
    bench.keeper.seal({"main": noisy(5000, 10)}, {})
    found = [one for one in house.urgent({}) if isinstance(one, Eviction)]
    assert sum(len(one.positions) for one in found) > 2 * len(STREAMS)
    bench.keeper._planned = tuple(house.urgent({}))
    bench.keeper.seal({"main": noisy(5001, 10)}, {})
    assert bench.keeper.ledgers["main"].evicted > 10
    bench.keeper.close()
    assert proven(path).verdict == "complete"


def test_a_hole_of_several_blocks_that_a_reader_met_is_counted_once(tmp_path: Path) -> None:
    """Each of its positions is suspected; the first of them names the whole run."""
    bench = Bench(tmp_path / "buffer.db")
    bench.seal(10)
    assert bench.keeper._file.store is not None
    bench.keeper._file.store.connection.execute("DELETE FROM block_1 WHERE position BETWEEN 3 AND 5")
    assert bench.keeper.read("main", 1, 9, 1 << 20).damaged == (3, 4, 5)
    bench.seal(2)
    assert bench.keeper.ledgers["main"].damaged == 3
    bench.keeper.close()
    assert proven(tmp_path / "buffer.db").verdict == "complete"


def test_a_row_whose_number_is_out_of_order_condemns_the_file(tmp_path: Path) -> None:
    """No question finds it by that number, so it could never be taken away: the file is salvaged."""
    path = tmp_path / "buffer.db"
    bench = Bench(path)
    bench.seal(6)
    envelope = bench.blocks()["main", 3][0]
    bench.keeper.close()
    data = bytearray(path.read_bytes())
    at = data.index(envelope)
    at = data.rindex(bytes([3]), at - 9, at - 6)  # the rowid stands before the record's header
    data[at] = 0
    path.write_bytes(data)
    again = Bench(path, second=500)
    again.seal(2)
    assert path.with_name("buffer.db.broken-1").exists()
    again.keeper.close()
    assert proven(path).verdict == "complete"


def test_a_proof_that_is_behind_goes_on_at_once_and_forgets_nothing(tmp_path: Path) -> None:
    """A slice is small, what it leaves stays owed: however rarely housekeeping looks, all is proven within a day."""
    bench = Bench(tmp_path / "buffer.db")
    bench.seal(200)
    store = bench.keeper._file.store
    assert store is not None
    house = Housekeeping(Rules(), store, 0)
    end = store.last_position("main")
    assert end >= 200
    slices = 0
    while not slices or house.behind:
        house.plan({}, SCRUB_WITHIN_NS)
        slices += 1
    assert slices == end // SCRUB_ROWS
    house.plan({}, SCRUB_WITHIN_NS)
    assert house.scrubbing["main"].rounds == 1
    bench.keeper.close()
