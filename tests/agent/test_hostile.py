"""Uplinks against a broker that does everything wrong: whatever it does, every block is delivered.

`TRAMBIEN_SCHEDULES=2000` runs the long random search; the ordinary run is a smoke of it.
"""

import asyncio
import os
import random
from pathlib import Path

import hostile
import pytest
from carrying import ROOT, carrying, delivered, effects, filled
from hostile import Hostile, Plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import SIDE_GROUP, Bench, until
from steady import SteadyLoop

from agent.broker import Endpoint, Message, connect
from agent.carrier import Carriage
from agent.errors import BrokerDown, BrokerRefused
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink

SCHEDULES = int(os.environ.get("TRAMBIEN_SCHEDULES", "60"))
REFUSALS = (0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
"""Every reason code that a PUBACK may carry beside success (MQTT 5, 3.4.2.1)."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr("agent.carrier.REFUSED_PAUSES_S", (0.01,))
    monkeypatch.setattr("agent.carrier.UNHEARD_PAUSES_S", (0.01,))


ACTS = st.one_of(
    st.sampled_from(
        [
            hostile.ACK,
            hostile.LOSE,
            hostile.REPEAT,
            hostile.DELAY,
            hostile.DROP_BEFORE,
            hostile.DROP_AFTER,
            hostile.DROP_HALF,
            hostile.NONSENSE,
            hostile.STRAY,
        ]
    ),
    st.sampled_from(REFUSALS),
)
GREETINGS = st.sampled_from(
    [hostile.GOOD] * 8 + [hostile.KICK, hostile.PORTAL, hostile.MUTE_TCP, hostile.HALF_CONNACK, 0x87, 0x88, 0x97]
)
PLANS = st.builds(
    Plan,
    GREETINGS,
    st.lists(ACTS, max_size=12).map(tuple),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([None, None, 5000]),
)


@pytest.mark.timeout(3600)
def test_whatever_the_broker_does_every_block_takes_effect_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random schedules: TCP dropped at each point, PUBACKs lost, repeated, delayed and stray, every reason code."""
    monkeypatch.setattr("agent.broker.STALLED_S", 0.15)
    monkeypatch.setattr("agent.broker.WATCH_EVERY_S", 0.03)
    monkeypatch.setattr("agent.broker.CONNECT_TIMEOUT_S", 2.0)
    runs = 0
    with asyncio.Runner(loop_factory=SteadyLoop) as runner:
        bench = Bench(tmp_path / "buffer.db", seal_every_s=0.02)
        runner.run(bench.__aenter__())
        numbers = runner.run(filled(bench))

        async def one(plans: list[Plan], protocol: int, newest: bool, window: int, more: int) -> None:
            nonlocal runs
            runs += 1
            async with Hostile(list(plans)) as broker:
                changes = {"newest_first": newest, "window": window, "protocol": protocol}
                async with carrying(bench, broker, f"u{runs}", **changes) as health:
                    for _ in range(more):
                        numbers.append(len(numbers) + 1)
                        await bench.sealed(numbers[-1])
                    await delivered(health)
                assert effects(broker, bench) == numbers
                assert all(broker.accepted[digest] for digest in broker.blocks())
                assert not broker.violations if protocol == 5 else True
                assert health.lost == {}

        @settings(max_examples=SCHEDULES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(
            st.lists(PLANS, max_size=5),
            st.sampled_from([5, 5, 5, 4]),
            st.booleans(),
            st.sampled_from([1, 2, 16]),
            st.sampled_from([0, 0, 0, 1]),
        )
        def search(plans: list[Plan], protocol: int, newest: bool, window: int, more: int) -> None:
            runner.run(one(plans, protocol, newest, window, more if len(numbers) < 40 else 0))

        search()
        runner.run(bench.__aexit__())
    assert runs >= SCHEDULES


@pytest.mark.parametrize("code", REFUSALS)
async def test_every_reason_code_leaves_the_block_pending_and_is_told(tmp_path: Path, code: int) -> None:
    """Nothing but 0x00 counts."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(acts=(code,) * 4)) as broker:
        await bench.sealed(1)
        async with carrying(bench, broker) as health:
            await until(lambda: health.refusal is not None)
            told = "agent.no-subscriber" if code == 0x10 else "agent.publish-refused"
            assert health.refusal is not None
            assert health.refusal[0] == told
            assert health.refusal[1]["reason"] == f"0x{code:02X}"
            await delivered(health)
            assert health.refusal is None
        assert not [digest for digest in broker.blocks() if broker.accepted[digest] != 1]


async def test_nobody_subscribed_counts_where_the_settings_say_so(tmp_path: Path) -> None:
    """`no_subscriber: accept`: sent once, no alarm."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(acts=(0x10,) * 50)) as broker:
        await bench.sealed(1)
        async with carrying(bench, broker, unheard_counts=True) as health:
            await delivered(health)
            assert health.refusal is None
        assert len(broker.blocks()) == sum("/block/" in topic for topic, _ in broker.arrived)


async def test_a_receive_maximum_of_one_is_kept_to_the_letter(tmp_path: Path) -> None:
    """`online`, `state`, layouts and blocks together: never two unacknowledged."""
    plan = Plan(receive_maximum=1, delay_s=0.02, slow=True)
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=plan) as broker:
        numbers = await filled(bench)
        async with carrying(bench, broker) as health:
            await delivered(health)
        assert not broker.violations
        assert effects(broker, bench) == numbers
        assert {topic.split("/")[3] for topic, _ in broker.arrived} >= {"online", "state", "layout", "catalogue"}


async def test_a_packet_above_the_maximum_is_never_sent_and_tried_when_the_broker_takes_more(tmp_path: Path) -> None:
    """Parked once, told once, also over a restart; delivered as soon as that is possible."""
    path = tmp_path / "buffer.db"
    big = [hash((number, "x")) % 2**32 for number in range(300)]
    async with Hostile(after=Plan(max_packet=1000)) as broker:
        for attempt in range(2):
            async with Bench(path) as bench, carrying(bench, broker) as health:
                await bench.sealed(attempt + 1)
                if not attempt:
                    await bench.sealed(*big)
                await until(lambda: health.pending == {"main": 0} and health.lost.get("too-large", 0) >= 1)
                events = [
                    event for kept in bench.committed for event in [kept.block.payload or b""] if kept.stream == "main"
                ]
                assert events
                told = [key for key in bench.recorder._gathering.merged if key[0] == "block-parked"]
                assert bool(told) == (attempt == 0)
        assert not broker.violations
        broker.after = Plan()
        async with Bench(path) as bench, carrying(bench, broker) as health:
            await delivered(health)
        assert set(big) <= set(effects(broker, bench))


async def test_what_was_too_large_is_sent_when_the_same_broker_takes_more_later(tmp_path: Path) -> None:
    """Without a restart of ours."""
    big = [hash((number, "x")) % 2**32 for number in range(300)]
    async with Bench(tmp_path / "buffer.db") as bench, Hostile([Plan(max_packet=1000)]) as broker:
        await bench.sealed(*big)
        async with carrying(bench, broker) as health:
            await until(lambda: health.lost.get("too-large", 0) == 1)
            for connection in tuple(broker.live):
                connection.cut()
            await until(lambda: health.lost == {"too-large": 0})
            await delivered(health)
        assert set(big) <= set(effects(broker, bench))


async def test_a_refused_stream_does_not_stop_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0x87 on one topic: one block tries it, slowly; the other stream flows."""
    monkeypatch.setattr("agent.carrier.REFUSED_PAUSES_S", (30.0,))
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(acts=(0x87,))) as broker:
        await filled(bench)
        await bench.sealed(7, group=SIDE_GROUP)
        health = bench.health.uplinks["province"] = UplinkHealth(("main", "side"))
        uplink = Uplink(
            Carriage("province", ROOT, ("main", "side"), Signed(ROOT)),
            [Endpoint("127.0.0.1", broker.port, "x")],
            bench.recorder,
            health,
            State(bench.health, "province", bench.clock.boot_ns),
            random.Random(1),
        )
        task = asyncio.create_task(uplink.run())
        await until(lambda: 0 in health.pending.values())
        stopped = next(stream for stream, pending in health.pending.items() if pending)
        assert sum(f"/block/{stopped}" in topic for topic, _ in broker.arrived) == 1
        task.cancel()
        await asyncio.wait([task])


async def test_a_broker_that_freezes_is_left_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TCP lives, nothing is acknowledged: the watchdog over acknowledgements ends it, and the next session delivers."""
    monkeypatch.setattr("agent.broker.STALLED_S", 0.3)
    monkeypatch.setattr("agent.broker.WATCH_EVERY_S", 0.05)
    async with Bench(tmp_path / "buffer.db") as bench, Hostile([Plan(acts=(hostile.FREEZE,))]) as broker:
        await bench.sealed(1)
        async with carrying(bench, broker) as health:
            await until(lambda: "agent.broker-stalled" in caplog.text)
            await delivered(health)


async def test_an_idle_session_is_not_called_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in flight, nothing to wait for."""
    monkeypatch.setattr("agent.broker.STALLED_S", 0.2)
    monkeypatch.setattr("agent.broker.WATCH_EVERY_S", 0.05)
    async with Hostile() as broker, await connect(Endpoint("127.0.0.1", broker.port, "x")) as session:
        await asyncio.sleep(0.6)
        assert await session.publish(Message("a", b"1")) == 0


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (Plan(hostile.PORTAL), "agent.not-mqtt"),
        (Plan(hostile.MUTE_TCP), "agent.broker-lost"),
        (Plan(0x87), "agent.broker-refused"),
        (Plan(0x8A), "agent.broker-refused"),
    ],
)
async def test_what_answers_instead_of_a_connack_is_named(plan: Plan, code: str) -> None:
    """A captive portal has a message of its own."""
    async with Hostile([plan]) as broker:
        with pytest.raises((BrokerDown, BrokerRefused)) as caught:
            await connect(Endpoint("127.0.0.1", broker.port, "x"))
    assert caught.value.code == code


async def test_nonsense_after_the_connack_ends_the_session_with_its_name(tmp_path: Path) -> None:
    """Whatever foreign bytes do to the library's thread, the session ends."""
    async with Hostile([Plan(acts=(hostile.NONSENSE,))]) as broker:
        async with await connect(Endpoint("127.0.0.1", broker.port, "x")) as session:
            answer = session.publish(Message("a/block/b", b"1"))
            with pytest.raises(BrokerDown):
                await asyncio.wait_for(asyncio.shield(session.ended), 60)
            with pytest.raises(BrokerDown):
                await answer


async def test_the_same_client_id_twice_is_recognised_by_its_reason_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MQTT 5: 0x8E."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 5.0)
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        async with carrying(bench, broker) as health:
            await delivered(health)
            for connection in broker.live:
                connection.disconnect(0x8E)
            await until(lambda: health.error is not None and health.error[0] == "agent.taken-over")


async def test_a_connection_taken_away_again_and_again_is_recognised_without_one(tmp_path: Path) -> None:
    """MQTT 3.1.1 says nothing when another client takes the id."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(hostile.KICK)) as broker:
        async with carrying(bench, broker, protocol=4) as health:
            await until(lambda: health.error is not None and health.error[0] == "agent.taken-away")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x30\x05\x00\x02\xff\xfe\x00", "agent.not-mqtt"),
        (b"\x30\x00", "agent.broker-lost"),
        (b"\x40\x03\x00\x01\xfe", "agent.broker-lost"),
        (b"\x90\x01\x00", "agent.broker-lost"),
        (
            b"\x30\xff\xff\xff\x7f\x00\x01a\x00" + bytes(1000),
            "agent.not-mqtt",
        ),  # of 256 MB, it says
        (b"\x34\x07\x00\x01a\x00\x01\x00x", "agent.broker-lost"),  # QoS 2
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/" + b"x" * 200 + b"\r\n\r\n", "agent.broker-lost"),
    ],
)
async def test_bytes_that_break_the_library_end_the_session_at_once(raw: bytes, code: str) -> None:
    """What throws inside the library, claims more than anyone sends us, or would be kept until it is released."""
    async with Hostile() as broker, await connect(Endpoint("127.0.0.1", broker.port, "x")) as session:
        for connection in broker.live:
            connection.say(raw)
        with pytest.raises(BrokerDown) as caught:
            await asyncio.wait_for(asyncio.shield(session.ended), 60)
    assert caught.value.code == code


async def test_a_state_that_the_broker_cannot_take_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`online` and what is small enough go their way, and the packet is never sent."""
    plan = Plan(max_packet=300)
    refused: set[str] = set()
    monkeypatch.setattr(
        Uplink, "_too_large", lambda _self, _endpoint, topic, size, most: refused.add(topic) if size > most else None
    )
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=plan) as broker:
        async with carrying(bench, broker) as health:
            await until(lambda: f"{ROOT}/state" in refused)
            assert health.connected
        topics = {topic for topic, _ in broker.arrived}
    assert f"{ROOT}/online" in topics
    assert f"{ROOT}/state" not in topics
    assert not broker.violations


