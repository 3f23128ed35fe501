"""How a Modbus wire is reached, in the technician's file: serial or host, framing, TLS, and how long to wait.

What is always true here:

- A link has exactly one wire: `serial:`, or `host:` with `port:`.
- The framing is `rtu` on a serial line and `tcp` behind a host unless `framing:` says otherwise. `tcp` needs a host,
  and TLS needs `tcp` (Modbus/TCP Security V21, 8: MBAP inside TLS, port 802, certificates of both sides).
- A host is a name, an IPv4 or an IPv6 address, and never carries its port.
- `timeout_min` is not above `timeout`.

This file knows no library of the wire, so that `check` and `schema` stay light.
"""

from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.files import ReadableFile
from config.model import Device, Duration, Link, Serial, Strict

Framing = Literal["tcp", "rtu", "ascii"]

_PORT = 502
_TLS_PORT = 802
_TIMEOUT_MIN_NS = 250_000_000

D = TypeVar("D", bound=Device)  # type: ignore[type-arg]  # a driver's device fixes its own point


def _plain(host: str) -> str:
    """Take the brackets off an IPv6 address, and refuse what carries a port or a scheme."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.count(":") == 1 or any(mark in bare for mark in "/[] "):
        raise PydanticCustomError("modbus.host-with-port", "not a host: {host}", {"host": host})
    return bare


class ModbusTls(Strict):
    """Certificates of a secured connection. `server_name` is what the device's certificate says, if not `host`."""

    ca: ReadableFile
    cert: ReadableFile
    key: ReadableFile
    server_name: Annotated[str, Field(min_length=1)] | None = None


class Wired(Link[D], Generic[D]):
    """One wire: a serial line or a connection. `timeout` bounds every wait, `timeout_min` how short one may be made."""

    serial: Serial | None = None
    host: Annotated[str, Field(min_length=1), AfterValidator(_plain)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    framing: Framing | None = None
    tls: ModbusTls | None = None
    timeout_min: Duration | None = None

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

    @field_validator("port", "tls")
    @classmethod
    def _not_on_serial(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("serial") is not None:
            raise PydanticCustomError("modbus.needs-host", "{key} needs a host", {"key": info.field_name})
        return value

    @field_validator("framing")
    @classmethod
    def _fits_the_wire(cls, framing: Framing | None, info: ValidationInfo) -> Framing | None:
        if framing == "tcp" and info.data.get("serial") is not None:
            raise PydanticCustomError("modbus.framing-on-serial", "tcp is no framing of a serial line", {})
        return framing

    @field_validator("tls")
    @classmethod
    def _fits_the_framing(cls, tls: ModbusTls | None, info: ValidationInfo) -> ModbusTls | None:
        framing = info.data.get("framing")
        if tls is not None and framing not in (None, "tcp"):
            raise PydanticCustomError("modbus.tls-framing", "no TLS with {framing}", {"framing": framing})
        return tls

    @field_validator("timeout_min")
    @classmethod
    def _below_timeout(cls, timeout_min: int | None, info: ValidationInfo) -> int | None:
        if timeout_min is not None and timeout_min > info.data.get("timeout", timeout_min):
            raise PydanticCustomError("modbus.timeouts-crossed", "timeout_min above timeout", {})
        return timeout_min

    @model_validator(mode="after")
    def _one_wire(self) -> Self:
        if (self.serial is None) == (self.host is None):
            raise PydanticCustomError("modbus.one-wire", "either serial or host", {})
        return self
