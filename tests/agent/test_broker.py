"""One MQTT connection against a real mosquitto with mutual TLS."""

import asyncio
from pathlib import Path

import pytest
from rig import Platform, until

from agent.broker import NO_MATCHING_SUBSCRIBERS, Endpoint, Message, connect
from agent.demo.certificates import Authority
from agent.errors import BrokerDown, BrokerRefused


async def test_a_publish_ends_with_the_reason_code_of_its_puback(platform: Platform) -> None:
    """Without a subscriber the broker says 0x10, with one 0x00."""
    async with (
        await connect(platform.endpoint("gateway")) as session,
        await connect(platform.endpoint("other")) as other,
    ):
        assert await session.publish(Message("a/b", b"1")) == NO_MATCHING_SUBSCRIBERS
        received: asyncio.Queue[Message] = asyncio.Queue()
        other.on_message = received.put_nowait
        await other.subscribe("a/#")
        assert await session.publish(Message("a/b", b"2")) == 0
        assert await asyncio.wait_for(received.get(), 60) == Message("a/b", b"2")


async def test_an_unauthorised_publish_ends_with_its_refusal(platform: Platform, tmp_path: Path) -> None:
    """MQTT 5 answers 0x87, and the code reaches the caller although the library calls it published."""
    await platform.broker.kill()
    acl = tmp_path / "acl"
    acl.write_text("user gateway\ntopic write allowed/#\n")
    platform.broker.extra = (f"acl_file {acl}",)
    await platform.broker.start()
    async with await connect(platform.endpoint("gateway")) as session:
        assert await session.publish(Message("forbidden", b"1")) == 0x87


async def test_what_was_in_flight_when_the_broker_dies_ends_with_broker_down(platform: Platform) -> None:
    """Nothing waits for ever, and nothing is left in the library to be sent by a later session."""
    async with await connect(platform.endpoint("gateway")) as session:
        platform.broker.suspend()
        waiting = [session.publish(Message("a", bytes(100))) for _ in range(5)]
        await asyncio.sleep(0.2)
        assert not any(future.done() for future in waiting)
        await platform.broker.kill()
        for future in waiting:
            with pytest.raises(BrokerDown):
                await asyncio.wait_for(future, 60)
        with pytest.raises(BrokerDown):
            await session.ended
        with pytest.raises(BrokerDown):
            await session.publish(Message("a", b"late"))


async def test_a_dead_port_is_broker_down(tmp_path: Path) -> None:
    """A refused connection is tried again later."""
    with pytest.raises(BrokerDown) as caught:
        await connect(Endpoint("localhost", 1, "gateway"))
    assert caught.value.code == "agent.broker-unreachable"


async def test_a_broker_of_another_authority_is_refused(platform: Platform, tmp_path: Path) -> None:
    """A wrong CA is a refusal with a message of its own."""
    stranger = Authority(tmp_path / "stranger", "another authority")
    with pytest.raises(BrokerRefused) as caught:
        await connect(platform.endpoint("gateway", ca=str(stranger.ca)))
    assert caught.value.code == "agent.tls-unknown-authority"


async def test_a_client_without_a_certificate_is_turned_away(platform: Platform) -> None:
    """Mutual TLS: the broker hangs up, whatever the moment at which TLS 1.3 tells."""
    with pytest.raises((BrokerDown, BrokerRefused)):
        await connect(platform.endpoint("gateway", cert=None, key=None))


async def test_a_server_that_says_nothing_is_broker_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and never answers costs a bounded time."""
    monkeypatch.setattr("agent.broker.CONNECT_TIMEOUT_S", 0.5)
    server = await asyncio.start_server(lambda _r, _w: asyncio.sleep(60), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        began = asyncio.get_running_loop().time()
        with pytest.raises(BrokerDown) as caught:
            await connect(Endpoint("127.0.0.1", port, "gateway"))
        assert caught.value.code == "agent.broker-silent"
        assert asyncio.get_running_loop().time() - began < 5


async def test_the_will_is_sent_when_the_client_vanishes_and_not_when_it_leaves(platform: Platform) -> None:
    """`online` turns false by itself only after a death."""
    async with await connect(platform.endpoint("watcher")) as watcher:
        received: asyncio.Queue[Message] = asyncio.Queue()
        watcher.on_message = received.put_nowait
        await watcher.subscribe("online")
        async with await connect(platform.endpoint("gateway"), Message("online", b"false", retain=True)) as session:
            await session.publish(Message("online", b"true", retain=True))
        assert (await asyncio.wait_for(received.get(), 60)).payload == b"true"
        dying = await connect(platform.endpoint("gateway"), Message("online", b"false", retain=True))
        dying._client.socket().shutdown(2)
        assert (await asyncio.wait_for(received.get(), 60)).payload == b"false"
        await dying.close()


@pytest.mark.parametrize("host", ["iot..example.vn", "x" * 64 + ".vn"])
async def test_a_name_that_no_dns_can_have_is_refused(host: str) -> None:
    """A typing error is told; it never ends the service."""
    with pytest.raises(BrokerRefused) as caught:
        await connect(Endpoint(host, 8883, "gateway"))
    assert caught.value.code == "agent.bad-host"


async def test_what_is_larger_than_a_client_takes_is_kept_back_by_the_broker(platform: Platform) -> None:
    """MQTT 5, 3.1.2.11.4: it never comes to memory, and what is small enough still comes."""
    heard: list[int] = []
    async with await connect(platform.endpoint("small", max_packet=1000)) as small:
        small.on_message = lambda message: heard.append(len(message.payload))
        await small.subscribe("a")
        async with await connect(platform.endpoint("sender")) as sender:
            for size in (2000, 10):
                await sender.publish(Message("a", bytes(size)))
        await until(lambda: bool(heard))
    assert heard == [10]