async def test_a_broker_that_takes_no_block_at_all_does_not_make_the_logbook_grow(tmp_path: Path) -> None:
    """What is told of a parked block is an event, in a block that is parked: it must not be told again for ever."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(max_packet=300)) as broker:
        async with carrying(bench, broker) as health:
            await bench.sealed(1)
            await until(lambda: health.connected and health.pending == {"main": 0})
            assert sum(kind == "block-parked" for kind, _ in bench.recorder._gathering.merged) == 1
            await asyncio.sleep(0.5)
            head = bench.recorder.head("main")
            await asyncio.sleep(1.0)
            assert bench.recorder.head("main") == head, "twenty seals, and nothing to say"


async def test_a_subscription_that_is_refused_is_told_and_blocks_go_on(tmp_path: Path) -> None:
    """The platform cannot be heard: that is no reason not to be carried to."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(subscriptions=0x87)) as broker:
        numbers = await filled(bench)
        async with carrying(bench, broker, resend=True) as health:
            await until(lambda: ("message-ignored", "province/resend") in bench.recorder._gathering.merged)
            await delivered(health)
        assert effects(broker, bench) == numbers
        assert (
            bench.recorder._gathering.merged["message-ignored", "province/resend"].data["reason"]
            == "subscription-refused"
        )


