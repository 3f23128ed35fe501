"""Sealing in memory: the ring, and the recorder over a real store whose file goes away and comes back."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from rig import LAYOUT, SIDE_LAYOUT, Bench, numbers_in, until

from agent.kept import Kept, Reading
from buffer.block import FLAG_VOLATILE, Header, read_header
from buffer.errors import CommitFailed
from buffer.frame import Event
from buffer.store import Reader, Store
from buffer.verify import Verifier, payload_of

S = 10**9


class Medium:
    """The folder of a buffer file that can be taken away and brought back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._away = path.with_name("away")

    def take(self) -> None:
        """Take it away. The file must not be open."""
        self._away.mkdir(exist_ok=True)
        for file in self.path.parent.glob("buffer.db*"):
            file.rename(self._away / file.name)

    def give(self) -> None:
        """Bring it back; what stands in its place is not ours."""
        for file in self._away.iterdir():
            file.rename(self.path.with_name(file.name))

    async def vanish(self, bench: Bench) -> None:
        """Take it away from under a running recorder."""

        def vanish() -> None:
            bench.keeper.close()
            self.take()

        await bench.owner.call(vanish)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the buffer is; an outage is long after a fifth of a second."""
    monkeypatch.setattr("agent.volatile.VOLATILE_AFTER_S", 0.2)
    monkeypatch.setattr("agent.volatile.FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("agent.volatile.LONGEST_RETRY_S", 0.05)
    return tmp_path / "buffer.db"


class Stored:
    """What the file holds of a stream, read as another process would."""

    def __init__(self, bench: Bench, stream: str = "main") -> None:
        verifier = Verifier([bench.key.public_key])
        self.headers: list[Header] = []
        self.events: list[Event] = []
        self.numbers: list[int] = []
        self.digests: list[bytes] = []
        layout = LAYOUT if stream == "main" else SIDE_LAYOUT
        with contextlib.closing(Reader(bench.path)) as reader:
            self.counts = reader.counts(stream)
            for position, block in reader.blocks(stream):
                header = verifier.feed(block.envelope, block.payload)
                assert header is not None
                assert header.seq == position
                self.headers.append(header)
                self.digests.append(block.digest)
                self.events += payload_of(block, header, (layout,)).events
                self.numbers += numbers_in(block, layout, bench.key.public_key)
        self.report = verifier.report()

    def told(self, kind: str) -> list[dict[str, object]]:
        """Give the data of events of a type."""
        return [dict(event.data) for event in self.events if event.type == kind]


async def test_what_is_sealed_in_memory_is_shown_flagged_and_adopted(path: Path) -> None:
    """One chain: the volatile epoch behind the last committed block, the next epoch behind it, nothing twice."""
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        durable = bench.recorder.head("main")
        await medium.vanish(bench)
        await bench.sealed(2, 3)
        await bench.sealed(4)
        assert bench.health.volatile
        assert bench.health.buffer_error is not None
        assert bench.health.ring["blocks"] > 0
        assert bench.recorder.head("main") == durable
        shown = [read_header(kept.block.envelope) for kept in bench.committed if kept.stream == "main"]
        assert {header.flags for header in shown if header.seq > durable} == {FLAG_VOLATILE}
        reading = await bench.recorder.read("main", durable + 1, durable + 9, 1 << 20)
        assert [kept.position for kept in reading.blocks] == [h.seq for h in shown if h.seq > durable]
        assert bench.recorder.recent("main", durable + 1) == reading.blocks[0]
        last = reading.blocks[-1].block.digest
        medium.give()
        await until(lambda: not bench.health.volatile)
        await bench.sealed(5)
        assert bench.health.buffer_error is None
    stored = Stored(bench)
    assert stored.report.verdict == "complete"
    assert stored.digests == [kept.block.digest for kept in bench.committed if kept.stream == "main"]
    assert stored.numbers == [1, 2, 3, 4, 5]
    assert [epoch.epoch for epoch in stored.report.epochs] == list(dict.fromkeys(h.epoch for h in stored.headers))
    starts = stored.told("start")
    assert [start["known"] for start in starts] == ["none", "store", "volatile"]
    assert starts[-1]["predecessor"] == last
    assert len(stored.told("buffer-failed")) == len(stored.told("buffer-back")) == 1
    assert Stored(bench, "side").report.verdict == "complete"


async def test_a_small_fault_makes_no_volatile_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the retry."""
    monkeypatch.setattr("agent.volatile.VOLATILE_AFTER_S", 30.0)
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        bench.add(2)
        await until(lambda: bench.health.buffer_error is not None)
        medium.give()
        await bench.sealed(3)
    stored = Stored(bench)
    assert stored.numbers == [1, 2, 3]
    assert not any(header.flags for header in stored.headers)


