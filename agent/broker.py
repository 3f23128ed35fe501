"""MQTT connections: the only importer of paho, and the place where its quirks end.

What is always true here:

- A `Session` is one connection and is never reconnected: clean start, session expiry 0. What was in flight when it
  ends is the caller's again, from the store; nothing is left in the library's memory.
- A publish ends with the reason code of its PUBACK. paho marks a message published whatever that code says, so the
  code is read from the acknowledgement itself.
- No more publishes are unacknowledged than the server's Receive Maximum allows, which paho ignores: what is above it
  waits here. `window` is the smaller of that and ours; the caller keeps it, so little waits.
- A half-open connection ends within 30 s: keep-alive where nothing is sent, TCP_USER_TIMEOUT where bytes in the socket
  are unanswered, and where the network answers and the broker does not, a watchdog over the acknowledgements.
- Bytes that are not MQTT end the connection with a message of their own, whatever they do to the library. So does what
  we did not ask for: a packet above `MOST_PACKET`, or QoS 2, of which the library would keep what is never released.
- Errors of sockets, TLS and MQTT become BrokerDown (try again) or BrokerRefused (a person must look).
- paho runs in the event loop, and has no thread: the loop tells it when the socket can be read or written, and what it
  has to say is said there and then. Only a connection is made in a thread, since names and handshakes block; one that
  nobody waits for any more says nothing: its CONNECT would end the session that has our name by then.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent import sockets, tls
from agent.beat import next_beat_s
from agent.endpoint import Endpoint, split_url
from agent.errors import AgentError, BrokerDown, BrokerRefused
from agent.message import Message
from agent.owner import in_daemon

__all__ = ["Endpoint", "Message", "Session", "connect", "split_url"]

CONNECT_TIMEOUT_S = 10.0
CLOSE_S = 0.4
STALLED_S = 25.0
"""How long no acknowledgement may come, and no byte leave the socket, while publishes are in flight."""
WATCH_EVERY_S = 2.0
FIRST_FAILURE = 0x80
"""Reason codes from here on are failures, MQTT 5 clause 2.4."""
NO_MATCHING_SUBSCRIBERS = 0x10
SESSION_TAKEN_OVER = 0x8E
MOST_PACKET = 16 << 20
"""The largest packet that is read where no Maximum Packet Size was told: far above the largest layout or block."""
MOST_READS = 64
"""So often what came is taken before the event loop has its turn."""
RECEIVE_MAXIMUM = 0xFFFF
"""What a server allows that names none, MQTT 5 clause 3.2.2.3.3."""


class Session:
    """One live connection. Make it with `connect`; use it as an asynchronous context manager."""

    def __init__(self, endpoint: Endpoint, client: "_Client") -> None:
        self._endpoint = endpoint
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()
        self._writing = self._behind = False
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._accepted.add_done_callback(_retrieved)
        self._in_flight: dict[int, asyncio.Future[int]] = {}
        self._waiting: deque[tuple[Message, asyncio.Future[int]]] = deque()
        self._receive_maximum = RECEIVE_MAXIMUM
        self._progress = sockets.Progress(self._loop.time())
        self._alert: BrokerRefused | None = None
        self._subscriptions: dict[int, asyncio.Future[list[int]]] = {}
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Ends with BrokerDown or BrokerRefused when the connection is lost."""
        self.ended.add_done_callback(_retrieved)
        self.on_message: Callable[[Message], None] | None = None
        """Called in the event loop for every message of a subscription."""
        self.window = endpoint.window
        self.max_packet: int | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        client.on_socket_close = self._on_socket_close
        self._watching = self._loop.call_later(WATCH_EVERY_S, self._watch)

    async def __aenter__(self) -> Self:
        """Enter."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection in order; the will is not sent then."""
        await self.close()

    def publish(self, message: Message) -> asyncio.Future[int]:
        """Send at QoS 1. The future ends with the PUBACK's reason code, or with BrokerDown when the connection ends."""
        future: asyncio.Future[int] = self._loop.create_future()
        future.add_done_callback(_retrieved)
        if self.ended.done():
            future.set_exception(BrokerDown("agent.broker-lost", address=self._endpoint.address))
            return future
        self._waiting.append((message, future))
        self._send_waiting()
        return future

    def fits(self, message: Message) -> bool:
        """Say whether the server's Maximum Packet Size allows a message."""
        return self.max_packet is None or message.size <= self.max_packet

    def _send_waiting(self) -> None:
        """Hand to the library what the server's Receive Maximum allows."""
        while self._waiting and len(self._in_flight) < self._receive_maximum:
            message, future = self._waiting.popleft()
            if future.done():
                continue
            if not self._in_flight:
                self._progress.moved(self._loop.time())
            properties = self._properties(message)
            mid = self._client.publish(message.topic, message.payload, 1, message.retain, properties).mid
            self._in_flight[mid] = future
        if not self._writing:
            self._flush()

    def _properties(self, message: Message) -> Properties | None:
        if message.content_type is None or self._endpoint.protocol != 5:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = message.content_type
        return properties

    async def subscribe(self, *topics: str) -> None:
        """Subscribe at QoS 1. Raises BrokerRefused where the server refuses one of the topics."""
        future: asyncio.Future[list[int]] = self._loop.create_future()
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if mid is None:
            raise BrokerDown("agent.broker-lost", address=self._endpoint.address)
        self._subscriptions[mid] = future
        waited: list[asyncio.Future[Any]] = [future, self.ended]
        await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise BrokerDown("agent.broker-lost", address=self._endpoint.address)
        if max(future.result()) >= FIRST_FAILURE:
            raise BrokerRefused("agent.subscription-refused", address=self._endpoint.address, topics=", ".join(topics))

    async def close(self) -> None:
        """Say goodbye, without waiting for a peer that is gone."""
        self._watching.cancel()
        self._client.disconnect()
        self._flush()
        if self._socket() is not None:  # it is not written yet
            await asyncio.wait([self.ended], timeout=CLOSE_S)
        self._let_go()
        self._end(BrokerDown("agent.broker-lost", address=self._endpoint.address))

    # -- the socket ------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take what comes from now on: the connection was made."""
        if (sock := self._socket()) is not None:
            self._loop.add_reader(sock, self._readable)
            self._readable()

    def _readable(self) -> None:
        broken: Exception | None = None
        try:
            more = self._client.take()
        except Exception as error:  # noqa: BLE001 - whatever a parser throws at foreign bytes is no bug of ours
            broken, more = error, False
        while self._calls:
            self._calls.popleft()()
        if broken is None:
            self._flush()
            if more and not self._behind:
                self._behind = True
                self._loop.call_soon(self._go_on)
            return
        self._let_go()
        what = type(broken).__name__
        self._end(BrokerDown("agent.not-mqtt", address=self._endpoint.address, reason=what))

    def _go_on(self) -> None:
        self._behind = False
        self._readable()

    def _flush(self) -> None:
        """Write what waits to be written; what the socket does not take waits until it does."""
        client = self._client
        if client.want_write():
            client.loop_write()
        if (sock := self._socket()) is None or client.want_write() == self._writing:
            return
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(sock, self._flush)
        else:
            self._loop.remove_writer(sock)

    def _socket(self) -> Any:
        """Give the socket while it is open; the library does not notice that we closed it."""
        sock: Any = self._client.socket()
        return sock if sock is not None and sock.fileno() >= 0 else None

    def _let_go(self) -> None:
        """Close the socket, whatever stands in it."""
        if (sock := self._socket()) is not None:
            self._on_socket_close(self._client, None, sock)
            sock.close()

    # -- what paho says while it takes what came; it is acted upon when paho is done ---------------------------------

    def _on_socket_close(self, _c: Client, _u: object, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _on_connect(self, _c: Client, _u: object, _f: object, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            error = BrokerRefused("agent.broker-refused", address=self._endpoint.address, reason=str(code))
            self._calls.append(lambda: self._refuse(error))
        else:
            self._calls.append(lambda: self._accept(properties))

    def _on_disconnect(self, _c: Client, _u: object, _f: object, code: ReasonCode, _p: Properties | None) -> None:
        """Hear of the end; it may come while something is written, and in the thread that makes the connection."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(lambda: self._end(self._why(code)))

    def _on_log(self, _c: Client, _u: object, _level: int, text: str) -> None:
        if self._alert is None and "SSL" in text:
            self._alert = tls.alert_in(text, self._endpoint.address)

    def _on_publish(self, _c: Client, _u: object, mid: int, code: ReasonCode, _p: Properties | None) -> None:
        self._calls.append(lambda: self._acknowledged(mid, code.value))

    def _on_subscribe(self, _c: Client, _u: object, mid: int, codes: list[ReasonCode], _p: Properties | None) -> None:
        values = [code.value for code in codes]
        self._calls.append(lambda: self._subscribed(mid, values))

    def _on_message(self, _c: Client, _u: object, message: MQTTMessage) -> None:
        content_type = getattr(message.properties, "ContentType", None)
        received = Message(message.topic, bytes(message.payload), message.retain, content_type)
        if (hear := self.on_message) is not None:
            self._calls.append(lambda: hear(received))

    # -- what becomes of it ----------------------------------------------------------------------------------------

    def _accept(self, properties: Properties | None) -> None:
        self._client.on_log = None  # it renders every packet, and what it could tell was told before
        self._receive_maximum = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)
        self.window = min(self.window, self._receive_maximum)
        self.max_packet = getattr(properties, "MaximumPacketSize", None)
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _refuse(self, error: AgentError) -> None:
        if not self._accepted.done():
            self._accepted.set_exception(error)

    def _acknowledged(self, mid: int, code: int) -> None:
        self._progress.moved(self._loop.time())
        if (future := self._in_flight.pop(mid, None)) is not None and not future.done():
            future.set_result(code)
        if not self.ended.done():
            self._send_waiting()

    def _watch(self) -> None:
        """End the connection where nothing moves: neither acknowledgements nor bytes out of the socket."""
        if self._accepted.done():
            self._client.loop_misc()  # keep-alive
        now_s = self._loop.time()
        if self._progress.still_s(self._client.socket(), now_s) >= STALLED_S and self._in_flight:
            self._end(BrokerDown("agent.broker-stalled", address=self._endpoint.address, seconds=round(STALLED_S)))
        elif not self.ended.done():
            self._watching = self._loop.call_at(next_beat_s(now_s, WATCH_EVERY_S), self._watch)

    def _why(self, code: ReasonCode) -> BrokerDown | BrokerRefused:
        """Say why a connection ended, by the server's reason code or the alert before it."""
        address = self._endpoint.address
        if code.value == SESSION_TAKEN_OVER:
            return BrokerRefused("agent.taken-over", address=address, client=self._endpoint.client_id)
        if self._alert is not None:
            return self._alert
        if self._endpoint.ca is not None and not self._accepted.done():
            return BrokerDown("agent.tls-cut", address=address)
        return BrokerDown("agent.broker-lost", address=address, reason=str(code))

    def _subscribed(self, mid: int, codes: list[int]) -> None:
        if (future := self._subscriptions.pop(mid, None)) is not None and not future.done():
            future.set_result(codes)

    def _end(self, error: BrokerDown | BrokerRefused) -> None:
        self._refuse(error)
        self._watching.cancel()
        if not self.ended.done():
            self.ended.set_exception(error)
        lost = [*self._in_flight.values(), *(future for _, future in self._waiting)]
        self._in_flight, self._waiting = {}, deque()
        for future in lost:
            if not future.done():
                future.set_exception(error)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Mark the future's exception as seen; whoever cares awaits it."""
    if not future.cancelled():
        future.exception()


class _Client(Client):
    """paho, which is told when its socket can be read. `abandoned`: nobody waits for the connection any more."""

    most_packet, abandoned = MOST_PACKET, False

    def take(self) -> bool:
        """Take what came; say whether there is more: TLS may hold packets that the socket does not show any more."""
        for _ in range(MOST_READS):
            self.loop_read()
            sock = self.socket()
            if not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                return False
        return True

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self.most_packet:
            raise OverflowError(bufsize)
        return super()._sock_recv(bufsize)

    def _handle_publish(self) -> MQTTErrorCode:
        if self._in_packet["command"] & 0x04:  # QoS 2
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()


async def connect(endpoint: Endpoint, will: Message | None = None) -> Session:
    """Open a connection and wait for its CONNACK. Raises BrokerDown or BrokerRefused."""
    client = _client(endpoint, will)
    session = Session(endpoint, client)
    opened = False
    try:
        await in_daemon("mqtt-connect", lambda: _open(client, endpoint))
        opened = True
        session.listen()
        await asyncio.wait_for(session._accepted, CONNECT_TIMEOUT_S)  # noqa: SLF001 - the other half of this class
    except BaseException as error:
        client.abandoned = True
        await session.close()
        if opened and isinstance(error, TimeoutError):
            raise BrokerDown("agent.broker-silent", address=endpoint.address) from None
        if (known := sockets.fault(error, endpoint)) is not None:
            raise known from error
        raise
    return session


def _client(endpoint: Endpoint, will: Message | None) -> _Client:
    client = _Client(
        CallbackAPIVersion.VERSION2,
        endpoint.client_id,
        clean_session=None if endpoint.protocol == 5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if endpoint.protocol == 5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages_set(0xFFFF)
    client.most_packet = endpoint.max_packet or MOST_PACKET
    client.on_socket_open = _opened
    if endpoint.ca is not None:
        client.tls_set_context(tls.context(endpoint.ca, endpoint.cert, endpoint.key))
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
    return client


def _open(client: Client, endpoint: Endpoint) -> None:
    if endpoint.protocol != 5:
        client.connect(endpoint.host, endpoint.port, keepalive=endpoint.keep_alive_s)
    else:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        if endpoint.max_packet is not None:
            properties.MaximumPacketSize = endpoint.max_packet
        client.connect(
            endpoint.host, endpoint.port, keepalive=endpoint.keep_alive_s, clean_start=True, properties=properties
        )
    if endpoint.ca is None:
        sockets.expect_connack(client.socket(), endpoint, CONNECT_TIMEOUT_S)


def _opened(client: Client, _userdata: object, sock: Any) -> None:
    sockets.bound(sock)
    if isinstance(client, _Client) and client.abandoned:
        sock.close()
        raise ConnectionAbortedError
