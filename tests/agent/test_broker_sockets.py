"""What stands between the MQTT library and the event loop: full sockets, floods, and connections nobody waits for."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile import Hostile
from rig import until

from agent.broker import MOST_PACKET, MOST_READS, Endpoint, Message, connect
from agent.demo.certificates import Authority
from agent.errors import BrokerDown

CONNACK = bytes([0x20, 3, 0, 0, 0])
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Serve each connection in a thread of its own, as a broker that is another program would; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=listening.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


async def test_what_a_full_socket_did_not_take_leaves_as_soon_as_there_is_room() -> None:
    """Nothing else has to be sent or heard for that, and no keep-alive has to pass."""
    reading = threading.Event()
    got: list[int] = []

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(CONNACK)
        reading.wait(10)
        while data := connection.recv(1 << 16):
            got.append(len(data))

    with serving(serve) as port:
        async with await connect(Endpoint("127.0.0.1", port, "x")) as session:
            session.publish(Message("a", bytes(8_000_000)))
            await asyncio.sleep(0.1)
            assert session._client.want_write(), "the socket took all of it, and nothing is shown"
            reading.set()
            await until(lambda: sum(got) > 8_000_000, 5)


async def test_a_connection_that_nobody_waits_for_any_more_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An uplink is made anew while a slow network makes the old one's connection: its CONNECT would end the new one."""
    connecting, go_on = threading.Event(), threading.Event()
    real, heard = socket.create_connection, list[bytes]()

    def slow(*given: object, **named: object) -> socket.socket:
        connecting.set()
        go_on.wait(10)
        return real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.create_connection", slow)
    with serving(lambda connection: heard.append(connection.recv(1000))) as port:
        task = asyncio.create_task(connect(Endpoint("127.0.0.1", port, "x")))
        await until(connecting.is_set)
        task.cancel()
        await asyncio.wait([task])
        go_on.set()
        await until(lambda: bool(heard))
    assert heard == [b""]


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_a_broker_that_takes_long_to_say_yes_is_not_called_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secured: bool
) -> None:
    """Keep-alive begins with the connection: until then its own bound holds, once, and silence is called silence."""
    monkeypatch.setattr("agent.broker.CONNECT_TIMEOUT_S", 4.0)
    authority = Authority(tmp_path, "slow")
    pair = authority.issue("localhost", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    answers = [CONNACK, b""]

    def serve(connection: socket.socket) -> None:
        answer = answers.pop(0)
        with context.wrap_socket(connection, server_side=True) if secured else connection as spoken:
            spoken.recv(1000)
            time.sleep(3)
            spoken.sendall(answer)
            time.sleep(6)

    with serving(serve) as port:
        endpoint = Endpoint("localhost", port, "x", ca=str(authority.ca) if secured else None, keep_alive_s=1)
        await (await connect(endpoint)).close()
        began = time.monotonic()
        with pytest.raises(BrokerDown, match=r"agent\.broker-silent"):
            await connect(endpoint)
        assert time.monotonic() - began < 7


async def test_a_packet_above_what_was_told_is_not_read() -> None:
    """Maximum Packet Size binds a server (MQTT 5, 3.1.2.11.4); who does not keep to it is left."""
    async with Hostile() as broker:
        for most, ends in ((2000, True), (None, False)):
            async with await connect(Endpoint("127.0.0.1", broker.port, "x", max_packet=most)) as session:
                heard: list[Message] = []
                session.on_message = heard.append
                broker.tell("a", bytes(3000))
                await until(lambda session=session, heard=heard: session.ended.done() or bool(heard))
                assert (session.ended.done(), bool(heard)) == (ends, not ends)
    assert MOST_PACKET > 8 << 20, "what any of our own may have"


FLOOD = """
import socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    with context.wrap_socket(listening.accept()[0], server_side=True) as secured:
        secured.recv(1000)
        secured.sendall(bytes([0x20, 3, 0, 0, 0]))
        until = time.monotonic() + 3
        while time.monotonic() < until:
            secured.sendall((bytes([0x30, 7]) + b"\\0\\1a\\0xyz") * 5000)
"""


async def test_a_flood_over_tls_leaves_the_event_loop_its_turn(tmp_path: Path) -> None:
    """TLS holds a part of the next packet whenever one is read: that must not mean to go on for ever."""
    authority = Authority(tmp_path, "flood")
    pair = authority.issue("localhost", server=True)
    flood = [sys.executable, "-c", FLOOD, str(pair.cert), str(pair.key)]
    with subprocess.Popen(flood, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as broker:
        assert broker.stdout is not None
        endpoint = Endpoint("localhost", int(broker.stdout.readline()), "x", ca=str(authority.ca))
        heard: list[Message] = []
        most = 0
        async with await connect(endpoint) as session:
            session.on_message = heard.append
            while not session.ended.done() and len(heard) < 20_000:
                before = len(heard)
                await asyncio.sleep(0)
                most = max(most, len(heard) - before)
        broker.kill()
    assert 0 < most <= 4 * MOST_READS
