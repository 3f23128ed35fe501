"""A hostile broker: MQTT 5 and 3.1.1 on real sockets, by itself, doing on purpose what links and brokers do by chance.

What is always true here:

- A connection follows its `Plan`: what CONNACK says, and for the n-th PUBLISH of a block an `Act`. When the plans are
  used up, connections are good ones.
- Every PUBLISH that arrived whole is kept in `arrived`; what had a success PUBACK, whether it got through or not, in
  `accepted`. MQTT 3.1.1 knows no other PUBACK.
- More unacknowledged publishes than Receive Maximum, or a packet above Maximum Packet Size, is entered in `violations`.
"""

import asyncio
import contextlib
import struct
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

# What may be done to a publish.
ACK, LOSE, REPEAT, DELAY, DROP_BEFORE, DROP_AFTER, DROP_HALF, FREEZE, NONSENSE, STRAY = (
    "ack",
    "lose",
    "repeat",
    "delay",
    "drop-before",
    "drop-after",
    "drop-half",
    "freeze",
    "nonsense",
    "stray",
)
Act = str | int
"""One of the words above, or the reason code of a PUBACK."""

GOOD, SILENT, KICK, PORTAL, MUTE_TCP, HALF_CONNACK = "good", "silent", "kick", "portal", "cut", "half"


@dataclass(frozen=True)
class Plan:
    """What one connection meets."""

    greeting: str | int = GOOD
    """How CONNECT is answered: a word above, or the reason code of a CONNACK."""
    acts: tuple[Act, ...] = ()
    receive_maximum: int | None = None
    max_packet: int | None = None
    delay_s: float = 0.01
    slow: bool = False
    """Whether every PUBACK is delayed, those of `online`, `state` and definitions too."""
    subscriptions: int | None = 1
    """The reason code of every SUBACK, None where there is none."""


@dataclass
class Hostile:
    """The broker. Use as an asynchronous context manager."""

    plans: list[Plan] = field(default_factory=list)
    after: Plan = field(default_factory=Plan)
    """What connections meet when the plans are used up."""
    port: int = 0
    arrived: list[tuple[str, bytes]] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    """Digests of block payloads that had a success PUBACK."""
    violations: list[str] = field(default_factory=list)
    connections: int = 0
    live: set["_Connection"] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up on everybody."""
        self._server.close()
        for connection in tuple(self.live):
            connection.cut()
        await self._server.wait_closed()

    def tell(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a message to every client, subscribed or not."""
        for connection in self.live:
            connection.send(PUBLISH << 4 | retain, connection.text(topic) + connection.properties() + payload)

    def blocks(self) -> dict[str, bytes]:
        """Give the blocks that arrived, by digest."""
        return {sha256(payload).hexdigest(): payload for topic, payload in self.arrived if "/block/" in topic}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        plan = self.plans.pop(0) if self.plans else self.after
        connection = _Connection(self, plan, reader, writer)
        self.live.add(connection)
        try:
            await connection.run()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.live.discard(connection)
            connection.cut()


