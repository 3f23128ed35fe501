"""Links that misbehave: trust that fails, names that move, certificates that change, brokers in turn."""

import asyncio
import contextlib
import random
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from carrying import ROOT, carrying, delivered, filled
from hostile import Hostile, Plan
from rig import Bench, Platform, until

from agent import broker
from agent.broker import Endpoint, Message, connect
from agent.carrier import Carriage
from agent.errors import BrokerDown
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.start import OLDEST, Start
from agent.state import State
from agent.uplink import Uplink


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.05)


async def test_a_name_is_resolved_anew_at_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails, then it is found, then it has moved."""
    answers: list[object] = [OSError]
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: object, **kwargs: object) -> object:
        if host != "iot.example.vn":
            return real(host, port, *args, **kwargs)  # type: ignore[arg-type]
        if answers[-1] is OSError:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", answers[-1], type=socket.SOCK_STREAM)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    endpoint = Endpoint("iot.example.vn", 1883, "x")
    with pytest.raises(BrokerDown) as caught:
        await connect(endpoint)
    assert caught.value.code == "agent.name-unresolved"
    async with Hostile() as first, Hostile() as second:
        for server in (first, second):
            answers.append(server.port)
            async with await connect(endpoint) as session:
                assert await session.publish(Message("a", b"1")) == 0
            assert server.connections == 1


async def test_a_broker_that_has_only_ipv6_is_reached(tmp_path: Path) -> None:
    """By address in brackets."""
    try:
        server = await asyncio.start_server(lambda _r, writer: writer.close(), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert broker.split_url(f"mqtt://[::1]:{port}") == ("mqtt", "::1", port)
        with pytest.raises(BrokerDown) as caught:
            await connect(Endpoint("::1", port, "x"))
        assert caught.value.code == "agent.broker-lost"
        assert caught.value.fields["address"] == f"[::1]:{port}"


async def test_bytes_without_answer_are_given_up_by_tcp_within_thirty_seconds() -> None:
    """TCP_USER_TIMEOUT stands on the socket, the keep-alive needs two of its periods, the watchdog one."""
    async with Hostile() as server, await connect(Endpoint("127.0.0.1", server.port, "x")) as session:
        sock = session._client.socket()
        assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 25_000
        assert 2 * (session._client.keepalive + broker.WATCH_EVERY_S) <= 30
    assert broker.STALLED_S + 2 * broker.WATCH_EVERY_S <= 30


async def test_bytes_that_leave_the_socket_are_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large block on a slow link is not called stalled while TCP still moves it."""
    monkeypatch.setattr("agent.broker.STALLED_S", 0.4)
    monkeypatch.setattr("agent.broker.WATCH_EVERY_S", 0.05)
    left = [10_000]

    def unsent(_sock: object) -> int:
        left[0] = max(0, left[0] - 400)
        return left[0]

    monkeypatch.setattr("agent.sockets.unsent", unsent)
    async with Hostile() as server, await connect(Endpoint("127.0.0.1", server.port, "x")) as session:
        server.live.copy().pop()._answer = lambda *_: asyncio.sleep(60)  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        began = loop.time()
        session.publish(Message("a", b"1"))
        with pytest.raises(BrokerDown) as caught:
            await session.ended
        assert caught.value.code == "agent.broker-stalled"
        assert loop.time() - began > 1.2


