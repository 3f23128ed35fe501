"""The envelope of a push and its content, as bytes and as what they say; nothing of them is proven here.

What is always true here:

- There is one encoding: what is decoded is encoded again and compared. No tags, no indefinite lengths, no surplus.
- Every size is bounded before anything is made of it; whatever the bytes are, the outcome is a value or `Malformed`.

`config.push` judges, and gives operators the way to make and to show one. `config/PUSH.md` is this page for strangers.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from buffer import cbor_item
from config.model import NAME_PATTERN
from config.trust import NUMBER_LIMIT

SIZE_LIMIT = 256_000
SIGNATURES_LIMIT = 8
NAMES_LIMIT = 1_000
DEPTH_LIMIT = 4
FORMAT = 1
DAY_S = 86_400
VALID_LIMIT_S = 400 * DAY_S
PROBATION_S = (10, 3_600)
TIME_LIMIT_S = 2**40
_NAME = re.compile(NAME_PATTERN.rstrip("$"))

Typ = Literal["trambien-config", "trambien-trust"]
CONFIG: Typ = "trambien-config"
TRUST: Typ = "trambien-trust"


class Malformed(Exception):
    """The bytes are not what they should be. `code` says which rule they break."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Push:
    """The content of a push, in the order of its keys. Times are seconds since 1970-01-01T00:00Z."""

    gateways: tuple[str, ...]
    groups: tuple[str, ...]
    platform: str
    epoch: int
    version: int
    issued_s: int
    expires_s: int
    base: bytes
    probation_s: int
    configuration: bytes
    back_from: int | None = None

    @property
    def target(self) -> bytes:
        """Give the digest of the configuration it brings."""
        return sha256(self.configuration).digest()


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parts of an envelope, nothing of them proven."""

    typ: Typ
    content: bytes
    signatures: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        """Give the digest that names what is signed."""
        return sha256(self.content).digest()

    def encode(self) -> bytes:
        """Give the bytes that travel."""
        return cbor_item.encode([self.typ, self.content, list(self.signatures)])


def take_apart(data: bytes) -> Envelope:
    """Take an envelope apart, believing nothing of it; for showing what came use `shown`."""
    if len(data) > SIZE_LIMIT:
        raise Malformed("push.too-large")
    match _loads(data, "push.not-an-envelope"):
        case [str(typ), bytes(content), [*signatures]] if (
            typ in (CONFIG, TRUST) and 0 < len(signatures) <= SIGNATURES_LIMIT
        ):
            if all(type(signature) is bytes for signature in signatures):
                return Envelope(typ, content, tuple(signatures))
    raise Malformed("push.not-an-envelope")


# -- the content -------------------------------------------------------------------------------------------------------


def encode(push: Push) -> bytes:
    """Give the content to be signed."""
    values = (
        FORMAT,
        list(push.gateways),
        list(push.groups),
        push.platform,
        push.epoch,
        push.version,
        push.issued_s,
        push.expires_s,
        push.base,
        push.probation_s,
        push.configuration,
        push.back_from,
    )
    return cbor_item.encode({key: value for key, value in enumerate(values) if value is not None})


def decode(content: bytes) -> Push:
    """Read a content whose signatures were found good, or that is to be shown."""
    members = _loads(content, "push.content")
    if type(members) is not dict or any(type(key) is not int for key in members):
        raise Malformed("push.content")
    if _number(members.get(0), 0, NUMBER_LIMIT) != FORMAT:
        raise Malformed("push.format")
    match members:
        case {1: [*gateways], 2: [*groups], 3: platform, 8: base, 10: configuration} if set(members) in _KEYS:
            push = Push(
                _names(gateways),
                _names(groups),
                _name(platform),
                _number(members[4], 1, NUMBER_LIMIT),
                _number(members[5], 1, NUMBER_LIMIT),
                _number(members[6], 0, TIME_LIMIT_S),
                _number(members[7], 0, TIME_LIMIT_S),
                _bytes(base),
                _number(members[9], *PROBATION_S),
                _bytes(configuration),
                _number(members[11], 1, NUMBER_LIMIT) if 11 in members else None,
            )
            _check_sums(push)
            return push
    raise Malformed("push.content")


_KEYS = (set(range(11)), set(range(12)))


def _check_sums(push: Push) -> None:
    """What must hold between the members."""
    valid_s = push.expires_s - push.issued_s
    goes_back = push.back_from is None or push.back_from >= push.version
    if not 0 < valid_s <= VALID_LIMIT_S or len(push.base) != 32 or not goes_back:
        raise Malformed("push.content")


def _names(values: list[object]) -> tuple[str, ...]:
    if len(values) > NAMES_LIMIT:
        raise Malformed("push.content")
    return tuple(_name(value) for value in values)


def _name(value: object) -> str:
    if type(value) is not str or _NAME.fullmatch(value) is None:
        raise Malformed("push.content")
    return value


def _number(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Malformed("push.content")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise Malformed("push.content")
    return value


def _loads(data: bytes, code: str) -> Any:
    """Decode one item in its one encoding: no tags, no indefinite lengths, nothing behind it."""
    try:
        value = cbor_item.decode(data, DEPTH_LIMIT)
        if cbor_item.encode(value) == data:
            return value
    except ValueError as error:
        raise Malformed(code) from error
    raise Malformed(code)