class _Connection:
    def __init__(self, broker: Hostile, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._broker = broker
        self._plan = plan
        self._acts = list(plan.acts)
        self._reader = reader
        self._writer = writer
        self._version = 5
        self._open: set[int] = set()
        self._late: set[asyncio.TimerHandle] = set()

    async def run(self) -> None:
        kind, _, body = await self._packet()
        assert kind == CONNECT
        self._version = body[6]
        if not await self._greet():
            return
        while True:
            kind, flags, body = await self._packet()
            if kind == PUBLISH:
                await self._published(flags, body)
            elif kind == SUBSCRIBE:
                if self._plan.subscriptions is not None:
                    self.send(SUBACK << 4, body[:2] + self.properties() + bytes([self._plan.subscriptions]))
            elif kind == PINGREQ:
                self.send(PINGRESP << 4, b"")
            elif kind == DISCONNECT:
                return

    async def _greet(self) -> bool:
        greeting = self._plan.greeting
        if greeting == SILENT:
            await asyncio.sleep(60)
        elif greeting == PORTAL:
            self._writer.write(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>log in</html>")
            await self._writer.drain()
            await asyncio.sleep(0.05)
        elif greeting == HALF_CONNACK:
            self._writer.write(bytes([CONNACK << 4]))
        elif greeting in (GOOD, KICK):
            self._connack(0)
            return greeting == GOOD
        elif isinstance(greeting, int):
            self._connack(greeting)
        return False

    def _connack(self, code: int) -> None:
        limits = b""
        if self._plan.receive_maximum is not None:
            limits += b"\x21" + struct.pack("!H", self._plan.receive_maximum)
        if self._plan.max_packet is not None:
            limits += b"\x27" + struct.pack("!I", self._plan.max_packet)
        self.send(CONNACK << 4, bytes([0, code]) + self.properties(limits))

    async def _published(self, flags: int, body: bytes) -> None:
        length = struct.unpack("!H", body[:2])[0]
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        mid, payload = struct.unpack("!H", rest[:2])[0], rest[2:]
        if self._version == 5:
            size, used = _variable(payload)
            payload = payload[used + size :]
        assert flags >> 1 & 3 == 1, "QoS 1 always"
        self._judge(mid, topic, body)
        act = self._acts.pop(0) if self._acts and "/block/" in topic else ACK
        act = DELAY if self._plan.slow and act == ACK else act
        if act == DROP_BEFORE:
            raise ConnectionError
        self._broker.arrived.append((topic, payload))
        await self._answer(act, mid, topic, payload)

    def _judge(self, mid: int, topic: str, body: bytes) -> None:
        self._open.add(mid)
        if self._plan.receive_maximum is not None and len(self._open) > self._plan.receive_maximum:
            self._broker.violations.append(f"{len(self._open)} in flight with {topic}")
        if self._plan.max_packet is not None and len(body) + 5 > self._plan.max_packet + 3:
            self._broker.violations.append(f"{len(body)} bytes on {topic}")

    async def _answer(self, act: Act, mid: int, topic: str, payload: bytes) -> None:
        if act in (ACK, DROP_AFTER, REPEAT):
            self._acknowledge(mid, 0, topic, payload)
        if act == REPEAT:
            self._acknowledge(mid, 0, topic, payload)
        elif act == DROP_AFTER:
            await self._writer.drain()
            raise ConnectionError
        elif act == DROP_HALF:
            self._writer.write(bytes([PUBACK << 4]))
            raise ConnectionError
        elif act == DELAY:
            later = asyncio.get_running_loop().call_later
            self._late.add(later(self._plan.delay_s, self._acknowledge, mid, 0, topic, payload))
        elif act == FREEZE:
            await asyncio.sleep(60)
        elif act == NONSENSE:
            self._writer.write(b"\xff\xff\xff\xff\xff\xff\xff\x00HTTP")
        elif act == STRAY:
            self.send(PUBACK << 4, struct.pack("!H", mid ^ 0x5555 or 1))
            self._acknowledge(mid, 0, topic, payload)
        elif isinstance(act, int):
            self._acknowledge(mid, act, topic, payload)

    def _acknowledge(self, mid: int, code: int, topic: str, payload: bytes) -> None:
        self._open.discard(mid)
        if (code == 0 or self._version != 5) and "/block/" in topic:
            self._broker.accepted[sha256(payload).hexdigest()] += 1
        reason = bytes([code]) if code and self._version == 5 else b""
        self.send(PUBACK << 4, struct.pack("!H", mid) + reason)

    async def _packet(self) -> tuple[int, int, bytes]:
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return first >> 4, first & 15, await self._reader.readexactly(length)

    def send(self, first: int, body: bytes) -> None:
        """Send one packet."""
        length, head = len(body), bytearray([first])
        while True:
            byte, length = length & 127, length >> 7
            head.append(byte | (128 if length else 0))
            if not length:
                break
        if not self._writer.is_closing():
            self._writer.write(bytes(head) + body)

    def say(self, raw: bytes) -> None:
        """Send bytes that need not be MQTT."""
        self._writer.write(raw)

    def disconnect(self, code: int) -> None:
        """Say why the connection ends, as MQTT 5 allows a server, and end it."""
        self.send(DISCONNECT << 4, bytes([code, 0]))
        self._writer.close()

    @staticmethod
    def text(value: str) -> bytes:
        """Encode a text with its length."""
        return struct.pack("!H", len(value)) + value.encode()

    def properties(self, encoded: bytes = b"") -> bytes:
        """Encode properties, which MQTT 3.1.1 has not."""
        return bytes([len(encoded)]) + encoded if self._version == 5 else b""

    def cut(self) -> None:
        """End the TCP connection without a word."""
        for late in self._late:
            late.cancel()
        with contextlib.suppress(RuntimeError):
            self._writer.transport.abort()


def _variable(data: bytes) -> tuple[int, int]:
    value = shift = 0
    for used, byte in enumerate(data, 1):
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, used
    raise ValueError("no end")
