"""Deterministic CBOR (RFC 8949, section 4.2.1), as far as the block format uses it.

What is always true here:

- Written: the one encoding that `cbor_item` makes; maps have integer keys from 0 up.
- Read: exactly one item, as `cbor_item` reads it, nesting at most `MAX_DEPTH`. Anything else is `BlockInvalid`.

The block format's own modules enter. `cose` stands beside it, on `cbor_item` alone.
"""

from typing import Any, TypeVar

from buffer import cbor_item
from buffer.errors import BlockInvalid

MAX_DEPTH = 16

T = TypeVar("T")

dumps = cbor_item.encode
"""Encode. Raises ValueError for what the format cannot carry (an integer beyond 64 bits, a lone surrogate)."""


def loads(data: bytes, reason: str) -> Any:
    """Decode exactly one item; `reason` names what was expected, for the error."""
    try:
        return cbor_item.decode(data, MAX_DEPTH)
    except cbor_item.NotCbor as error:
        raise BlockInvalid(reason) from error


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
