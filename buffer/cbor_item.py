"""One item of CBOR (RFC 8949): bytes and the value they say.

What is always true here:

- Written: the shortest head that holds the argument, the shortest float that holds the value (every NaN as f97e00),
  definite lengths, no tags, maps in the order of their encoded keys, shorter ones first. For the integer keys from 0 up
  that the formats have this is the order of section 4.2.1 too.
- Read: one item and nothing behind it; integers of 64 bits, bytes, text, arrays, maps, floats, false, true, null. No
  tags, no other simple values, no indefinite lengths, no key twice (as Python counts: 1, 1.0 and true are one), no more
  arrays and maps in one another than the caller allows. Anything else is `NotCbor`. A head longer than needed and keys
  in another order are read; who wants the one encoding encodes again and compares.
- No length is believed before as many bytes are there, and a member takes at least one. An item takes at most about a
  hundred times its bytes in memory; the bytes are bounded by the caller.
- No recursion is deeper than the nesting that is allowed: one call a level.

A leaf: imports nothing of this project. `cbor`, `cose` and `config.envelope` enter.
"""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any, NoReturn

MAX_WRITTEN_DEPTH = 64
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(0, 0xC0, 0x20)
_HALF, _SINGLE, _DOUBLE = Struct(">e"), Struct(">f"), Struct(">d")
_HALF_NAN = b"\xf9\x7e\x00"
_ARGUMENTS = {24: Struct(">B"), 25: Struct(">H"), 26: Struct(">I"), 27: Struct(">Q")}
_HEAD_2, _HEAD_4, _HEAD_8 = Struct(">BH"), Struct(">BI"), Struct(">BQ")
_ONE_BYTE = [bytes([byte]) for byte in range(256)]

Writer = Callable[[Any, int], bytes]
Found = tuple[Any, int]
"""A value, and where the next one begins."""
Reader = Callable[[bytes, int, int], Found]
"""Reads what stands behind a first byte: the bytes, where that is, and how many levels may still be opened."""


class NotCbor(ValueError):
    """The bytes are not one item as this page has it."""


def encode(value: object) -> bytes:
    """Give the one encoding.

    Raises ValueError for what has none here: another type, an integer beyond 64 bits, a lone surrogate, more than
    `MAX_WRITTEN_DEPTH` arrays and maps in one another.
    """
    return _WRITERS[type(value)](value, MAX_WRITTEN_DEPTH)


def decode(data: bytes, depth: int) -> Any:
    """Give the value of exactly one item with at most `depth` arrays and maps in one another, else raise NotCbor."""
    try:
        value, end = _READERS[data[0]](data, 1, depth)
    except (IndexError, struct_error, UnicodeDecodeError) as error:
        raise NotCbor("cut off, or not UTF-8") from error
    if end != len(data):
        raise NotCbor("bytes behind the item")
    return value


# -- writing -----------------------------------------------------------------------------------------------------------


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return _ONE_BYTE[major | argument]
    if argument < 0x100:
        return _ONE_BYTE[major | 24] + _ONE_BYTE[argument]
    if argument < 0x1_0000:
        return _HEAD_2.pack(major | 25, argument)
    if argument < 0x1_0000_0000:
        return _HEAD_4.pack(major | 26, argument)
    if argument < 0x1_0000_0000_0000_0000:
        return _HEAD_8.pack(major | 27, argument)
    raise ValueError("an integer beyond 64 bits")


def _write_int(value: int, _room: int) -> bytes:
    return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def _write_bytes(value: bytes, _room: int) -> bytes:
    return _head(_BYTES, len(value)) + value


def _write_text(value: str, _room: int) -> bytes:
    encoded = value.encode()
    return _head(_TEXT, len(encoded)) + encoded


def _write_array(value: Sequence[object], room: int) -> bytes:
    if not room:
        raise ValueError("nested too deep")
    room -= 1
    return _head(_ARRAY, len(value)) + b"".join([_WRITERS[type(member)](member, room) for member in value])


def _write_map(value: Mapping[object, object], room: int) -> bytes:
    if not room:
        raise ValueError("nested too deep")
    room -= 1
    members = [(_WRITERS[type(key)](key, room), _WRITERS[type(member)](member, room)) for key, member in value.items()]
    members.sort(key=_rank)
    return _head(_MAP, len(members)) + b"".join([part for pair in members for part in pair])


def _rank(member: tuple[bytes, bytes]) -> tuple[int, bytes]:
    return len(member[0]), member[0]


def _write_float(value: float, _room: int) -> bytes:
    if value != value:  # noqa: PLR0124  (NaN)
        return _HALF_NAN
    if _holds(_HALF, value):
        return b"\xf9" + _HALF.pack(value)
    if _holds(_SINGLE, value):
        return b"\xfa" + _SINGLE.pack(value)
    return b"\xfb" + _DOUBLE.pack(value)


def _holds(shape: Struct, value: float) -> bool:
    try:
        (kept,) = shape.unpack(shape.pack(value))
    except OverflowError:
        return False
    return bool(kept == value)


