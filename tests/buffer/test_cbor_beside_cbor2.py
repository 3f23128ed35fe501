"""The codec beside the library with which format 1 was frozen, which has no wheel for 32-bit Arm."""

from io import BytesIO

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffer.cbor_item import NotCbor, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats()
    | st.floats(width=32)
    | st.floats(width=16)
    | st.binary()
    | st.text()
)
KEYS = st.integers(0, 30) | st.integers(-(1 << 64), (1 << 64) - 1) | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=40)


@given(VALUES)
@example([b"x" * size for size in (23, 24, 255, 256, 65535, 65536)])
@example([sign * (1 << bits) + more for bits in range(64) for more in (-1, 0) for sign in (1, -1)])
@example([float(f"1e{power}") for power in range(-330, 309)])
@example(dict.fromkeys((0, 23, 24, -1, "", "aa", "b", b"", 255, 256, 65536, 1 << 32)))
def test_what_is_written_is_what_cbor2_writes_canonically(value):
    """Byte for byte: format 1 was frozen with it."""
    encoded = encode(value)
    assert encoded == cbor2.dumps(value, canonical=True)
    assert encode(decode(encoded, 64)) == encoded


def by_cbor2(data, depth):
    """Read one item with the bounds of cbor2, which lets undefined, simple values and an empty last level through."""
    source = BytesIO(data)
    known = (*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
    value = cbor2.load(
        source,
        max_depth=depth,
        semantic_decoders=dict.fromkeys(known, refuse),
        tag_hook=refuse,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    if source.tell() != len(data):
        raise ValueError("bytes behind the item")
    return value


def refuse(*_):
    """Refuse a tag."""
    raise ValueError("a tag")


def taken(value, room):
    """Tell whether what cbor2 read is within the page: no tag, no simple value, and no level too many."""
    if isinstance(value, list | tuple):
        return room > 0 and all(taken(member, room - 1) for member in value)
    if isinstance(value, dict | cbor2.frozendict):
        return room > 0 and all(taken(key, room - 1) and taken(member, room - 1) for key, member in value.items())
    return type(value) in (int, float, bytes, str, bool, type(None))


def compare(data, depth):
    """Read with both: the same value, or the same refusal."""
    try:
        theirs = by_cbor2(data, depth)
        fit = taken(theirs, depth)
    except (cbor2.CBORDecodeError, TypeError, ValueError):
        fit = False
    if not fit:
        with pytest.raises(NotCbor):
            decode(data, depth)
        return
    ours = decode(data, depth)
    assert encode_any(ours) == encode_any(theirs)


def encode_any(value):
    """Give a text of a value that shows types and bits, also of keys that are arrays or maps."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(encode_any, value))}]"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(f'{encode_any(key)}:{encode_any(member)}' for key, member in value))}}}"
    if isinstance(value, dict | cbor2.frozendict):
        return encode_any(frozenset((Exact(encode_any(key)), Exact(encode_any(value[key]))) for key in value))
    return repr(value)


class Exact(str):
    """A text that stands for itself."""

    __slots__ = ()

    def __repr__(self):
        """Give the text."""
        return str(self)


@given(st.binary(max_size=64), st.integers(1, 16))
@example(bytes.fromhex("a28000a00a"), 4)
@example(bytes.fromhex("a1a1810102f6"), 4)
@example(bytes.fromhex("a2a000a000"), 4)
@example(bytes.fromhex("a2000000f90000"), 4)
@example(bytes.fromhex("a20100f500"), 4)
@example(bytes.fromhex("1b0000000000000001"), 1)
def test_any_bytes_are_read_or_refused_as_by_cbor2(data, depth):
    """What verified with it goes on verifying, and nothing more does; but for what FORMAT.md refuses and it took."""
    compare(data, depth)


@given(VALUES, st.data())
def test_spoilt_items_are_read_or_refused_as_by_cbor2(value, data):
    """One byte changed, one cut out, one put in: nearer to the edge than bytes at random."""
    encoded = bytearray(encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    new = data.draw(st.integers(0, 255))
    match data.draw(st.sampled_from(["change", "cut", "put", "end"])):
        case "change":
            encoded[at] = new
        case "cut":
            del encoded[at]
        case "put":
            encoded.insert(at, new)
        case "end":
            del encoded[at:]
    compare(bytes(encoded), 8)


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_alone_is_an_item_or_refused(first):
    """Nothing but NotCbor leaves, whatever begins and ends there."""
    compare(bytes([first]), 2)
    compare(bytes([first, 0]), 2)
    compare(bytes([first]) + bytes(8), 2)