async def test_as_soon_as_pollers_would_wait_sealing_goes_on_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the outage."""
    monkeypatch.setattr("agent.volatile.VOLATILE_AFTER_S", 30.0)
    monkeypatch.setattr("agent.gathering.ROOM_READINGS", 100)
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        bench.add(*range(2, 200))
        await until(lambda: bench.health.volatile)
        await asyncio.wait_for(bench.recorder.room(), 60)
        medium.give()
    assert Stored(bench).numbers == list(range(1, 200))


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str, medium: Medium, *, through: bool) -> list[int]:
    """Make the next call of a commit fail, after or instead of doing it, and the medium vanish with it.

    The list that is given arms it: put a number of calls into it.
    """
    plain = getattr(Store, name)
    armed: list[int] = []

    def failing(self: Store, *arguments: object, **named: object) -> object:
        if not armed:
            return plain(self, *arguments, **named)
        armed.clear()
        if through:
            plain(self, *arguments, **named)
        self.failed = True
        self.close()
        medium.take()
        raise CommitFailed(path=str(self.path), reason="the sync failed")

    monkeypatch.setattr(Store, name, failing)
    return armed


@pytest.mark.parametrize("through", [True, False])
async def test_a_doubtful_commit_is_the_beginning_of_what_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, through: bool
) -> None:
    """Its blocks are not shown until it is decided, and then stand in the chain once, found there or adopted."""
    medium = Medium(path)
    armed = fail_once(monkeypatch, "append", medium, through=through)
    async with Bench(path) as bench:
        await bench.sealed(1)
        armed.append(1)
        bench.add(2)
        await until(lambda: bench.health.volatile)
        await bench.sealed(3)
        assert bench.numbers() == [1, 3]
        first, *_ = [kept.position for kept in bench.committed if 3 in numbers_of(bench, kept)]
        unknown = await bench.recorder.read("main", bench.recorder.head("main") + 1, first - 1, 1 << 20)
        assert not any(2 in numbers_of(bench, kept) for kept in unknown.blocks)
        medium.give()
        await until(lambda: not bench.health.volatile)
        await bench.sealed(4)
        assert sorted(bench.numbers()) == [1, 2, 3, 4]
    stored = Stored(bench)
    assert stored.numbers == [1, 2, 3, 4]
    assert stored.report.verdict == "complete"
    assert len({(header.epoch, header.seq) for header in stored.headers}) == len(stored.headers)
    announced = {kept.block.digest for kept in bench.committed if kept.stream == "main"}
    assert announced == set(stored.digests)
    assert "volatile" in [start["known"] for start in stored.told("start")]


def numbers_of(bench: Bench, kept: Kept) -> list[int]:
    """Give the numbers in a block of the main stream."""
    return numbers_in(kept.block, LAYOUT, bench.key.public_key) if kept.stream == "main" else []


@pytest.mark.parametrize("through", [True, False])
async def test_a_doubtful_adoption_is_done_once(path: Path, monkeypatch: pytest.MonkeyPatch, through: bool) -> None:
    """What is sealed after it goes on from the same last block."""
    medium = Medium(path)
    armed = fail_once(monkeypatch, "adopt", medium, through=through)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        await bench.sealed(2)
        bench.recorder.settle("province", "main", bench.committed[-1].position)
        armed.append(1)
        medium.give()
        await until(lambda: not armed)
        await bench.sealed(3)
        assert bench.health.volatile
        medium.give()
        await until(lambda: not bench.health.volatile)
        await bench.sealed(4)
    stored = Stored(bench)
    assert stored.numbers == [1, 2, 3, 4]
    assert stored.report.verdict == "complete"


def absent(reading: Reading) -> set[int]:
    """Give the positions that are told to be lost."""
    assert {one.reason for one in reading.gone} == {"volatile"}
    return {position for one in reading.gone for position in range(one.first, one.last + 1)}


async def test_what_had_no_room_is_named_and_everything_is_accounted_for(path: Path) -> None:
    """Each number is in the chain or in what a signed event calls lost, and the ledger is that of the file."""
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(0)
        bench.recorder._ring.limit = 6000
        await medium.vanish(bench)
        for number in range(1, 40):
            await bench.sealed(number)
        shown = {kept.position: kept for kept in bench.committed if kept.stream == "main"}
        gone = bench.recorder._ring.gone["main"]
        assert gone.count() > 5
        missing = await bench.recorder.read("main", next(iter(gone))[0], next(iter(gone))[1], 1 << 20)
        assert absent(missing) == set(range(next(iter(gone))[0], next(iter(gone))[1] + 1))
        medium.give()
        await until(lambda: not bench.health.volatile)
        again = await bench.recorder.read("main", 1, max(shown), 1 << 20)
        assert absent(again) == {position for position in shown if position in gone}
        assert again.damaged == ()
        await bench.sealed(40)
        ledger = bench.health.streams["main"]
    stored = Stored(bench)
    (lost,) = stored.told("lost")
    assert lost["reason"] == "volatile"
    assert lost["blocks"] == gone.count() == stored.counts.lost == ledger.lost
    assert lost["readings"] == sum(
        read_header(shown[p].block.envelope).readings for a, b in gone for p in range(a, b + 1)
    )
    away = {n for a, b in gone for p in range(a, b + 1) for n in numbers_of(bench, shown[p])}
    assert sorted([*stored.numbers, *away]) == list(range(41))
    assert stored.report.verdict == "complete"
    assert {hole.reason for hole in stored.report.holes} == {"lost"}
    assert all(lost["first"] <= hole.first_seq <= hole.last_seq <= lost["last"] for hole in stored.report.holes)
    assert stored.counts.sealed == stored.counts.held + stored.counts.lost
    assert not stored.report.faults


async def test_an_acknowledgement_of_what_is_in_memory_dies_with_it(path: Path) -> None:
    """Its position will be that of another block, which nobody has."""
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        await bench.sealed(2)
        lost = next(kept for kept in bench.committed if 2 in numbers_of(bench, kept))
        bench.recorder.settle("province", "main", lost.position)
    assert bench.recorder._unwritten == {("province", "main")}
    medium.give()
    async with Bench(path) as bench:
        assert lost.position not in bench.recorder.settled("province", "main")
        await bench.sealed(3, 4)
        assert bench.recorder.head("main") >= lost.position
    with contextlib.closing(Reader(path)) as reader:
        assert lost.position not in reader.acknowledged("province", "main")
        verifier = Verifier([bench.key.public_key])
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    assert verifier.report().verdict == "complete"


async def test_an_acknowledgement_of_what_was_adopted_is_written_with_it(path: Path) -> None:
    """In the same commit: a death right after it costs no repeat."""
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        await bench.sealed(2)
        kept = next(kept for kept in bench.committed if 2 in numbers_of(bench, kept))
        bench.recorder.settle("province", "main", kept.position)
        medium.give()
        await until(lambda: not bench.health.volatile)
        with contextlib.closing(Reader(path)) as reader:
            assert kept.position in reader.acknowledged("province", "main")
        assert not bench.recorder._unwritten


async def test_leaving_without_a_disk_tries_it_once_more_and_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed in memory can still be delivered by then."""
    monkeypatch.setattr("agent.volatile.LONGEST_RETRY_S", 60.0)
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        await bench.sealed(2)
        bench.add(3)
    assert bench.numbers() == [1, 2, 3]
    assert bench.health.volatile


async def test_what_a_catalogue_means_is_known_without_the_disk(path: Path) -> None:
    """A platform that connects meanwhile can read what it gets."""
    medium = Medium(path)
    async with Bench(path) as bench:
        await bench.sealed(1)
        await medium.vanish(bench)
        await bench.sealed(2)
        definition = await bench.recorder.definition(bench.committed[-1].catalogue)
        assert len(definition.layouts) == 1
        medium.give()
