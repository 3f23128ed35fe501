"""`confirm: platform` and `resend`: the platform's word, judged strictly, over a real broker and over a hostile one."""

import asyncio
import json
import random
import sqlite3
import sys
from pathlib import Path

import pytest
from carrying import ROOT, carrying, delivered, filled
from golden import sealed
from hostile import ACK as ACKED
from hostile import DELAY, Hostile, Plan
from rig import LAYOUT, SIDE_GROUP, Bench, Platform, numbers_in, until

from agent.broker import Message, connect
from agent.carrier import Carriage
from agent.confirm import MOST_UNCONFIRMED, Ack, Unconfirmed, Unfit, read_ack
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.kept import Reading
from agent.resend import read_request
from agent.seek import block_of
from agent.state import State
from agent.uplink import Uplink
from buffer.block import decode_block, read_header

RECEIVER = Path(__file__).parents[2] / "docs" / "receiver.py"
GOOD = {"stream": "main", "epoch": "00" * 8, "up_to": 5, "digest": "11" * 32, "missing": [[1, 2], [4, 4]]}


def headers(broker: Hostile):
    """Give the header and digest of each block that arrived, in order of arrival."""
    blocks = [decode_block(payload) for topic, payload in broker.arrived if "/block/" in topic]
    return [(read_header(block.envelope), block.digest) for block in blocks]


def ack_of(broker: Hostile, **changes: object) -> bytes:
    """Confirm everything that arrived."""
    header, digest = max(headers(broker), key=lambda pair: pair[0].seq)
    ack = {"stream": "main", "epoch": header.epoch.hex(), "up_to": header.seq, "digest": digest.hex(), "missing": []}
    return json.dumps({**ack, **changes}).encode()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.05)


async def test_a_block_is_acknowledged_by_the_platforms_word_alone(tmp_path: Path) -> None:
    """The PUBACK leaves it pending; the right digest of the last one settles all before it."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        numbers = await filled(bench)
        async with carrying(bench, broker, confirm_within_s=60.0) as health:
            await until(lambda: len(broker.blocks()) == bench.recorder.head("main"))
            await asyncio.sleep(0.1)
            assert health.pending["main"] >= len(numbers)
            broker.tell(f"{ROOT}/ack", ack_of(broker))
            await delivered(health)
            assert len(headers(broker)) == len(broker.blocks()), "nothing was sent twice"


WRONG = [
    b"",
    b"\xff",
    b"[]",
    b"[" * 15_000,
    b"x" * 20_000,
    json.dumps({**GOOD, "stream": 7}).encode(),
    json.dumps({**GOOD, "epoch": "zz" * 8}).encode(),
    json.dumps({**GOOD, "epoch": "00"}).encode(),
    json.dumps({**GOOD, "up_to": True}).encode(),
    json.dumps({**GOOD, "up_to": 2**50}).encode(),
    json.dumps({**GOOD, "up_to": 0}).encode(),
    json.dumps({**GOOD, "missing": None}).encode(),
    json.dumps({**GOOD, "missing": [[2, 1]]}).encode(),
    json.dumps({**GOOD, "missing": [[1, 5]]}).encode(),
    json.dumps({**GOOD, "missing": [[1, 1]] * 1001}).encode(),
]


@pytest.mark.parametrize("payload", WRONG)
def test_a_confirmation_that_is_not_one_is_unfit(payload: bytes) -> None:
    """Judged whole, before anything changes."""
    with pytest.raises(Unfit):
        read_ack(payload)


def test_a_confirmation_says_what_it_says() -> None:
    """Growth: unknown keys are left alone."""
    ack = read_ack(json.dumps({**GOOD, "later": 1}).encode())
    assert ack == Ack("main", bytes(8), 5, b"\x11" * 32, ((1, 2), (4, 4)))


async def test_a_wrong_confirmation_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """Unknown epoch, wrong digest, another stream, retained, nonsense."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, confirm_within_s=60.0) as health:
            await until(lambda: len(broker.blocks()) == bench.recorder.head("main"))
            pending = health.pending["main"]
            for wrong in ({"digest": "00" * 32}, {"epoch": "00" * 8}, {"stream": "side"}, {"up_to": 1}):
                broker.tell(f"{ROOT}/ack", ack_of(broker, **wrong))
            broker.tell(f"{ROOT}/ack", ack_of(broker), retain=True)
            broker.tell(f"{ROOT}/ack", b"nonsense")
            broker.tell(f"{ROOT}/resend", json.dumps({"stream": "main", "from": 1, "to": 9}).encode())
            await until(lambda: ("message-ignored", "province/ack") in bench.recorder._gathering.merged)
            await asyncio.sleep(0.3)
            assert health.pending["main"] >= pending
            assert len(headers(broker)) == len(broker.blocks()), "a resend that is not accepted is not obeyed"


