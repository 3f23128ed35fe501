"""B4: a block is acknowledged to an uplink only by the success of every publish made from it."""

import asyncio
import contextlib
import dataclasses
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rig import LAYOUT, SIDE_GROUP, Bench, Platform, numbers_in, until

from agent.broker import Endpoint, Message, Session, connect
from agent.carrier import Carriage
from agent.errors import BrokerDown
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink
from buffer.block import decode_block
from buffer.errors import BufferUnreadable

ROOT = "trambien/v1/station-1"


class Nowhere:
    """A platform that is not there."""

    def endpoint(self, name: str, **_: object) -> Endpoint:
        """Give an address at which nobody answers."""
        return Endpoint("localhost", 1, name)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr("agent.carrier.REFUSED_PAUSES_S", (0.1,))
    monkeypatch.setattr("agent.carrier.UNHEARD_PAUSES_S", (0.1,))


@asynccontextmanager
async def carrying(
    bench: Bench, platform: Platform, streams: tuple[str, ...] = ("main",), **changes: object
) -> AsyncIterator[UplinkHealth]:
    """Run an uplink."""
    health = bench.health.uplinks["province"] = UplinkHealth(streams)
    uplink = Uplink(
        Carriage("province", ROOT, streams, Signed(ROOT)),
        (platform.endpoint("station-1", **changes),),
        bench.recorder,
        health,
        State(bench.health, "province", bench.clock.boot_ns),
        random.Random(1),
    )
    task = asyncio.create_task(uplink.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def listening(platform: Platform, *topics: str) -> AsyncIterator[list[Message]]:
    """Subscribe as a platform does, and again when the broker comes back."""
    received: list[Message] = []

    async def listen() -> None:
        while True:
            with contextlib.suppress(Exception):
                async with await connect(platform.endpoint("platform")) as session:
                    session.on_message = received.append
                    await session.subscribe(*topics)
                    await session.ended
            await asyncio.sleep(0.05)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.3)
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.wait([task])


def arrived(messages: list[Message], bench: Bench) -> list[int]:
    """Give the numbers in the blocks that arrived."""
    blocks = [decode_block(message.payload) for message in messages if "/block/main" in message.topic]
    whole = [block for block in blocks if block.payload is not None]
    return [number for block in whole for number in numbers_in(block, LAYOUT, bench.key.public_key)]


async def test_a_block_with_a_success_code_is_acknowledged(tmp_path: Path, platform: Platform) -> None:
    """The plain case, and the acknowledgement outlives the process: nothing is sent twice."""
    async with listening(platform, f"{ROOT}/#") as messages:
        async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
            await bench.sealed(1, 2)
            await until(lambda: health.pending == {"main": 0})
            assert sorted(set(arrived(messages, bench))) == [1, 2]
        sent = len(messages)
        async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
            await until(lambda: health.connected and bool(bench.committed) and health.pending == {"main": 0})
            await bench.sealed(3)
            await until(lambda: health.pending == {"main": 0})
        assert arrived(messages[sent:], bench) == [3]


async def test_a_block_nobody_is_subscribed_to_stays_pending(tmp_path: Path, platform: Platform) -> None:
    """Reason code 0x10 is no success: the block is sent again until somebody gets it."""
    async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
        await bench.sealed(1)
        await until(lambda: health.refusal is not None and health.refusal[0] == "agent.no-subscriber")
        assert health.pending["main"] > 0
        assert not health.acknowledged
        async with listening(platform, f"{ROOT}/block/#") as messages:
            await until(lambda: health.pending == {"main": 0})
            assert arrived(messages, bench) == [1]
            assert health.refusal is None


