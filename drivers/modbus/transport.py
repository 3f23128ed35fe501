"""How a Modbus wire is reached, in the technician's file: serial or host, framing, TLS, and how long to wait.

What is always true here:

- A link has exactly one wire: `serial:`, or `host:` with `port:`.
- The framing is `rtu` on a serial line and `tcp` behind a host unless `framing:` says otherwise. `tcp` needs a host,
  and TLS needs `tcp` (Modbus/TCP Security V21, 8: MBAP inside TLS, port 802, certificates of both sides).
- A host is a name, an IPv4 or an IPv6 address, and never carries its port.
- `timeout_min` is not above `timeout`.

This file knows no library of the wire, so that `check` and `schema` stay light.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from config.files import ReadableFile
from config.model import Device, Duration, Link, Serial
from config.shape import After, Between, Given, Length, Strict, Wrong

Framing = Literal["tcp", "rtu", "ascii"]

_PORT = 502
_TLS_PORT = 802
_TIMEOUT_MIN_NS = 250_000_000

D = TypeVar("D", bound=Device)  # type: ignore[type-arg]  # a driver's device fixes its own point


def _plain(host: str) -> str:
    """Take the brackets off an IPv6 address, and refuse what carries a port or a scheme."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.count(":") == 1 or any(mark in bare for mark in "/[] "):
        raise Wrong("modbus.host-with-port", host=host)
    return bare


Above = Mapping[str, Any]
"""The sound keys that stand before one."""


def _port_needs_host(port: int, above: Above) -> int:
    if above.get("serial") is not None:
        raise Wrong("modbus.needs-host", key="port")
    return port


def _tls_needs_host(tls: object, above: Above) -> object:
    if above.get("serial") is not None:
        raise Wrong("modbus.needs-host", key="tls")
    if above.get("framing") not in (None, "tcp"):
        raise Wrong("modbus.tls-framing", framing=above["framing"])
    return tls


def _fits_the_wire(framing: Framing, above: Above) -> Framing:
    if framing == "tcp" and above.get("serial") is not None:
        raise Wrong("modbus.framing-on-serial")
    return framing


def _below_timeout(timeout_min: int, above: Above) -> int:
    if timeout_min > above.get("timeout", timeout_min):
        raise Wrong("modbus.timeouts-crossed")
    return timeout_min


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusTls(Strict):
    """Certificates of a secured connection. `server_name` is what the device's certificate says, if not `host`."""

    ca: ReadableFile
    cert: ReadableFile
    key: ReadableFile
    server_name: Annotated[str, Length(1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired(Link[D], Generic[D]):
    """One wire: a serial line or a connection. `timeout` bounds every wait, `timeout_min` how short one may be made."""

    serial: Serial | None = None
    host: Annotated[str, Length(1), After(_plain)] | None = None
    port: Annotated[int, Between(1, 65535), Given(_port_needs_host)] | None = None
    framing: Annotated[Framing, Given(_fits_the_wire)] | None = None
    tls: Annotated[ModbusTls, Given(_tls_needs_host)] | None = None
    timeout_min: Annotated[Duration, Given(_below_timeout)] | None = None

    @property
    def spoken(self) -> Framing:
        """The framing in use."""
        return self.framing or ("tcp" if self.serial is None else "rtu")

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of a connection."""
        assert self.host is not None
        return self.host, self.port or (_PORT if self.tls is None else _TLS_PORT)

    @property
    def waits_ns(self) -> tuple[int, int]:
        """The shortest and the longest wait for an answer."""
        return min(self.timeout_min or _TIMEOUT_MIN_NS, self.timeout), self.timeout

    def __post_init__(self) -> None:
        """Refuse a link without a wire, or with two."""
        if (self.serial is None) == (self.host is None):
            raise Wrong("modbus.one-wire")