async def test_what_the_platform_misses_is_sent_again(tmp_path: Path) -> None:
    """And nothing else; it is confirmed by a later word."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, confirm_within_s=60.0) as health:
            await until(lambda: len(broker.blocks()) == bench.recorder.head("main"))
            broker.tell(f"{ROOT}/ack", ack_of(broker, missing=[[2, 3]]))
            await until(lambda: health.pending == {"main": 2} and len(headers(broker)) == len(broker.blocks()) + 2)
            assert [header.seq for header, _ in headers(broker)[-2:]] == [2, 3]
            broker.tell(f"{ROOT}/ack", ack_of(broker))
            await delivered(health)


async def test_a_silent_platform_gets_one_block_again_and_again_more_rarely(tmp_path: Path) -> None:
    """Bounded, with an alarm; and a word that comes late counts."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, confirm_within_s=0.2) as health:
            await until(lambda: health.refusal is not None and health.refusal[0] == "agent.unconfirmed")
            sent = len(headers(broker))
            await asyncio.sleep(1.5)
            assert 1 <= len(headers(broker)) - sent <= 4
            broker.tell(f"{ROOT}/ack", ack_of(broker))
            await delivered(health)
            assert health.refusal is None


def test_the_table_of_the_unconfirmed_is_bounded(tmp_path: Path) -> None:
    """No room above the bound; after a silence there is room for one, then for twice as many."""

    class Facts:
        epoch, seq = bytes(8), 0

    table = Unconfirmed(10.0)
    for position in range(1, MOST_UNCONFIRMED + 1):
        assert table.room(0)
        Facts.seq = position
        table.land("main", position, Facts, b"%d" % position, 0.0)  # type: ignore[arg-type]
    assert not table.room(0)
    assert len(table.overdue(10.0)) == MOST_UNCONFIRMED
    assert table.overdue(10.0) == []
    Facts.seq = 1
    table.land("main", 1, Facts, b"1", 10.0)  # type: ignore[arg-type]
    assert not table.room(0)
    assert table.wait_s(10.0) == 20.0
    assert table.take(Ack("main", bytes(8), 1, b"1", ())).confirmed == (1,)
    assert table.room(0)
    assert table.digest(Ack("main", bytes(8), 2, b"2", ())) == b"2"
    assert table.digest(Ack("main", b"other---", 2, b"2", ())) is None


def test_the_table_is_bounded_where_one_stream_is_confirmed_and_another_never() -> None:
    """The word for the one makes room for ever more of the other; what goes from the table is pending again."""

    class Facts:
        epoch, seq = bytes(8), 0

    table = Unconfirmed(10.0)
    for position in range(1, 3 * MOST_UNCONFIRMED):
        Facts.seq = position
        assert table.room(0)
        table.land("main", position, Facts, b"m", 50.0 * position)  # type: ignore[arg-type]
        table.land("side", position, Facts, b"s", 50.0 * position)  # type: ignore[arg-type]
        assert table.take(Ack("main", bytes(8), position, b"m", ())).confirmed == (position,)
        assert table.overdue(50.0 * position + 25.0) == [("side", position)]
    assert len(table._landed) <= MOST_UNCONFIRMED
    assert table.digest(Ack("side", bytes(8), position, b"s", ())) == b"s"


