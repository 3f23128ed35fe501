"""Key statements: the device's old key and its new one both say that the new one follows.

What is always true here:

- A statement proves itself: two COSE_Sign1 of type `trambien-key`, one by either key, over the same deterministic CBOR
  map: 0 gateway (a label), 1 the old public key, 2 the new one, 3 how many rotations there were since the key was made
  without a predecessor, this one included. So it may be kept, sent and read anywhere.
- A statement that reads as one is well signed by both keys it names. Whether the old one is trusted is for
  `buffer.trust` to say.
- Pure: keys are given; Ed25519 is deterministic, so the same keys make the same statement.

`FORMAT.md`, section 7. The custody of the device key and the verifier's key ring enter.
"""

from collections.abc import Sequence
from typing import NamedTuple

from buffer import cose
from buffer.block import MAX_ENVELOPE, MAX_NAME
from buffer.cbor import dumps, expect, fields, loads, natural
from buffer.errors import BlockInvalid
from buffer.keys import Signer

TYPE = "trambien-key"
MAX_STATEMENTS = 64
"""So many rotations may follow an enrolled key: a `start` event carries all of their statements."""

_REASON = "key-statement"
_FIELDS = 4
_MAX_COUNTER = (1 << 63) - 1

Encoded = tuple[bytes, bytes]
"""The COSE_Sign1 by the old key and the one by the new key."""


class Statement(NamedTuple):
    """What both keys have signed. Keys are raw Ed25519 public keys."""

    gateway: str
    old: bytes
    new: bytes
    counter: int

    @property
    def old_kid(self) -> bytes:
        """The thumbprint of the key that retires."""
        return cose.thumbprint(self.old)

    @property
    def new_kid(self) -> bytes:
        """The thumbprint of the key that follows."""
        return cose.thumbprint(self.new)


def sign_statement(gateway: str, old: Signer, new: Signer, counter: int) -> Encoded:
    """Let both keys sign that `new` follows `old`."""
    content = dumps({0: gateway, 1: old.public_key, 2: new.public_key, 3: counter})
    return cose.sign(content, TYPE, old.kid, old.sign), cose.sign(content, TYPE, new.kid, new.sign)


def read_statement(encoded: object) -> Statement:
    """Give what an array of two envelopes states. Raises BlockInvalid: key-statement, do-not-interpret."""
    match encoded:
        case [bytes(by_old), bytes(by_new), *_] if max(len(by_old), len(by_new)) <= MAX_ENVELOPE:
            return _read(by_old, by_new)
    raise BlockInvalid(_REASON)


def read_statements(encoded: Sequence[object]) -> tuple[Statement, ...]:
    """Give what each of several states. Raises BlockInvalid."""
    return tuple(map(read_statement, encoded))


def _read(by_old: bytes, by_new: bytes) -> Statement:
    try:
        content = cose.unverified(by_old).payload
        statement = _decode(content)
        first = cose.verify(by_old, {statement.old_kid: statement.old}, TYPE)
        second = cose.verify(by_new, {statement.new_kid: statement.new}, TYPE)
    except cose.SignatureRefused as refused:
        raise BlockInvalid(_REASON) from refused
    if first.payload != second.payload or statement.old == statement.new:
        raise BlockInvalid(_REASON)
    return statement


def _decode(content: bytes) -> Statement:
    """Read the content, its signatures not yet looked at: bounded by its envelope, and believed only after them."""
    entries = fields(loads(content, _REASON), _FIELDS, _REASON)
    gateway = expect(entries.get(0), str, _REASON)
    old, new = (expect(entries.get(number), bytes, _REASON) for number in (1, 2))
    if len(gateway) > MAX_NAME or not len(old) == len(new) == cose.KEY_BYTES:
        raise BlockInvalid(_REASON)
    if (counter := natural(entries.get(3), _MAX_COUNTER, _REASON)) < 1:
        raise BlockInvalid(_REASON)
    return Statement(gateway, old, new, counter)
