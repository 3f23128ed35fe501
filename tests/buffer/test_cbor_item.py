"""One item of CBOR: the examples of the standard, and hostile bytes. Beside cbor2: test_cbor_beside_cbor2.py."""

import math
import struct
import sys
import tracemalloc
from enum import IntEnum
from typing import NamedTuple

import pytest

from buffer.cbor import MAX_DEPTH
from buffer.cbor_item import MAX_WRITTEN_DEPTH, NotCbor, decode, encode

# RFC 8949, appendix A: what has one encoding here.
WRITTEN = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f90000", 0.0),
    ("f98000", -0.0),
    ("f93c00", 1.0),
    ("fb3ff199999999999a", 1.1),
    ("f93e00", 1.5),
    ("f97bff", 65504.0),
    ("fa47c35000", 100000.0),
    ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f90001", 5.960464477539063e-8),
    ("f90400", 0.00006103515625),
    ("f9c400", -4.0),
    ("fbc010666666666666", -4.1),
    ("f97c00", math.inf),
    ("f97e00", math.nan),
    ("f9fc00", -math.inf),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\1\2\3\4"),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "ü"),
    ("63e6b0b4", "水"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
    ("a56161614161626142616361436164614461656145", {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
]
# The same appendix: longer than needed, read and never written.
READ = [
    ("fa7f800000", math.inf),
    ("fa7fc00000", math.nan),
    ("faff800000", -math.inf),
    ("fb7ff0000000000000", math.inf),
    ("fb7ff8000000000000", math.nan),
    ("fbfff0000000000000", -math.inf),
]
# The same appendix: what these pages do not have.
REFUSED = [
    ("f7", "undefined"),
    ("f0", "a simple value"),
    ("f8ff", "a simple value"),
    ("c249010000000000000000", "a bignum"),
    ("c349010000000000000000", "a negative bignum"),
    ("c074323031332d30332d32315432303a30343a30305a", "a date"),
    ("c11a514b67b0", "a time"),
    ("c1fb41d452d9e8a00000", "a time"),
    ("d74401020304", "base16"),
    ("d818456449455446", "CBOR in CBOR"),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", "an address"),
    ("5f42010243030405ff", "bytes without end"),
    ("7f657374726561646d696e67ff", "text without end"),
    ("9fff", "an array without end"),
    ("9f018202039f0405ffff", "an array without end"),
    ("83018202039f0405ff", "an array without end"),
    ("83019f0203ff820405", "an array without end"),
    ("bf61610161629f0203ffff", "a map without end"),
    ("826161bf61626163ff", "a map without end"),
    ("bf6346756ef563416d7421ff", "a map without end"),
]


def alike(one, other):
    """Tell whether two values are the same to the bit, NaN being NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike([list(pair) for pair in one.items()], [list(pair) for pair in other.items()])
    return one == other


@pytest.mark.parametrize(("encoded", "value"), WRITTEN)
def test_the_examples_of_the_standard_are_written_and_read(encoded, value):
    """RFC 8949, appendix A."""
    assert encode(value).hex() == encoded
    assert alike(decode(bytes.fromhex(encoded), MAX_DEPTH), value)


@pytest.mark.parametrize(("encoded", "value"), READ)
def test_the_longer_floats_of_the_standard_are_read(encoded, value):
    """The same values in more bytes than needed."""
    assert alike(decode(bytes.fromhex(encoded), MAX_DEPTH), value)


@pytest.mark.parametrize(("encoded", "what"), REFUSED)
def test_the_examples_beyond_the_formats_are_refused(encoded, what):
    """Tags, other simple values, indefinite lengths."""
    with pytest.raises(NotCbor):
        decode(bytes.fromhex(encoded), MAX_DEPTH)


# -- what has no encoding, and hostile bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [1 << 64, -(1 << 64) - 1, "\ud800", {1, 2}, object(), 1j, bytearray(b"x"), [{0: (1 << 64,)}], {(1,): {2}}]
)
def test_what_the_formats_cannot_carry_is_a_value_error(value):
    """A caller's bug, never other bytes."""
    with pytest.raises(ValueError):
        encode(value)


def test_endless_nesting_is_a_value_error_and_no_recursion_error():
    """A list or a map that holds itself ends at the bound."""
    array, mapping = [], {}
    array.append(array)
    mapping[0] = mapping
    for endless in (array, mapping):
        with pytest.raises(ValueError, match="deep"):
            encode(endless)
    nested = 0
    for _ in range(MAX_WRITTEN_DEPTH):
        nested = [nested]
    assert encode(nested) == b"\x81" * MAX_WRITTEN_DEPTH + b"\0"


def test_a_subclass_is_written_as_its_base():
    """Enumerations, named tuples, texts of one's own."""

    class Kind(IntEnum):
        ONE = 1

    class Pair(NamedTuple):
        left: int
        right: str

    class Name(str):
        __slots__ = ()

    assert encode({Name("k"): Pair(Kind.ONE, Name("n"))}) == encode({"k": [1, "n"]})


@pytest.mark.parametrize("opened", [b"\x81", b"\xa1\0", b"\x9b\0\0\0\0\0\0\0\1"])
@pytest.mark.parametrize("end", [b"\0", b"\x80", b"\xa0"])
def test_nesting_is_read_as_deep_as_allowed_and_no_deeper(opened, end):
    """An empty array is a level too, and a million of them cost neither stack nor time."""
    levels = MAX_DEPTH - (end != b"\0")
    decode(opened * levels + end, MAX_DEPTH)
    with pytest.raises(NotCbor):
        decode(opened * (levels + 1) + end, MAX_DEPTH)
    with pytest.raises(NotCbor):
        decode(opened * 1_000_000 + end, MAX_DEPTH)


DISTINCT = b"".join(struct.pack(">BIB", 0x1A, number, 0) for number in range(20_000))
"""120,000 bytes, as many members of a map as they can be."""


@pytest.mark.parametrize("major", [0x40, 0x60, 0x80, 0xA0])
@pytest.mark.parametrize("count", [b"\x1a\0\1\xd4\xc1", b"\x1a\xff\xff\xff\xff", b"\x1b" + b"\xff" * 8])
def test_no_length_is_believed_before_the_bytes_are_there(major, count):
    """A head that promises from one more to 2^64 members takes no memory, and none of them is made."""
    data = bytes([major | count[0]]) + count[1:] + DISTINCT
    tracemalloc.start()
    try:
        with pytest.raises(NotCbor):
            decode(data, MAX_DEPTH)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\x62\xff\xff", b"\x63\xed\xa0\x80", b"\x82\0", b"\xa1\0", b"\x19\0", b"\xf9\0", b"\xa2\0\0\0\0"],
)
def test_what_is_cut_off_or_goes_on_is_refused(data):
    """One item, whole, in UTF-8, no key twice."""
    with pytest.raises(NotCbor):
        decode(data, MAX_DEPTH)


@pytest.mark.parametrize("as_map", [False, True])
def test_keys_that_a_stranger_chose_do_not_collide(as_map):
    """Python hashes -1 as -2, so a quarter of a megabyte of arrays of them took ten seconds, before any signature."""
    arrays = [[-1 - (number >> bit & 1) for bit in range(10)] for number in range(1024)]
    keys = [dict(enumerate(array)) if as_map else array for array in arrays]
    data = b"\xb9\x04\x00" + b"".join(encode(key) + b"\0" for key in keys)
    assert len({hash(key) for key in decode(data, 4)}) > 1000


@pytest.mark.parametrize(
    "data",
    ["a2 8100 00 81f90000 00", "a2 81f5 00 8101 00", "a2 a10100 00 a1f500 00", "a2 a201000200 00 a202000100 00"],
)
def test_keys_that_are_the_same_are_one_also_inside_of_arrays_and_maps(data):
    """0 and 0.0, 1 and true, members of a map in another order."""
    with pytest.raises(NotCbor, match="twice"):
        decode(bytes.fromhex(data), 4)


def test_reading_needs_one_call_a_level():
    """Deep in a stack of others there is room for the depth that is allowed."""
    room = sys.getrecursionlimit()

    def dive(depth):
        return decode(b"\x81" * 16 + b"\0", 16) if not depth else dive(depth - 1)

    frames = 0
    frame = sys._getframe()
    while frame is not None:
        frames, frame = frames + 1, frame.f_back
    assert dive(room - frames - 60)
