"""How a carrier sends what a format makes of blocks: real store, real broker, mutual TLS."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from golden import Nowhen
from rig import LAYOUT, Bench, Platform, until

from agent.broker import Message, Session, connect
from agent.carrier import Carriage
from agent.formats.api import Answer, CannotTell, Opened
from agent.formats.opening import Points
from agent.formats.teller import Reencoded
from agent.health import UplinkHealth
from agent.kept import Kept
from agent.state import State
from agent.uplink import Uplink
from buffer.block import ClockQuality, payload_bytes, read_header
from buffer.columnar import decode_payload

ROOT = "trambien/v1/station-1"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr("agent.carrier.REFUSED_PAUSES_S", (0.1,))
    monkeypatch.setattr("agent.carrier.UNHEARD_PAUSES_S", (0.1,))


@dataclass
class Each:
    """A format of tests: a message a frame, named by its number, said a few times over."""

    times: int = 1
    timed: bool = False
    size: int = 1
    unfit: int | None = None
    house: bool = True
    made: int = 0
    forgotten: int = 0
    asked: list[int] = field(default_factory=list)

    def try_on(self, *_: object) -> None:
        """Do nothing."""

    def converse(self) -> "Each":
        """Begin a session."""
        return self

    def forget(self) -> None:
        """Note it."""
        self.forgotten += 1

    def messages(self, opened: Opened) -> Answer:
        """Give the messages, or what there is instead."""
        self.asked.append(opened.header.seq)
        return (opened.untimed() if self.timed else None) or self._tell(opened)

    def _tell(self, opened: Opened) -> Iterator[Message]:
        numbers = [int(frame.values[0] or 0) for _, frames in opened.payload.frames for frame in frames]
        for number in numbers:
            for again in range(self.times):
                if number == self.unfit and again == self.times - 1:
                    raise CannotTell("template", "as asked")
                self.made += 1
                yield Message(f"own/{number}/{again}", bytes(self.size))


@asynccontextmanager
async def carrying(
    bench: Bench, platform: Platform, made: Each, placer: Nowhen | None = None, **changes: object
) -> AsyncIterator[UplinkHealth]:
    """Run an uplink that tells blocks in a format."""
    health = bench.health.uplinks["province"] = UplinkHealth(("main",))
    uplink = Uplink(
        Carriage("province", ROOT, ("main",), Reencoded(made, Points(None), placer or Nowhen())),
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
    """Subscribe as a platform does."""
    async with await connect(platform.endpoint("platform")) as session:
        received: list[Message] = []
        session.on_message = received.append
        await session.subscribe(*topics)
        yield received


def settled(bench: Bench, number: int) -> bool:
    """Say whether the block that holds a frame is acknowledged."""
    position = next(kept.position for kept in bench.committed if kept.stream == "main" and holds(kept, number))
    return bench.recorder.settled("province", "main").covers(position, position)


def holds(kept: Kept, number: int) -> bool:
    """Say whether a block holds a frame."""
    header = read_header(kept.block.envelope)
    return header.readings > 0 and number in [
        frame.values[0]
        for _, frames in decode_payload(payload_bytes(kept.block, header), (LAYOUT,)).frames
        for frame in frames
    ]


async def test_a_block_of_more_publishes_than_the_window_goes_out_as_the_window_allows(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more under way than the window, never more made than sent and one, and the block is acknowledged once."""
    under_way = most = ahead = 0
    publish = Session.publish
    made = Each(times=100)

    def counted(self: Session, message: Message) -> asyncio.Future[int]:
        nonlocal under_way, most, ahead
        answer = publish(self, message)
        if message.topic.startswith("own/"):
            under_way += 1
            most, ahead = max(most, under_way), max(ahead, made.made - counted.sent)
            counted.sent += 1
            answer.add_done_callback(lambda _: landed())
        return answer

    def landed() -> None:
        nonlocal under_way
        under_way -= 1

    counted.sent = 0
    monkeypatch.setattr(Session, "publish", counted)
    async with listening(platform, "own/#") as messages, Bench(tmp_path / "buffer.db") as bench:
        async with carrying(bench, platform, made, window=10) as health:
            await bench.sealed(1, 2, 3)
            await until(lambda: health.pending == {"main": 0})
            await until(lambda: len(messages) >= 300)
            assert settled(bench, 1)
    assert len({one.topic for one in messages}) == 300
    assert 2 <= most <= 10
    assert ahead <= 1


async def test_a_block_is_acknowledged_only_when_every_publish_of_it_succeeded(
    tmp_path: Path, platform: Platform
) -> None:
    """One topic of five refused: pending, named, told again as a whole; then it is allowed and all is well (B4)."""
    await platform.broker.kill()
    acl = tmp_path / "acl"
    allowed = "user platform\ntopic read #\nuser station-1\ntopic write trambien/#\n"
    acl.write_text(allowed + "".join(f"topic write own/1/{again}\n" for again in (0, 1, 2, 4)))
    platform.broker.extra = (f"acl_file {acl}",)
    await platform.broker.start()
    made = Each(times=5)
    async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform, made) as health:
        async with listening(platform, "own/#"):
            await bench.sealed(1)
            await until(lambda: health.refusal is not None and health.refusal[0] == "agent.publish-refused")
            assert health.refusal[1]["topic"] == "own/1/3"
            assert not settled(bench, 1)
        await platform.broker.kill()
        acl.write_text(allowed + "topic write own/#\n")
        await platform.broker.start()
        async with listening(platform, "own/#") as messages:
            await until(lambda: settled(bench, 1))
            await until(lambda: {one.topic for one in messages} == {f"own/1/{again}" for again in range(5)})


