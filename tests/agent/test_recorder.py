"""The recorder over a real store: what seals when, what is merged, what is counted."""

import asyncio
from pathlib import Path

import pytest
from rig import GROUP, LAYOUT, SIDE_LAYOUT, Bench, until

from agent.broker import Endpoint, Message
from agent.demo.evidence import Evidence
from agent.demo.tally import Tally
from agent.demo.verdict import Verdict
from agent.receiver import Opened, Receiver
from buffer.block import encode_block, open_envelope, trust
from buffer.frame import Change, Event
from buffer.layout import catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.store import Reader
from buffer.verify import Verifier, payload_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the buffer is."""
    return tmp_path / "buffer.db"


def opened(bench: Bench, stream: str = "main") -> list[Opened]:
    """Open every committed block of a stream."""
    layout = LAYOUT if stream == "main" else SIDE_LAYOUT
    found = []
    for kept in bench.committed:
        if kept.stream == stream:
            header = open_envelope(kept.block.envelope, trust([bench.key.public_key]))
            found.append(Opened(header, (layout,), payload_of(kept.block, header, (layout,))))
    return found


def events(bench: Bench, stream: str = "main") -> list[Event]:
    """Give the events of a stream, `start` left out."""
    return [event for one in opened(bench, stream) for event in one.payload.events if event.type != "start"]


async def settled(bench: Bench) -> None:
    """Wait for the first commit, that of the `start` events."""
    await until(lambda: {kept.stream for kept in bench.committed} == {"main", "side"})


async def test_the_first_frame_and_an_urgent_event_seal_at_once(path: Path) -> None:
    """Whatever the interval."""
    async with Bench(path, seal_every_s=60) as bench:
        await settled(bench)
        began = asyncio.get_running_loop().time()
        await bench.sealed(1)
        bench.recorder.event("alarm", urgent=True)
        await until(lambda: len(events(bench)) == 1)
        assert asyncio.get_running_loop().time() - began < 30


async def test_an_ordinary_frame_waits_for_the_interval(path: Path) -> None:
    """One commit an interval, not one a frame."""
    async with Bench(path, seal_every_s=60) as bench:
        await settled(bench)
        await bench.sealed(1)
        bench.add(2)
        await asyncio.sleep(0.3)
        assert bench.numbers() == [1]
    assert bench.numbers() == [1, 2]


async def test_many_readings_seal_early(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and commits stay small at any rate."""
    monkeypatch.setattr("agent.gathering.SEAL_AT_READINGS", 100)
    async with Bench(path, seal_every_s=60) as bench:
        await settled(bench)
        await bench.sealed(*range(60))
        assert len(bench.numbers()) == 60


async def test_an_idle_stream_seals_an_empty_block_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a silence is signed too."""
    monkeypatch.setattr("agent.gathering.EMPTY_SEAL_NS", 200_000_000)
    async with Bench(path, seal_every_s=0.05) as bench:
        await until(lambda: sum(not one.header.readings for one in opened(bench, "side")) >= 4)


async def test_an_event_stands_in_the_streams_it_concerns(path: Path) -> None:
    """With the same id in each; by default in all."""
    async with Bench(path) as bench:
        await settled(bench)
        bench.recorder.event("everywhere")
        bench.recorder.event("here", streams=("main",), device="meter")
        await until(lambda: len(events(bench)) == 2 and len(events(bench, "side")) == 1)
        assert events(bench)[0].id == events(bench, "side")[0].id
        assert events(bench)[1].data == (("device", "meter"),)


async def test_repeats_of_one_event_and_subject_merge(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a minute; those left out are told, with their number, when it ends. Another subject is another event."""
    monkeypatch.setattr("agent.gathering.MERGE_NS", 300_000_000)
    async with Bench(path) as bench:
        for _ in range(5):
            bench.recorder.event("device-lost", device="a")
        bench.recorder.event("device-lost", device="b")
        await asyncio.sleep(0.4)
        bench.recorder.event("device-lost", device="a")
    told = [event.data for event in events(bench)]
    once, again = (("device", "a"),), (("device", "a"), ("repeats", 4))
    assert told == [once, (("device", "b"),), again, once]