async def test_a_word_that_comes_while_the_block_is_under_way_again_is_the_last(tmp_path: Path) -> None:
    """The late PUBACK of the repeat makes nothing unconfirmed."""
    async with Bench(tmp_path / "buffer.db") as bench:
        await filled(bench)
        head = bench.recorder.head("main")
        plan = Plan(acts=(ACKED,) * head + (DELAY,) * 40, delay_s=1.0)
        async with Hostile([plan]) as broker, carrying(bench, broker, confirm_within_s=0.3) as health:
            await until(lambda: len(headers(broker)) > head)
            broker.tell(f"{ROOT}/ack", ack_of(broker))
            await delivered(health)
            await asyncio.sleep(2.5)
            assert health.refusal is None
            assert len(headers(broker)) == head + 1


async def test_a_confirmation_of_blocks_sent_before_a_restart_is_looked_up_in_the_store(tmp_path: Path) -> None:
    """The epoch before, and a digest that only the store knows: it is judged, and nothing of this epoch is settled."""
    path = tmp_path / "buffer.db"
    async with Hostile() as broker:
        async with Bench(path) as bench, carrying(bench, broker, confirm_within_s=60.0):
            await filled(bench)
            await until(lambda: len(broker.blocks()) >= bench.recorder.head("main"))
        late = ack_of(broker)
        async with Bench(path) as bench, carrying(bench, broker, confirm_within_s=60.0) as health:
            before = bench.recorder.head("main")
            await until(lambda: len(headers(broker)) > 2 * before - 3 and health.connected)
            confirmed = json.loads(late)["up_to"]
            async with asyncio.timeout(60):
                while health.pending["main"] > bench.recorder.head("main") - confirmed:
                    broker.tell(f"{ROOT}/ack", late)  # again: whoever does not listen yet does not hear
                    await asyncio.sleep(0.1)
            assert health.pending["main"] >= 1


@pytest.mark.parametrize(
    "asked",
    [
        {"from": 2, "to": 4},
        {"from": "2000-01-01T00:00:00Z", "to": "2999-01-01T00:00:00+07:00"},
        {"boot": "", "from_ns": 0, "to_ns": 2**62},
    ],
)
async def test_what_was_acknowledged_is_sent_again_on_request_and_no_cursor_moves(tmp_path: Path, asked: dict) -> None:
    """By number, by wall time, by boot time."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, resend=True) as health:
            await delivered(health)
            sent, settled = len(headers(broker)), list(bench.recorder.settled("province", "main"))
            if "boot" in asked:
                asked["boot"] = headers(broker)[0][0].boot_id.hex()
            broker.tell(f"{ROOT}/resend", json.dumps({"stream": "main", **asked}).encode())
            more = 3 if asked["from" if "from" in asked else "boot"] == 2 else sent
            await until(lambda: len(headers(broker)) >= sent + more)
            await asyncio.sleep(0.2)
            assert len(headers(broker)) == sent + more
            assert len(broker.blocks()) == sent
            if more == 3:
                assert [header.seq for header, _ in headers(broker)[-3:]] == [2, 3, 4]
            assert list(bench.recorder.settled("province", "main")) == settled
            assert health.pending == {"main": 0}


@pytest.mark.parametrize(
    "request_",
    [
        {"from": 4, "to": 2},
        {"from": 0, "to": 2},
        {"from": "yesterday", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"boot": "00" * 16, "from_ns": -1, "to_ns": 1},
        {"boot": "00" * 16, "from_ns": 2, "to_ns": 1},
        {"boot": "00", "from_ns": 1, "to_ns": 1},
        {},
    ],
)
def test_a_request_that_is_not_one_is_unfit(request_: dict) -> None:
    """Judged whole, before anything is read."""
    with pytest.raises(Unfit):
        read_request(json.dumps({"stream": "main", **request_}).encode())


async def test_a_block_is_found_by_its_number_beside_damaged_ones(tmp_path: Path) -> None:
    """Of a damaged payload the envelope is there; what is not sealed yet is not."""
    path = tmp_path / "buffer.db"
    async with Bench(path) as bench:
        await filled(bench)
        head = bench.recorder.head("main")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position IN (4, 5)")
    db.close()
    async with Bench(path) as bench:
        read = bench.recorder.read
        for seq in (1, 2, 3, 6, 7, head):
            kept = await block_of(read, "main", head, seq)
            assert kept is not None
            assert (kept.position, read_header(kept.block.envelope).seq) == (seq, seq)
        for seq in (4, 5):
            kept = await block_of(read, "main", head, seq)
            assert kept is not None
            assert kept.block.payload is None
        for seq in (0, head + 9):
            assert await block_of(read, "main", head, seq) is None


async def test_a_number_whose_block_is_gone_is_not_found_and_nothing_is_read_for_ever() -> None:
    """Nothing stands there, nothing is damaged: then what is behind it counts, and at the end there is nothing."""
    held = [kept for kept in sealed() if kept.position != 2]

    async def read(stream: str, first: int, last: int, max_bytes: int) -> Reading:
        return Reading(tuple(kept for kept in held if first <= kept.position <= last)[:1], ())

    for kept in held:
        found = await block_of(read, "main", 10, read_header(kept.block.envelope).seq)
        assert found is not None
        assert found.position == kept.position
    assert await block_of(read, "main", 10, 2) is None
    assert await block_of(read, "main", 10, 9) is None
    assert await block_of(read, "main", 0, 1) is None


@pytest.mark.parametrize("stream", ["side", "nowhere"])
async def test_a_stream_that_the_platform_is_not_given_cannot_be_asked_for(tmp_path: Path, stream: str) -> None:
    """Neither one that exists nor one that does not; and the uplink goes on."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        await bench.sealed(3, group=SIDE_GROUP)
        async with carrying(bench, broker, resend=True) as health:
            await delivered(health)
            broker.tell(f"{ROOT}/resend", json.dumps({"stream": stream, "from": 1, "to": 9}).encode())
            await until(lambda: ("message-ignored", "province/resend") in bench.recorder._gathering.merged)
            await bench.sealed(77)
            await delivered(health)
            assert not [topic for topic, _ in broker.arrived if "/block/side" in topic]