@asynccontextmanager
async def running(
    bench: Bench, name: str, endpoints: Sequence[Endpoint], streams: tuple[str, ...] = ("main",), start: Start = OLDEST
) -> AsyncIterator[UplinkHealth]:
    """Run one of several uplinks."""
    health = bench.health.uplinks[name] = UplinkHealth(streams)
    uplink = Uplink(
        Carriage(name, f"{name}/station-1", streams, Signed(f"{name}/station-1"), start=start),
        endpoints,
        bench.recorder,
        health,
        State(bench.health, name, bench.clock.boot_ns),
        random.Random(1),
    )
    task = asyncio.create_task(uplink.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.wait([task])
        bench.recorder.listeners.remove(uplink._committed)


async def test_renewed_certificates_count_without_a_restart_and_half_written_ones_change_nothing(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is renewed in order: the will is not sent, nothing in flight is lost."""
    monkeypatch.setattr("agent.uplink.LOOK_AT_FILES_S", 0.1)
    endpoint = platform.endpoint("station-1")
    assert endpoint.cert is not None
    assert endpoint.key is not None
    async with await connect(platform.endpoint("platform")) as listener:
        received: list[Message] = []
        listener.on_message = received.append
        await listener.subscribe("province/#")
        async with Bench(tmp_path / "buffer.db") as bench, running(bench, "province", [endpoint]) as health:
            await bench.sealed(1)
            await delivered(health)
            whole = Path(endpoint.cert).read_bytes()
            Path(endpoint.cert).write_bytes(whole[: len(whole) // 2])
            await asyncio.sleep(0.5)
            await bench.sealed(2)
            await delivered(health)
            assert health.sessions == 1
            shutil.copy(platform.authority.issue("renewed").cert, endpoint.cert)
            shutil.copy(tmp_path / "platform" / "renewed.key", endpoint.key)
            await until(lambda: health.sessions == 2 and health.connected)
            assert health.error is None
            await bench.sealed(3)
            await delivered(health)
        blocks = [message.payload for message in received if "/block/" in message.topic]
        assert len(blocks) == len(set(blocks)), "nothing was repeated"
        ups = [message.payload for message in received if message.topic.endswith("/online")]
        assert b'"online":false' in ups[1], "it said goodbye by itself"
    log = (tmp_path / "platform" / "broker.log").read_text()
    assert "renewed" in log


async def test_brokers_are_tried_in_order_and_the_first_is_returned_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fall back at once, return when it answers again; what is in flight lands first and is not repeated."""
    monkeypatch.setattr("agent.uplink.RETURN_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    plan = Plan(slow=True, delay_s=0.8)
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=plan) as second:
        addresses = [Endpoint("127.0.0.1", port, "x"), Endpoint("127.0.0.1", second.port, "x")]
        async with running(bench, "province", addresses) as health:
            await bench.sealed(1)
            await delivered(health)
            assert second.blocks()
            async with Hostile(port=port) as first:
                await bench.sealed(2)
                await until(lambda: health.sessions == 2 and health.connected)
                await bench.sealed(3)
                await delivered(health)
                assert first.blocks()
                arrived = [payload for topic, payload in first.arrived + second.arrived if "/block/" in topic]
                assert len(arrived) == len(set(arrived))


async def test_a_session_that_ends_says_goodbye_itself_and_the_will_only_else(tmp_path: Path) -> None:
    """The farewell is the last message of an orderly end."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile() as server:
        async with carrying(bench, server) as health:
            await bench.sealed(1)
            await delivered(health)
        topic, payload = server.arrived[-1]
        assert topic == f"{ROOT}/online"
        assert b'"online":false' in payload


async def test_leaving_is_bounded_though_the_broker_is_frozen(platform: Platform, tmp_path: Path) -> None:
    """A farewell waits half a second, a closing connection a second."""
    async with Bench(tmp_path / "buffer.db") as bench:
        loop = asyncio.get_running_loop()
        async with running(bench, "province", [platform.endpoint("station-1")]) as health:
            await until(lambda: health.connected)
            platform.broker.suspend()
            began = loop.time()
        assert loop.time() - began < 5


async def test_several_uplinks_have_their_own_acknowledgements_starts_and_streams(
    platform: Platform, tmp_path: Path
) -> None:
    """One is refused, one begins now, one begins with a day, one is given another stream; none touches the others."""
    acl = tmp_path / "acl"
    acl.write_text(
        "user platform\ntopic read #\nuser station-1\ntopic write oldest/#\ntopic write now/#\ntopic write day/#\n"
    )
    await platform.broker.kill()
    platform.broker.extra = (f"acl_file {acl}",)
    await platform.broker.start()
    names = ("oldest", "now", "day", "refused")
    endpoint = platform.endpoint("station-1")

    def own(name: str) -> list[Endpoint]:
        return [Endpoint("localhost", endpoint.port, f"s.{name}", endpoint.ca, endpoint.cert, endpoint.key)]

    path = tmp_path / "buffer.db"
    async with Bench(path, uplinks=names) as bench:
        old = await filled(bench)
        await asyncio.sleep(0.1)
    async with await connect(platform.endpoint("platform")) as listener:
        received: list[Message] = []
        listener.on_message = received.append
        await listener.subscribe("#")

        def seen(name: str) -> set[bytes]:
            return {message.payload for message in received if message.topic.startswith(f"{name}/station-1/block/main")}

        long_ago = Start(wall_ns=1)
        async with Bench(path, uplinks=names) as bench, contextlib.AsyncExitStack() as stack:
            healths = {
                name: await stack.enter_async_context(running(bench, name, own(name), start=start))
                for name, start in zip(names, (OLDEST, Start(now=True), long_ago, OLDEST), strict=True)
            }
            await until(lambda: healths["now"].connected and bool(bench.committed))
            await bench.sealed(101)
            for name in ("oldest", "now", "day"):
                await delivered(healths[name])
            await until(lambda: healths["refused"].refusal is not None)
            assert healths["refused"].pending["main"] >= len(old)
            await until(lambda: len(seen("oldest")) == len(seen("day")) == bench.recorder.head("main"))
            assert 1 <= len(seen("now")) <= 4
        received.clear()
        async with Bench(path, uplinks=("now", "later")) as bench:  # `oldest` is gone, `later` is new
            async with running(bench, "now", own("now"), start=OLDEST) as health:
                await bench.sealed(102)
                await delivered(health)
                assert 1 <= len(seen("now")) <= 4, "a start is chosen once"
        async with Bench(path, uplinks=("oldest",)) as bench, running(bench, "oldest", own("oldest")) as health:
            await delivered(health)
            assert 2 <= len(seen("oldest")) <= 12, "what was acknowledged before it was removed stays so"