async def test_a_format_forgets_what_it_had_told_when_a_publish_of_it_failed(
    tmp_path: Path, platform: Platform
) -> None:
    """Nobody was subscribed: what introduces a device must be said again."""
    made = Each(times=3)
    async with Bench(tmp_path / "buffer.db") as bench, carrying(bench, platform, made) as health:
        await bench.sealed(1)
        await until(lambda: made.forgotten > 1 and health.refusal is not None)
        assert health.refusal[0] == "agent.no-subscriber"
        assert not settled(bench, 1)
        async with listening(platform, "own/#"):
            await until(lambda: settled(bench, 1))
            assert health.refusal is None


async def test_held_blocks_stay_pending_and_go_once_their_time_is_known(tmp_path: Path, platform: Platform) -> None:
    """Each is looked at once while it waits; none is lost, none is skipped."""
    made, placer = Each(timed=True), Nowhen()
    async with listening(platform, "own/#") as messages, Bench(tmp_path / "buffer.db") as bench:
        unsynchronise(bench)
        async with carrying(bench, platform, made, placer) as health:
            await bench.sealed(1)
            await bench.sealed(2)
            await until(lambda: len(made.asked) >= 2)
            await asyncio.sleep(0.3)
            waiting = len(made.asked)
            assert waiting == len(set(made.asked))
            assert messages == []
            assert health.pending["main"] >= 2
            placer.known[bench.clock.boot_id] = 5
            await bench.sealed(3)
            await until(lambda: health.pending == {"main": 0})
            await until(lambda: {one.topic for one in messages} >= {"own/1/0", "own/2/0", "own/3/0"})
    assert health.lost == {}


async def test_blocks_of_a_boot_without_time_are_skipped_counted_and_kept(tmp_path: Path, platform: Platform) -> None:
    """Lost for the uplink with a reason, one event for many, and offered again after a restart."""
    made = Each(timed=True)
    async with listening(platform, "own/#") as messages, Bench(tmp_path / "buffer.db") as bench:
        unsynchronise(bench)
        async with carrying(bench, platform, made, Nowhen(bench.clock.boot_id)) as health:
            await bench.sealed(1)
            await bench.sealed(2)
            await until(lambda: health.pending == {"main": 0})
            assert health.lost["untimed"] >= 2
            assert not settled(bench, 1)
        merged = [key for key in bench.recorder._gathering.merged if key[0] == "blocks-skipped"]
        assert merged == [("blocks-skipped", "province/main")]
        async with carrying(bench, platform, made, Nowhen(known={bench.clock.boot_id: 5})) as health:
            await until(lambda: settled(bench, 1) and settled(bench, 2))
        await until(lambda: {one.topic for one in messages} >= {"own/1/0", "own/2/0"})


def unsynchronise(bench: Bench) -> None:
    """Let the station's wall clock be worth nothing."""
    true = bench.clock.moment
    bench.keeper._moment = lambda: true()._replace(clock=ClockQuality("unsynchronised", None, "kernel"))


async def test_a_block_that_turns_out_untellable_is_parked_with_its_reason(tmp_path: Path, platform: Platform) -> None:
    """What was sent of it is waited for, and the rest of the backlog goes on."""
    async with listening(platform, "own/#") as messages, Bench(tmp_path / "buffer.db") as bench:
        async with carrying(bench, platform, Each(times=3, unfit=2)) as health:
            await bench.sealed(1)
            await bench.sealed(2)
            await bench.sealed(3)
            await until(lambda: health.pending == {"main": 0})
            await until(lambda: {"own/1/2", "own/3/2"} <= {one.topic for one in messages})
            assert health.lost == {"template": 1}
            assert not settled(bench, 2)
    assert "own/2/2" not in {one.topic for one in messages}


async def test_a_message_that_the_broker_cannot_take_parks_its_block(tmp_path: Path, platform: Platform) -> None:
    """Whichever of its messages it is."""
    await platform.broker.kill()
    platform.broker.extra = ("max_packet_size 5000",)
    await platform.broker.start()
    async with listening(platform, "own/#"), Bench(tmp_path / "buffer.db") as bench:
        async with carrying(bench, platform, Each(size=6000)) as health:
            await bench.sealed(1)
            await until(lambda: health.pending == {"main": 0})
            assert health.lost == {"too-large": 1}


async def test_a_block_with_nothing_to_tell_is_done_and_proves_nothing(tmp_path: Path, platform: Platform) -> None:
    """Events alone make no publish here: acknowledged, while what the broker refused before still stands."""
    async with listening(platform, "own/#"), Bench(tmp_path / "buffer.db") as bench:
        async with carrying(bench, platform, Each()) as health:
            await until(lambda: bool(bench.committed) and health.pending == {"main": 0})
            health.refusal = ("agent.publish-refused", {"topic": "own/0/0"})
            before = health.acknowledged["main"]
            bench.recorder.event("door-open", urgent=True)
            await until(lambda: health.acknowledged["main"] > before)
            assert health.refusal is not None
            await bench.sealed(1)
            await until(lambda: settled(bench, 1))
            assert health.refusal is None
