"""An OPC UA link in the technician's file: which server, how to be let in, which nodes to read or to be told of.

What is always true here:

- A device either reads its nodes (`every`) or is told of their changes (`subscribe`, the publishing interval).
- Security is what is written: without `security` the channel is neither signed nor encrypted; with it, certificate and
  key are named, since a server trusts a certificate and not a promise of one.

This file knows no library of the wire, so that `check` and `schema` stay light.
"""

import base64
import binascii
import re
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

from buffer.frame import Kind
from config.files import ReadableFile
from config.model import Device, Duration, Exact, Link, Point
from config.shape import After, Between, Strict, Wrong

_NODE = re.compile(r"^(?:(?:ns=\d{1,5}|nsu=[^;]+);)?([isgb])=(.+)$", re.DOTALL)
_URL = re.compile(
    r"^opc\.tcp://[^/\s:@]+(?::\d{1,5})?(?:/\S*)?$|^opc\.tcp://\[[0-9a-fA-F:.%]+\](?::\d{1,5})?(?:/\S*)?$"
)


def _node_id(text: str) -> str:
    """Accept the text form of a NodeId (OPC UA Part 6, 5.3.1.10), with `nsu=` for the namespace's own name."""
    match = _NODE.match(text)
    if match is None or not _identifier(match[1], match[2]):
        raise Wrong("opcua.node-id", node=text)
    return text


def _identifier(kind: str, text: str) -> bool:
    try:
        if kind == "i":
            return text.isascii() and text.isdecimal() and int(text) < 2**32
        if kind == "g":
            return bool(uuid.UUID(text))
        if kind == "b":
            return bool(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return False
    return True


def _endpoint(text: str) -> str:
    if not _URL.match(text):
        raise Wrong("opcua.url", url=text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaPoint(Point):
    """One variable node. `deadband` is absolute, in the node's own unit; `queue` bounds what waits at the server."""

    node: Annotated[str, After(_node_id)]
    type: Kind = "float64"
    deadband: Exact | None = None
    queue: Annotated[int, Between(2, 10_000)] = 100

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.scale is not None and not Decimal(self.scale):
            raise Wrong("opcua.scale-zero")
        if self.range is not None and Decimal(self.range[0]) > Decimal(self.range[1]):
            low, high = self.range
            raise Wrong("opcua.range-crossed", low=low, high=high)
        if self.deadband is not None and Decimal(self.deadband) < 0:
            raise Wrong("opcua.deadband")
        if self.type in ("text", "bytes", "bool") and (self.range or self.deadband or self.scale or self.offset):
            raise Wrong("opcua.no-number", type=self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaDevice(Device[OpcUaPoint]):
    """Some nodes of the server: read together, or subscribed to. `sampling` is how often the server itself looks."""

    subscribe: Duration | None = None
    sampling: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Security(Strict):
    """How the channel is protected (OPC UA Part 7, security policies). Files are PEM or DER."""

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: ReadableFile = ""
    key: ReadableFile = ""
    server_certificate: ReadableFile | None = None

    def __post_init__(self) -> None:
        """Refuse security without the certificate that it needs."""
        if not self.certificate or not self.key:
            raise Wrong("opcua.certificate-missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Strict):
    """Who logs in. The password is a secret's name in the file, and its value once loaded."""

    name: str
    password: Any = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaLink(Link[OpcUaDevice]):
    """One server."""

    driver: Literal["opcua"] = "opcua"
    url: Annotated[str, After(_endpoint)]
    security: Security | None = None
    user: User | None = None