async def test_a_subscription_without_an_answer_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that says nothing to it is none; and one that is gone cannot be subscribed at."""
    monkeypatch.setattr("agent.broker.CONNECT_TIMEOUT_S", 0.5)
    async with Hostile(after=Plan(subscriptions=None)) as broker:
        async with await connect(Endpoint("127.0.0.1", broker.port, "x")) as session:
            with pytest.raises(BrokerDown):
                await session.subscribe("a")
            for connection in broker.live:
                connection.cut()
            with pytest.raises(BrokerDown):
                await asyncio.shield(session.ended)
            with pytest.raises(BrokerDown):
                await session.subscribe("b")


async def test_what_was_not_asked_for_is_not_read(tmp_path: Path) -> None:
    """A message on a topic that the settings do not name changes nothing and is no event."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        await filled(bench)
        async with carrying(bench, broker, resend=True) as health:
            await delivered(health)
            for topic in ("ack", "config/set", "command", "nonsense"):
                broker.tell(f"{ROOT}/{topic}", b"{}")
            broker.tell(f"{ROOT}/resend", b"{}", retain=True)
            await until(lambda: ("message-ignored", "province/resend") in bench.recorder._gathering.merged)
        ignored = [subject for kind, subject in bench.recorder._gathering.merged if kind == "message-ignored"]
        assert ignored == ["province/resend"]


async def test_more_messages_than_can_wait_are_told_and_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A platform that shouts fills no memory."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as broker:
        async with carrying(bench, broker, resend=True) as health:
            await delivered(health)
            request = b'{"stream": "main", "from": 1, "to": 1}'
            for connection in broker.live:
                topic = f"{ROOT}/resend"
                one = connection.text(topic) + connection.properties() + request
                connection.say(b"".join(bytes([0x30, len(one)]) + one for _ in range(500)))

            def told() -> bool:
                merged = bench.recorder._gathering.merged.get(("message-ignored", "province/resend"))
                return merged is not None and merged.repeats >= 400

            await until(told)
            await bench.sealed(5)
            await delivered(health)
    assert "QueueFull" not in caplog.text