async def test_a_refused_block_stays_pending_and_raises_an_alarm(tmp_path: Path, platform: Platform) -> None:
    """Reason code 0x87, which the library calls published."""
    await platform.broker.kill()
    acl = tmp_path / "acl"
    acl.write_text(f"user platform\ntopic read #\nuser station-1\ntopic write {ROOT}/online\n")
    platform.broker.extra = (f"acl_file {acl}",)
    await platform.broker.start()
    async with listening(platform, f"{ROOT}/block/#") as messages:
        async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
            await bench.sealed(1)
            await until(lambda: health.refusal is not None and health.refusal[0] == "agent.publish-refused")
            assert health.pending["main"] > 0
            await platform.broker.kill()
            acl.write_text(f"user platform\ntopic read #\nuser station-1\ntopic write {ROOT}/#\n")
            await platform.broker.start()
            await until(lambda: health.pending == {"main": 0})
            await until(lambda: 1 in arrived(messages, bench))


async def test_what_was_in_flight_when_the_broker_died_is_sent_again_with_the_same_bytes(
    tmp_path: Path, platform: Platform
) -> None:
    """No PUBACK, no acknowledgement; the repeat is byte for byte the same."""
    async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
        async with listening(platform, f"{ROOT}/block/#") as before:
            await bench.sealed(1)
            await until(lambda: health.pending == {"main": 0})
            platform.broker.suspend()
            await bench.sealed(2, 3)
            await asyncio.sleep(0.2)
            assert health.pending["main"] > 0
            await platform.broker.kill()
            await platform.broker.start()
            await until(lambda: health.pending == {"main": 0})
            await until(lambda: {1, 2, 3} <= set(arrived(before, bench)))
    payloads = [message.payload for message in before]
    blocks = {decode_block(payload).digest for payload in payloads}
    assert len(set(payloads)) == len(blocks)


async def test_a_platform_gets_no_byte_of_a_stream_it_is_not_given(tmp_path: Path, platform: Platform) -> None:
    """Neither blocks nor layouts nor the state of the other stream's devices."""
    async with listening(platform, "#") as messages:
        async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform) as health:
            await bench.sealed(1)
            await bench.sealed(7, group=SIDE_GROUP)
            await until(lambda: health.pending == {"main": 0})
            await asyncio.sleep(0.3)
    assert any("/block/main" in message.topic for message in messages)
    assert not any("side" in message.topic or b"press" in message.payload for message in messages)


async def test_layouts_and_catalogue_come_before_the_first_block(tmp_path: Path, platform: Platform) -> None:
    """Retained, so that a receiver that arrives late can read everything."""
    async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform):
        async with listening(platform, f"{ROOT}/#") as messages:
            await bench.sealed(1)
            await until(lambda: 1 in arrived(messages, bench))
        async with listening(platform, f"{ROOT}/#") as late:
            await until(lambda: sum(message.retain for message in late) >= 4)
    kinds = [message.topic.split("/")[3] for message in late]
    assert {"online", "state", "layout", "catalogue"} <= set(kinds)