async def test_too_many_requests_are_told_and_dropped(tmp_path: Path) -> None:
    """A request costs reading; four wait, the rest is refused."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, resend=True) as health:
            await delivered(health)
            for _ in range(30):
                broker.tell(f"{ROOT}/resend", json.dumps({"stream": "main", "from": 1, "to": 9}).encode())
            await until(lambda: ("message-ignored", "province/resend") in bench.recorder._gathering.merged)
            sent = len(broker.blocks())
            await asyncio.sleep(1.0)
            assert len(headers(broker)) <= sent + 6 * sent


async def test_the_reference_receiver_keeps_each_block_once_and_confirms_it(tmp_path: Path, platform: Platform) -> None:
    """The program of docs/receiver.py as a process, over mosquitto with mutual TLS; it is killed in between."""
    kept = tmp_path / "kept"
    kept.mkdir()
    pair = platform.authority.issue("receiver")
    files = (str(platform.authority.ca), str(pair.cert), str(pair.key))

    async def start(bench: Bench) -> asyncio.subprocess.Process:
        arguments = ("localhost", str(platform.broker.port), ROOT, bench.key.public_key.hex(), str(kept), *files)
        return await asyncio.create_subprocess_exec(sys.executable, str(RECEIVER), *arguments)

    async with Bench(tmp_path / "buffer.db") as bench:
        health = bench.health.uplinks["province"] = UplinkHealth(("main",))
        carriage = Carriage("province", ROOT, ("main",), Signed(ROOT), confirm_within_s=1.0)
        endpoints = [platform.endpoint("station-1")]
        uplink = Uplink(
            carriage,
            endpoints,
            bench.recorder,
            health,
            State(bench.health, "province", bench.clock.boot_ns),
            random.Random(1),
        )
        task = asyncio.create_task(uplink.run())
        receiver = await start(bench)
        try:
            numbers = await filled(bench)
            await until(lambda: health.pending == {"main": 0})
            receiver.kill()
            await receiver.wait()
            await bench.sealed(99)
            receiver = await start(bench)
            async with await connect(platform.endpoint("attacker")) as attacker:
                await attacker.publish(Message(f"{ROOT}/block/main", b"not a block"))
            await until(lambda: health.pending == {"main": 0})
        finally:
            receiver.kill()
            await receiver.wait()
            task.cancel()
            await asyncio.wait([task])
        found = [decode_block(file.read_bytes()) for file in kept.glob("*.block")]
        seen = sorted(number for block in found for number in numbers_in(block, LAYOUT, bench.key.public_key))
        assert seen == [*numbers, 99]
