"""From the bytes of an answer to the raw values of its columns. Pure; nothing here can fail on bytes of right length.

A `Decoder` is made once per request and does at most three things to an answer, each in one call:

1. where bits are wanted, expand every byte to eight bytes of 0 and 1 behind the answer, lowest bit first
   (Modbus Application Protocol V1.1b3, 6.1);
2. where the bytes do not already lie as `struct` needs them (another word order, points that overlap), pick them
   by a permutation computed beforehand;
3. unpack all columns with one precompiled `struct`.

The common case, registers in order ABCD, is the third step alone. No Python object is made per reading but the values.

Word orders, for a value whose bytes from high to low are A B C D: `ABCD` high word first; `CDAB` low word first;
`BADC` high word first with the bytes of each word swapped; `DCBA` all bytes reversed. 64-bit values extend this: four
words, reversed or not, with swapped bytes or not. One register knows only its two bytes: AB or BA.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from struct import Struct
from typing import NamedTuple

from buffer.frame import Value
from drivers.modbus.plan import Request, Span
from drivers.modbus.settings import WIDTH, Order, Type

CODES: dict[Type, str] = {
    "bool": "?",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}
"""The struct code of each type."""

_BITS_OF = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))


class Field(NamedTuple):
    """One value in an answer: its cells, its type, its order, and its bit where it is one of a register."""

    span: Span
    kind: Type
    order: Order = "ABCD"
    bit: int | None = None


class Decoder(NamedTuple):
    """Turns the bytes of one request's answer into the values of its fields, in the order of the fields."""

    size: int
    """Bytes the answer must have."""
    expand: bool
    pick: Callable[[bytes], tuple[int, ...]] | None
    struct: Struct

    def __call__(self, answer: bytes) -> tuple[Value, ...]:
        """Give the values. `answer` has `size` bytes."""
        if self.expand:
            answer += b"".join([_BITS_OF[byte] for byte in answer])
        if self.pick is not None:
            answer = bytes(self.pick(answer))
        return self.struct.unpack(answer)


def answer_size(request: Request) -> int:
    """Bytes of data in the answer to a request."""
    return (request.quantity + 7) // 8 if request.table in ("coil", "discrete") else request.quantity * 2


def decoder(request: Request, fields: Sequence[Field]) -> Decoder:
    """Prepare the decoding of a request's answer into these fields, each of which it covers."""
    size = answer_size(request)
    places = [_bytes_of(field, request, size) for field in fields]
    expand = any(field.kind == "bool" for field in fields)
    padded = None if expand else _padded(size, fields, places)
    if padded is not None:
        return Decoder(size, expand=False, pick=None, struct=padded)
    codes = "".join(CODES[field.kind] for field in fields)
    return Decoder(size, expand, _picker([at for place in places for at in place]), Struct(">" + codes))


def _padded(size: int, fields: Sequence[Field], places: Sequence[Sequence[int]]) -> Struct | None:
    """Describe the answer as it lies, with pad bytes in the holes; None where a field is out of order."""
    text, at = ">", 0
    for field, place in zip(fields, places, strict=True):
        if place[0] < at or list(place) != list(range(place[0], place[0] + len(place))):
            return None
        text += "x" * (place[0] - at) + CODES[field.kind]
        at = place[-1] + 1
    return Struct(text + "x" * (size - at))


def _picker(positions: Sequence[int]) -> Callable[[bytes], tuple[int, ...]]:
    if len(positions) == 1:
        return lambda answer: (answer[positions[0]],)
    return itemgetter(*positions)


def _bytes_of(field: Field, request: Request, size: int) -> Sequence[int]:
    """Where the bytes of a field stand in the (expanded) answer, high byte first."""
    start = field.span.address - request.address
    if field.span.table in ("coil", "discrete"):
        return (size + start,)
    if field.bit is not None:
        low_byte_first = field.order in ("BADC", "DCBA")
        byte = start * 2 + ((field.bit < 8) ^ low_byte_first)
        return (size + byte * 8 + field.bit % 8,)
    return _ordered(start * 2, WIDTH[field.kind], field.order)


def _ordered(first: int, words: int, order: Order) -> list[int]:
    sequence = range(words) if order in ("ABCD", "BADC") else range(words - 1, -1, -1)
    pair = (0, 1) if order in ("ABCD", "CDAB") else (1, 0)
    return [first + word * 2 + byte for word in sequence for byte in pair]