async def test_a_store_that_cannot_be_read_for_a_while_delays_and_loses_nothing(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to the file breaks: reading waits, the next commit opens it again, everything arrives."""
    monkeypatch.setattr("agent.recorder.RECENT_BYTES", 1)
    monkeypatch.setattr("agent.carrier.UNREADABLE_PAUSE_S", 0.1)
    async with listening(platform, f"{ROOT}/block/#") as messages:
        async with Bench(tmp_path / "buffer.db", seal_every_s=60) as bench:
            await bench.sealed(1)
            await bench.owner.call(bench.keeper._file.store._db.close)
            async with carrying(bench, platform) as health:
                await until(lambda: health.connected)
                await asyncio.sleep(0.3)
                assert health.pending["main"] > 0
                bench.add(2)
                bench.recorder._urgent.set()
                await until(lambda: health.pending == {"main": 0} and 2 in bench.numbers())
    assert sorted(set(arrived(messages, bench))) == [1, 2]


async def test_a_block_found_damaged_is_lost_for_the_uplink_and_named_and_the_rest_is_delivered(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing damaged is sent."""
    monkeypatch.setattr("agent.recorder.RECENT_BYTES", 1)
    path = tmp_path / "buffer.db"
    async with Bench(path) as bench:
        for number in (1, 2, 3):
            await bench.sealed(number)
    hurt = next(
        kept
        for kept in bench.committed
        if kept.stream == "main" and numbers_in(kept.block, LAYOUT, bench.key.public_key) == [2]
    )
    with sqlite3.connect(path) as db:
        db.execute("UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position = ?", (hurt.position,))
    db.close()
    async with listening(platform, f"{ROOT}/block/#") as messages:
        async with Bench(path) as bench, carrying(bench, platform) as health:
            await until(lambda: bool(bench.committed) and health.pending == {"main": 0})
        assert bench.health.streams["main"].damaged == 1
    assert sorted(set(arrived(messages, bench))) == [1, 3]


async def test_a_block_that_the_broker_cannot_take_is_parked_and_the_rest_is_delivered(
    tmp_path: Path, platform: Platform
) -> None:
    """With an event; it is neither looped on nor forgotten."""
    await platform.broker.kill()
    platform.broker.extra = ("max_packet_size 5000",)
    await platform.broker.start()
    path = tmp_path / "buffer.db"
    async with listening(platform, f"{ROOT}/block/#") as messages:
        async with Bench(path) as bench, carrying(bench, platform) as health:
            await bench.sealed(1)
            await bench.sealed(*(hash((number, "x")) % 2**32 for number in range(4000)))
            await bench.sealed(2)
            await until(lambda: health.pending == {"main": 0} and "too-large" in health.lost)
            assert health.refusal is None or health.refusal[0] == "agent.too-large"
            assert not bench.recorder.settled("province", "main").covers(1, bench.recorder.head("main"))
        assert {1, 2} <= set(arrived(messages, bench))


async def test_a_broker_that_is_away_for_thousands_of_attempts_is_still_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of outage are what the station is for."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.0)
    attempts = 0

    async def nobody(*_: object) -> object:
        nonlocal attempts
        attempts += 1
        raise BrokerDown("agent.broker-unreachable", address="x", reason="y")

    monkeypatch.setattr("agent.uplink.connect", nobody)
    async with Bench(tmp_path / "buffer.db") as bench:
        async with carrying(bench, Nowhere()) as health:  # type: ignore[arg-type]
            await until(lambda: attempts > 3000)
            assert not health.connected


async def test_a_damaged_layout_is_not_published(tmp_path: Path) -> None:
    """Each must have the hash it is named by; the present settings know it too."""
    path = tmp_path / "buffer.db"
    async with Bench(path) as bench:
        await bench.sealed(1)
        catalogue = bench.committed[-1].catalogue
        whole = await bench.recorder.definition(catalogue)
        await bench.owner.call(lambda: bench.keeper._file.store._db.execute("UPDATE layout SET encoded = x'00'"))
        assert await bench.recorder.definition(catalogue) == whole
        await bench.owner.call(bench.keeper._site.catalogues.clear)
        with pytest.raises(BufferUnreadable):
            await bench.recorder.definition(catalogue)
        bench.keeper._site.catalogues.update(main=(LAYOUT,), side=(SIDE_GROUP.layout,))


async def test_no_more_is_in_flight_than_the_window_layouts_included(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside them only `online` and `state`; what the server allows is kept by the session itself."""
    plain, under_way, most = Session.publish, [0], [0]

    def publish(self: Session, message: Message) -> asyncio.Future[int]:
        answer = plain(self, message)
        if message.topic.endswith(("/online", "/state")):
            return answer
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        answer.add_done_callback(lambda _: under_way.__setitem__(0, under_way[0] - 1))
        return answer

    monkeypatch.setattr(Session, "publish", publish)
    async with Bench(tmp_path / "buffer.db") as bench:
        more = (dataclasses.replace(LAYOUT, device=f"d{number}") for number in range(40))
        bench.keeper._site.catalogues["main"] = (LAYOUT, *more)
        for number in range(1, 9):
            await bench.sealed(number)
        async with listening(platform, f"{ROOT}/block/#"), carrying(bench, platform, window=5) as health:
            await until(lambda: health.pending == {"main": 0})
    assert 3 <= most[0] <= 5