class _Writers(dict[type, Writer]):
    """The writer of each type; a subclass (of an enumeration, a named tuple) has that of its base."""

    def __missing__(self, kind: type) -> Writer:
        for base in kind.__mro__:
            if base in self:
                return self[base]
        raise ValueError(f"CBOR has no {kind.__name__} here")


_WRITERS = _Writers(
    {
        bool: lambda value, _room: b"\xf5" if value else b"\xf4",
        type(None): lambda _value, _room: b"\xf6",
        int: _write_int,
        float: _write_float,
        bytes: _write_bytes,
        str: _write_text,
        list: _write_array,
        tuple: _write_array,
        dict: _write_map,
    }
)


# -- reading -----------------------------------------------------------------------------------------------------------


def _read_bytes(data: bytes, at: int, size: int, _room: int) -> Found:
    end = at + size
    if end > len(data):
        raise NotCbor("cut off")
    return data[at:end], end


def _read_text(data: bytes, at: int, size: int, _room: int) -> Found:
    end = at + size
    if end > len(data):
        raise NotCbor("cut off")
    return data[at:end].decode(), end


def _read_array(data: bytes, at: int, count: int, room: int) -> Found:
    if not room or count > len(data) - at:
        raise NotCbor("nested too deep, or cut off")
    members = []
    for _ in range(count):
        member, at = _READERS[data[at]](data, at + 1, room - 1)
        members.append(member)
    return members, at


def _read_map(data: bytes, at: int, count: int, room: int) -> Found:
    if not room or 2 * count > len(data) - at:
        raise NotCbor("nested too deep, or cut off")
    members = {}
    for _ in range(count):
        key, at = _READERS[data[at]](data, at + 1, room - 1)
        if type(key) is list or type(key) is dict:
            key = _hashable(key)
        members[key], at = _READERS[data[at]](data, at + 1, room - 1)
    if len(members) != count:
        raise NotCbor("a key stands twice")
    return members, at


class _ArrayKey(tuple[Any, ...]):
    """An array as a key. Python's hash of a tuple is foreseeable: a stranger could make all keys of a map collide."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(_text(self))


class _MapKey(frozenset[_ArrayKey]):
    """A map as a key: its pairs."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(_text(self))


def _hashable(key: Any) -> Any:
    """Give a key that is an array or a map a form that a dict holds. No format has one; who skips it reads on."""
    if type(key) is list:
        return _ArrayKey(map(_hashable, key))
    if type(key) is dict:
        return _MapKey(_ArrayKey((name, _hashable(member))) for name, member in key.items())
    return key


def _text(key: object) -> str:
    """Give a text that is the same for keys that are the same."""
    if isinstance(key, _ArrayKey):
        return f"[{','.join(map(_text, key))}]"
    if isinstance(key, _MapKey):
        return f"{{{','.join(sorted(map(_text, key)))}}}"
    whole = isinstance(key, bool) or (isinstance(key, float) and key.is_integer())
    return repr(int(key) if whole else key)  # type: ignore[call-overload]


def _read_float(shape: Struct) -> Reader:
    def read(data: bytes, at: int, _room: int) -> Found:
        return shape.unpack_from(data, at)[0], at + shape.size

    return read


def _constant(value: object) -> Reader:
    return lambda _data, at, _room: (value, at)


def _refuse(_data: bytes, _at: int, _room: int) -> NoReturn:
    raise NotCbor("a tag, an indefinite length, or a head that is not used")


def _argument(shape: Struct, sign: int) -> Reader:
    """Give the reader of an integer whose argument stands behind its first byte."""

    def read(data: bytes, at: int, _room: int) -> Found:
        return shape.unpack_from(data, at)[0] ^ sign, at + shape.size

    return read


def _short(read: Callable[[bytes, int, int, int], Found], count: int) -> Reader:
    """Give the reader of what has its count in its first byte."""
    return lambda data, at, room: read(data, at, count, room)


def _long(read: Callable[[bytes, int, int, int], Found], shape: Struct) -> Reader:
    """Give the reader of what has its count behind its first byte."""
    return lambda data, at, room: read(data, at + shape.size, shape.unpack_from(data, at)[0], room)


def _readers() -> list[Reader]:
    """Give the reader for each first byte."""
    table: list[Reader] = [_refuse] * 256
    for major, sign in ((_UNSIGNED, 0), (_NEGATIVE, -1)):
        table[major : major + 24] = [_constant(number ^ sign) for number in range(24)]
        table[major + 24 : major + 28] = [_argument(shape, sign) for shape in _ARGUMENTS.values()]
    for major, read in ((_BYTES, _read_bytes), (_TEXT, _read_text), (_ARRAY, _read_array), (_MAP, _read_map)):
        table[major : major + 24] = [_short(read, count) for count in range(24)]
        table[major + 24 : major + 28] = [_long(read, shape) for shape in _ARGUMENTS.values()]
    table[0xF4:0xF7] = map(_constant, (False, True, None))
    table[0xF9:0xFC] = map(_read_float, (_HALF, _SINGLE, _DOUBLE))
    return table


_READERS = _readers()
