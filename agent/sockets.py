"""What a socket to a broker tells of the far end, and how long it may say nothing.

What is always true here:

- Bytes that the far end's TCP does not acknowledge end the connection after `TCP_USER_TIMEOUT_MS` (tcp(7)): a half-open
  connection shows no error otherwise for many minutes.
- Whoever only looks speaks no MQTT and takes no byte away.

`agent.broker` and `agent.uplink` enter.
"""

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
from typing import Any

from agent import tls
from agent.endpoint import Endpoint
from agent.errors import BrokerDown, BrokerRefused
from agent.owner import in_daemon

TCP_USER_TIMEOUT_MS = 20_000
CONNACK = 0x20


def bound(sock: Any) -> None:
    """Have a connection end whose far end is gone, and every packet leave at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unsent(sock: Any) -> int:
    """Count the bytes that the peer's TCP has not acknowledged (tcp(7), SIOCOUTQ)."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]) if sock else 0
    except (OSError, ValueError):  # closed meanwhile
        return 0


class Progress:
    """Whether anything moves over a connection on which an answer is awaited."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._unsent = 0

    def moved(self, now_s: float) -> None:
        """Note that an answer came, or that none was awaited before."""
        self._since_s = now_s

    def still_s(self, sock: Any, now_s: float) -> float:
        """Say for how long no answer has come, and no byte left the socket from one look to the next."""
        before, self._unsent = self._unsent, unsent(sock)
        if self._unsent < before:
            self.moved(now_s)
        return now_s - self._since_s


def first_byte(sock: Any) -> bytes:
    """Look at the first byte that came without taking it; nothing where the far end hung up instead."""
    with contextlib.suppress(ConnectionError):  # whoever reads next will find it closed
        return bytes(sock.recv(1, socket.MSG_PEEK))
    return b""


def expect_connack(sock: Any, endpoint: Endpoint, within_s: float) -> None:
    """Refuse a captive portal, which speaks something else than MQTT, and what says nothing in time."""
    if sock is None:
        return
    if not select.select([sock], [], [], within_s)[0]:
        raise BrokerDown("agent.broker-silent", address=endpoint.address)
    if (first := first_byte(sock)) and first[0] != CONNACK:
        raise BrokerDown("agent.not-mqtt", address=endpoint.address, reason=repr(first))


def fault(error: BaseException, endpoint: Endpoint) -> BrokerDown | BrokerRefused | None:
    """Name what sockets, resolvers and TLS throw while a connection is made; None where it is not theirs."""
    address = endpoint.address
    if isinstance(error, ssl.SSLError):
        return tls.fault(error, address, endpoint.host)
    if isinstance(error, UnicodeError):  # a name that no DNS can have
        return BrokerRefused("agent.bad-host", address=address)
    if isinstance(error, socket.gaierror):
        return BrokerDown("agent.name-unresolved", address=address, name=endpoint.host, reason=error.strerror)
    if isinstance(error, OSError):
        return BrokerDown("agent.broker-unreachable", address=address, reason=error.strerror or str(error))
    return None


async def reachable(endpoint: Endpoint, within_s: float) -> bool:
    """Say whether a broker's port answers, with TLS where it must be trusted. No MQTT is spoken."""
    try:
        await in_daemon("mqtt-look", lambda: _look(endpoint, within_s))
    except (OSError, BrokerRefused, UnicodeError):
        return False
    return True


def _look(endpoint: Endpoint, within_s: float) -> None:
    with socket.create_connection((endpoint.host, endpoint.port), within_s) as plain:
        if endpoint.ca is not None:
            context = tls.context(*endpoint.files)
            context.wrap_socket(plain, server_hostname=endpoint.host).close()
