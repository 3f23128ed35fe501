"""Deterministic CBOR (RFC 8949, section 4.2.1), as far as the block format uses it.

What is always true here:

- Written: shortest forms (of floats too), definite lengths, no tags, maps in the order of their encoded keys, which
  are integers from 0 up.
- Read: one data item and nothing behind it, no tags, no indefinite lengths, no repeated keys, nesting at most
  `MAX_DEPTH`. Anything else is `BlockInvalid`. No length is believed before as many bytes are there; the bytes
  themselves are bounded by the caller.

The block format's own modules enter. `cose` is a leaf and does not.
"""

from io import BytesIO
from typing import Any, NoReturn, TypeVar

import cbor2

from buffer.errors import BlockInvalid

MAX_DEPTH = 16

T = TypeVar("T")


def dumps(value: object) -> bytes:
    """Encode. Raises ValueError for what the format cannot carry (an integer beyond 64 bits, a lone surrogate)."""
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error


def loads(data: bytes, reason: str) -> Any:
    """Decode exactly one item; `reason` names what was expected, for the error."""
    source = BytesIO(data)
    try:
        value = cbor2.load(
            source,
            max_depth=MAX_DEPTH,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise BlockInvalid(reason) from error
    if source.tell() != len(data):
        raise BlockInvalid(reason)
    return value


def expect(value: object, kind: type[T], reason: str) -> T:
    """Give `value` back if it is exactly of this type (True is no integer), else raise."""
    if type(value) is not kind:
        raise BlockInvalid(reason)
    return value


def natural(value: object, limit: int, reason: str) -> int:
    """Give `value` back if it is an integer from 0 to `limit`, else raise."""
    number = expect(value, int, reason)
    if not 0 <= number <= limit:
        raise BlockInvalid(reason)
    return number


def instant(value: object, reason: str) -> int:
    """Give `value` back if it is a time: a signed integer of 64 bits."""
    number = expect(value, int, reason)
    if not -(1 << 63) <= number < 1 << 63:
        raise BlockInvalid(reason)
    return number


def fields(value: object, known: int, reason: str) -> dict[int, Any]:
    """Give a map back if its keys are integers and none below zero; keys from `known` up are of a later version.

    A negative key means "do not interpret": a later version that changes the meaning of what stands beside it.
    """
    entries = expect(value, dict, reason)
    if any(type(key) is not int for key in entries):
        raise BlockInvalid(reason)
    if any(key < 0 for key in entries):
        raise BlockInvalid("do-not-interpret")
    return {key: entry for key, entry in entries.items() if key < known}


def _refuse(*_: object) -> NoReturn:
    raise ValueError("tags are not part of the format")


_NO_TAGS = dict.fromkeys(
    # Every tag that cbor2 knows; all others reach the tag hook.
    (*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799),
    _refuse,
)
