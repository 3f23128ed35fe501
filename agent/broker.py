"""MQTT connections: the only importer of paho, and the place where its quirks end.

What is always true here:

- A `Session` is one connection and is never reconnected: clean start, session expiry 0. What was in flight when it
  ends is the caller's again, from the store; nothing is left in the library's memory.
- A publish ends with the reason code of its PUBACK. paho marks a message published whatever that code says, so the
  code is read from the acknowledgement itself.
- The caller keeps the in-flight window; `window` is the smaller of ours and the server's Receive Maximum, which paho
  ignores.
- A half-open connection ends within 30 s: keep-alive, and TCP_USER_TIMEOUT where bytes in the socket are unanswered.
- Errors of sockets, TLS and MQTT become BrokerDown (try again) or BrokerRefused (a person must look).
- paho runs in its own thread; everything it says reaches the event loop in order, woken once for many.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import AgentError, BrokerDown, BrokerRefused
from agent.owner import in_daemon

CONNECT_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 20
TCP_USER_TIMEOUT_MS = 20_000
FIRST_FAILURE = 0x80
"""Reason codes from here on are failures, MQTT 5 clause 2.4."""
NO_MATCHING_SUBSCRIBERS = 0x10
MQTT_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Message:
    """One publish: QoS 1 always. `content_type` is told in MQTT 5 (3.3.2.3.9) and lost in 3.1.1."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and how it is to be trusted. `tls` needs `ca`; certificate and key come together."""

    host: str
    port: int
    client_id: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    protocol: int = 5
    window: int = 64

    @property
    def address(self) -> str:
        """Give host:port for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_url(url: str) -> tuple[str, str, int]:
    """Split `mqtts://host:port` into scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or MQTT_DEFAULT_PORTS[parts.scheme]


class Session:
    """One live connection. Make it with `connect`; use it as an asynchronous context manager."""

    def __init__(self, endpoint: Endpoint, client: Client) -> None:
        self._endpoint = endpoint
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._in_flight: dict[int, asyncio.Future[int]] = {}
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
        properties = self._properties(message)
        mid = self._client.publish(message.topic, message.payload, 1, message.retain, properties).mid
        self._in_flight[mid] = future
        return future

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
        """Say goodbye and let paho's thread end, without waiting for a peer that is gone."""
        self._client.disconnect()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(in_daemon("mqtt-close", self._client.loop_stop), 1.0)
        self._end(BrokerDown("agent.broker-lost", address=self._endpoint.address))

    # -- what paho says, in its thread; `_later` carries it into the event loop ------------------------------------

    def _on_connect(self, _c: Client, _u: object, _f: object, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            error = BrokerRefused("agent.broker-refused", address=self._endpoint.address, reason=str(code))
            self._later(lambda: self._refuse(error))
        else:
            self._later(lambda: self._accept(properties))

    def _on_disconnect(self, _c: Client, _u: object, _f: object, code: ReasonCode, _p: Properties | None) -> None:
        self._later(
            lambda: self._end(BrokerDown("agent.broker-lost", address=self._endpoint.address, reason=str(code)))
        )

    def _on_publish(self, _c: Client, _u: object, mid: int, code: ReasonCode, _p: Properties | None) -> None:
        self._later(lambda: self._acknowledged(mid, code.value))

    def _on_subscribe(self, _c: Client, _u: object, mid: int, codes: list[ReasonCode], _p: Properties | None) -> None:
        values = [code.value for code in codes]
        self._later(lambda: self._subscribed(mid, values))

    def _on_message(self, _c: Client, _u: object, message: MQTTMessage) -> None:
        content_type = getattr(message.properties, "ContentType", None)
        received = Message(message.topic, bytes(message.payload), message.retain, content_type)
        self._later(lambda: self._received(received))

    def _later(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._run_calls)

    # -- in the event loop -----------------------------------------------------------------------------------------

    def _run_calls(self) -> None:
        self._woken = False
        while self._calls:
            self._calls.popleft()()

    def _accept(self, properties: Properties | None) -> None:
        self.window = min(self.window, getattr(properties, "ReceiveMaximum", self.window))
        self.max_packet = getattr(properties, "MaximumPacketSize", None)
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _refuse(self, error: AgentError) -> None:
        if not self._accepted.done():
            self._accepted.set_exception(error)

    def _acknowledged(self, mid: int, code: int) -> None:
        future = self._in_flight.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(code)

    def _subscribed(self, mid: int, codes: list[int]) -> None:
        future = self._subscriptions.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(codes)

    def _received(self, message: Message) -> None:
        if self.on_message is not None:
            self.on_message(message)

    def _end(self, error: BrokerDown) -> None:
        self._refuse(error)
        if not self.ended.done():
            self.ended.set_exception(error)
        lost, self._in_flight = self._in_flight, {}
        for future in lost.values():
            if not future.done():
                future.set_exception(error)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Mark the future's exception as seen; whoever cares awaits it."""
    if not future.cancelled():
        future.exception()


async def connect(endpoint: Endpoint, will: Message | None = None) -> Session:
    """Open a connection and wait for its CONNACK. Raises BrokerDown or BrokerRefused."""
    client = _client(endpoint, will)
    session = Session(endpoint, client)
    try:
        await in_daemon("mqtt-connect", lambda: _open(client, endpoint))
    except ssl.SSLEOFError as error:
        raise BrokerDown("agent.broker-unreachable", address=endpoint.address, reason=str(error.reason)) from error
    except ssl.SSLError as error:
        raise BrokerRefused("agent.tls-refused", address=endpoint.address, reason=_tls_reason(error)) from error
    except UnicodeError as error:  # a name that no DNS can have
        raise BrokerRefused("agent.bad-host", address=endpoint.address) from error
    except OSError as error:
        raise BrokerDown(
            "agent.broker-unreachable", address=endpoint.address, reason=error.strerror or str(error)
        ) from error
    client.loop_start()
    try:
        await asyncio.wait_for(session._accepted, CONNECT_TIMEOUT_S)  # noqa: SLF001 - the other half of this class
    except TimeoutError:
        await session.close()
        raise BrokerDown("agent.broker-silent", address=endpoint.address) from None
    except BaseException:
        await session.close()
        raise
    return session


def _client(endpoint: Endpoint, will: Message | None) -> Client:
    version = MQTTProtocolVersion.MQTTv5 if endpoint.protocol == 5 else MQTTProtocolVersion.MQTTv311
    clean = None if endpoint.protocol == 5 else True
    client = Client(
        CallbackAPIVersion.VERSION2,
        endpoint.client_id,
        clean_session=clean,
        protocol=version,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages_set(0xFFFF)
    client.on_socket_open = _bound_half_open
    if endpoint.ca is not None:
        client.tls_set_context(_tls_context(endpoint))
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
    return client


def _open(client: Client, endpoint: Endpoint) -> None:
    if endpoint.protocol != 5:
        client.connect(endpoint.host, endpoint.port, keepalive=KEEP_ALIVE_S)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0
    client.connect(endpoint.host, endpoint.port, keepalive=KEEP_ALIVE_S, clean_start=True, properties=properties)


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=endpoint.ca)
        if endpoint.cert is not None:
            context.load_cert_chain(endpoint.cert, endpoint.key)
    except (OSError, ssl.SSLError) as error:
        raise BrokerRefused("agent.tls-files", ca=endpoint.ca, cert=endpoint.cert, reason=str(error)) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _bound_half_open(_client: Client, _userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls_reason(error: ssl.SSLError) -> str:
    return getattr(error, "verify_message", None) or error.reason or str(error)
