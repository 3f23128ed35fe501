"""From the bytes of an answer to the raw values of its columns. Pure; nothing here can fail on bytes of right length.

A `Decoder` is made once per request and does at most four things to an answer, the first three each in one call:

1. where bits are wanted, expand every byte to eight bytes of 0 and 1 behind the answer, lowest bit first
   (Modbus Application Protocol V1.1b3, 6.1);
2. where the bytes do not already lie as `struct` needs them (another word order, points that overlap), pick them
   by a permutation computed beforehand;
3. unpack all columns with one precompiled `struct`;
4. finish those columns that are not yet what the technician named: masks and shifts, BCD, text.

The common case, registers in order ABCD, is the third step alone. No Python object is made per reading but the values.
What cannot be read as its type (a BCD digit above 9, text that is not UTF-8) is None.

Word orders, for a value whose bytes from high to low are A B C D: `ABCD` high word first; `CDAB` low word first;
`BADC` high word first with the bytes of each word swapped; `DCBA` all bytes reversed. 64-bit values extend this: four
words, reversed or not, with swapped bytes or not. One register knows only its two bytes: AB or BA. Text is two
characters a register, the first in the high byte, or in the low one (`BADC`); it ends at the first NUL, and spaces at
its end are padding.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

from buffer.frame import Value
from drivers.modbus.plan import Request, Span
from drivers.modbus.points import Order, Type

CODES: dict[Type, str] = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
    "bcd16": "H",
    "bcd32": "I",
}
"""The struct code of each type but `string`, which has a length."""

_BITS_OF = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))


Finish = Callable[[Any], Value]
"""Makes of an unpacked number or of bytes the value of the column; None where they cannot be one."""


class Field(NamedTuple):
    """One value in an answer: its cells, its type, its order, and which part of a register it is."""

    span: Span
    kind: Type
    order: Order = "ABCD"
    bit: int | None = None
    high_byte: bool = False
    mask: int | None = None
    shift: int = 0

    @property
    def code(self) -> str:
        """The struct code."""
        return f"{self.span.width * 2}s" if self.kind == "string" else CODES[self.kind]

    @property
    def finish(self) -> Finish | None:
        """What is left to do after unpacking, if anything."""
        if self.kind == "string":
            return text_of
        if self.kind in ("bcd16", "bcd32"):
            return number_of_bcd
        if self.mask is None and not self.shift:
            return None
        mask, shift = -1 if self.mask is None else self.mask, self.shift
        return lambda raw: (raw & mask) >> shift


def number_of_bcd(raw: int) -> int | None:
    """Read four bits a digit; None where one of them is above 9."""
    digits = f"{raw:x}"
    return int(digits) if digits.isdecimal() else None


def text_of(raw: bytes) -> str | None:
    """Read text up to the first NUL, without the spaces that pad it; None where it is not UTF-8."""
    try:
        return raw.partition(b"\0")[0].rstrip(b" ").decode()
    except UnicodeDecodeError:
        return None


class Decoder(NamedTuple):
    """Turns the bytes of one request's answer into the values of its fields, in the order of the fields."""

    size: int
    """Bytes the answer must have."""
    expand: bool
    pick: Callable[[bytes], tuple[int, ...]] | None
    struct: Struct
    finishes: tuple[tuple[int, Finish], ...] = ()

    def __call__(self, answer: bytes) -> tuple[Value, ...]:
        """Give the values. `answer` has `size` bytes."""
        if self.expand:
            answer += b"".join([_BITS_OF[byte] for byte in answer])
        if self.pick is not None:
            answer = bytes(self.pick(answer))
        values = self.struct.unpack(answer)
        return self._finished(values) if self.finishes else values

    def _finished(self, unpacked: tuple[Any, ...]) -> tuple[Value, ...]:
        values = list(unpacked)
        for column, finish in self.finishes:
            values[column] = finish(values[column])
        return tuple(values)


def answer_size(request: Request) -> int:
    """Bytes of data in the answer to a request."""
    return (request.quantity + 7) // 8 if request.table in ("coil", "discrete") else request.quantity * 2


def decoder(request: Request, fields: Sequence[Field]) -> Decoder:
    """Prepare the decoding of a request's answer into these fields, each of which it covers."""
    size = answer_size(request)
    places = [_bytes_of(field, request, size) for field in fields]
    expand = any(field.kind == "bool" for field in fields)
    finishes = tuple((i, field.finish) for i, field in enumerate(fields) if field.finish is not None)
    padded = None if expand else _padded(size, fields, places)
    if padded is not None:
        return Decoder(size, expand=False, pick=None, struct=padded, finishes=finishes)
    codes = "".join(field.code for field in fields)
    pick = _picker([at for place in places for at in place])
    return Decoder(size, expand, pick, Struct(">" + codes), finishes)


def _padded(size: int, fields: Sequence[Field], places: Sequence[Sequence[int]]) -> Struct | None:
    """Describe the answer as it lies, with pad bytes in the holes; None where a field is out of order."""
    text, at = ">", 0
    for field, place in zip(fields, places, strict=True):
        if place[0] < at or list(place) != list(range(place[0], place[0] + len(place))):
            return None
        text += "x" * (place[0] - at) + field.code
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
    if field.kind in ("int8", "uint8"):
        return (start * 2 + (not field.high_byte),)
    if field.kind == "string":
        return _ordered(start * 2, field.span.width, "BADC" if field.order == "BADC" else "ABCD")
    return _ordered(start * 2, field.span.width, field.order)


def _ordered(first: int, words: int, order: Order) -> list[int]:
    sequence = range(words) if order in ("ABCD", "BADC") else range(words - 1, -1, -1)
    pair = (0, 1) if order in ("ABCD", "CDAB") else (1, 0)
    return [first + word * 2 + byte for word in sequence for byte in pair]