async def test_changes_and_missed_ticks_are_sealed_and_counted(path: Path) -> None:
    """The totals stand in the header and in the ledger."""
    async with Bench(path) as bench:
        await settled(bench)
        change = Change(0, None, bench.clock.boot_ns(), 7)
        bench.recorder.add_changes(GROUP, [change, change])
        bench.recorder.missed("main", 3)
        await until(lambda: bench.health.streams["main"].readings == 2)
        assert bench.health.streams["main"].ticks_missed == 3
        head = opened(bench)[-1]
        assert head.header.totals == (2, 3, 0)
        assert head.payload.changes[0][1] == (change, change)
    evidence = Evidence()
    evidence.add(head)
    assert evidence.numbers["meter"] == {7}


async def test_what_was_acknowledged_outlives_the_process(path: Path) -> None:
    """Written with the next commit, and at the latest when leaving."""
    async with Bench(path) as bench:
        await bench.sealed(1, 2)
        bench.recorder.settle("province", "main", 1)
    async with Bench(path) as bench:
        assert 1 in bench.recorder.settled("province", "main")
        assert 2 not in bench.recorder.settled("province", "main")


async def test_blocks_leave_memory_and_can_be_read_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recent is bounded in bytes; the rest comes from the store, proven."""
    monkeypatch.setattr("agent.recorder.RECENT_BYTES", 1)
    async with Bench(path) as bench:
        await bench.sealed(1)
        last = bench.recorder.head("main")
        assert bench.recorder.recent("main", last) is None
        reading = await bench.recorder.read("main", 1, last, 1_000_000)
        assert [kept.block for kept in reading.blocks] == [k.block for k in bench.committed if k.stream == "main"]
        assert not reading.damaged


def receiver(bench: Bench, seen: list[Opened]) -> Receiver:
    """Make a receiver that is handed its messages."""
    verifier = Verifier([bench.key.public_key], remember=True)
    return Receiver(Endpoint("localhost", 1, "x"), "root", verifier, seen.append)


async def test_a_receiver_opens_each_block_once_whatever_the_order(path: Path) -> None:
    """Blocks may come before their catalogue, twice, and last first."""
    async with Bench(path) as bench:
        await bench.sealed(1)
        await bench.sealed(2)
    seen: list[Opened] = []
    taking = receiver(bench, seen)
    blocks = [Message("root/block/main", encode_block(kept.block)) for kept in bench.committed if kept.stream == "main"]
    for message in (*reversed(blocks), *blocks):
        taking._take(message)
    assert not seen
    catalogue = encode_catalogue((layout_id(LAYOUT),))
    taking._take(Message(f"root/catalogue/{catalogue_digest(catalogue).hex()}", catalogue))
    taking._take(Message(f"root/layout/{layout_id(LAYOUT).hex()}", encode_layout(LAYOUT)))
    assert sorted(one.header.seq for one in seen) == list(range(1, len(blocks) + 1))
    report = taking.verifier.report()
    assert report.verdict == "complete"
    assert report.repeats == len(blocks)


async def test_a_receiver_counts_what_is_no_block_and_no_definition(path: Path) -> None:
    """A layout under another name, and garbage, change nothing."""
    async with Bench(path) as bench:
        await settled(bench)
    taking = receiver(bench, [])
    taking._take(Message("root/block/main", b"garbage"))
    taking._take(Message(f"root/layout/{'00' * 32}", encode_layout(LAYOUT)))
    assert taking.invalid == 2
    assert taking.verifier.report().verdict == "unreadable"


def test_a_verdict_names_what_does_not_hold() -> None:
    """Each condition can fail."""
    verdict = Verdict({"a": Tally(0, 0, 0, 1, 9)}, 1, 2, 1, 0, ["gap"], ["fork"], [], 0, 0.0, "broker", "")
    assert not verdict.holds
    assert verdict.faults == [
        "every-instrument-read",
        "nothing-lost",
        "unsealed-within-bound",
        "every-block-proven",
        "no-gaps",
        "nothing-unexplained",
        "death-named",
    ]
    assert verdict.document()["unproven"] is None


async def test_the_file_is_readable_beside_the_service(path: Path) -> None:
    """Tools read in short transactions while it is written."""
    async with Bench(path) as bench:
        await bench.sealed(1)
        with Reader(path) as reader:
            assert reader.last_position("main") == bench.recorder.head("main")
