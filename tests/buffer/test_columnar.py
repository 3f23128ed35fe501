"""What goes into a payload comes out of it, and nothing malformed comes out of anything."""

import math
import random
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer.cbor import dumps, loads
from buffer.columnar import MAX_READINGS, Definitions, Payload, decode_payload, encode_payload, encode_with_cuts
from buffer.errors import BlockInvalid
from buffer.frame import Change, Column, Event, Frame, Layout, fault_frame
from buffer.layout import KINDS

INTEGERS = {f"{sign}int{bits}": (bits, not sign) for sign in ("", "u") for bits in (8, 16, 32, 64)}
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**6).map(lambda n: n * 1_000_000)
STATUSES = st.sampled_from([0, 0x80000000, 0x40940000]) | st.integers(0, 2**32 - 1)
PLAIN = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text() | st.binary()
DATA = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


def values_of(kind):
    """Give a strategy for the raw values of a kind, bit patterns of floats included."""
    if kind in INTEGERS:
        bits, signed = INTEGERS[kind]
        low = -(1 << bits - 1) if signed else 0
        return st.integers(low, low + (1 << bits) - 1)
    if kind.startswith("float"):
        width = int(kind.removeprefix("float"))
        return st.floats(width=width) | st.sampled_from([math.nan, -math.nan, math.inf, -math.inf, -0.0])
    return {"bool": st.booleans(), "text": st.text(max_size=20), "bytes": st.binary(max_size=20)}[kind]


@st.composite
def layouts(draw):
    """Draw a layout of any kinds."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
    columns = tuple(Column(f"c{at}", kind) for at, kind in enumerate(kinds))
    return Layout("link", draw(st.text(max_size=5)), "driver", draw(st.none() | st.integers(1, 10**12)), columns)


@st.composite
def frames(draw, layout):
    """Draw a frame that fits a layout."""
    row = tuple(draw(st.none() | values_of(column.kind)) for column in layout.columns)
    statuses = draw(st.none() | st.tuples(*[STATUSES for _ in row]))
    return Frame(draw(TIMES), draw(TIMES), row, statuses)


@st.composite
def changes(draw, layout):
    """Draw a change that fits a layout."""
    point = draw(st.integers(0, len(layout.columns) - 1))
    value = draw(st.none() | values_of(layout.columns[point].kind))
    return Change(point, draw(st.none() | TIMES), draw(TIMES), value, draw(STATUSES), draw(st.booleans()))


@st.composite
def payloads(draw):
    """Draw a catalogue and a payload that fits it."""
    catalogue = draw(st.lists(layouts(), min_size=1, max_size=3))
    indexes = list(range(len(catalogue)))
    groups = [(i, tuple(draw(st.lists(frames(catalogue[i]), min_size=1, max_size=5)))) for i in indexes]
    pushed = [(i, tuple(draw(st.lists(changes(catalogue[i]), min_size=1, max_size=9)))) for i in indexes]
    events = draw(
        st.lists(
            st.builds(
                Event,
                st.text(max_size=64),
                TIMES,
                st.binary(min_size=8, max_size=8),
                st.lists(st.tuples(st.text(max_size=5), DATA), max_size=3).map(tuple),
            ),
            max_size=3,
        )
    )
    definitions = draw(st.none() | st.builds(Definitions, st.lists(st.binary(), max_size=2).map(tuple), st.binary()))
    keep = st.lists(st.sampled_from(indexes), unique=True, max_size=len(indexes))
    return catalogue, Payload(
        tuple(groups[i] for i in draw(keep)), tuple(pushed[i] for i in draw(keep)), tuple(events), definitions
    )


def exact(thing):
    """Give something that compares floats by their bits."""
    if isinstance(thing, float):
        return "float", struct.pack(">d", thing)
    if isinstance(thing, Payload):
        return exact((thing.frames, thing.changes, thing.definitions)), [exact_event(e) for e in thing.events]
    return tuple(map(exact, thing)) if isinstance(thing, tuple | list) else (type(thing), thing)


def exact_event(event):
    """Compare events by value; CBOR has one shortest NaN."""
    return repr(event)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(payloads())
def test_every_payload_comes_back_as_it_was(drawn):
    """Kinds, None, statuses, NaNs, order of arrival: all of it survives, bit by bit."""
    catalogue, payload = drawn
    assert exact(decode_payload(encode_payload(payload, catalogue), catalogue)) == exact(payload)


def walk(rows, columns, kind="uint16"):
    """Give a layout and frames of a random walk."""
    rnd = random.Random(1)
    current = [rnd.randrange(65536) for _ in range(columns)]
    found = []
    for row in range(rows):
        found.append(Frame(row * 10**9, 1000, tuple(current)))
        current = [max(0, min(65535, value + rnd.randint(-10, 10))) for value in current]
    return Layout("l", "d", "m", 10**9, tuple(Column(f"c{at}", kind) for at in range(columns))), tuple(found)


SMALL = Layout("l", "d", "m", None, tuple(Column(kind, kind) for kind in KINDS))
GOOD_ROW = (True, -1, 1, -1, 1, -1, 1, -1, 1, 0.5, 0.5, 0.5, "a", b"b")


def one(frame, layout=SMALL):
    """Encode one frame."""
    return encode_payload(Payload(frames=((0, (frame,)),)), [layout])


def test_a_good_frame_costs_nothing_but_its_lanes():
    """Neither statuses nor absent values leave a byte where there are none."""
    layout, found = walk(1, 100)
    assert len(one(found[0], layout)) <= 200 + 16 + 16


def test_a_fault_frame_comes_back_without_values():
    """A poll that brought nothing is a frame of its own."""
    frame = fault_frame(SMALL, 5, 0x80050000)
    assert decode_payload(one(frame), [SMALL]).frames == ((0, (frame,)),)


def test_equal_marks_of_neighbours_are_merged():
    """An hour of a dead instrument costs hardly more than a second of it."""
    dead = tuple(fault_frame(SMALL, second, 0x80050000) for second in range(100))
    body = loads(encode_payload(Payload(frames=((0, dead),)), [SMALL]), "payload")
    assert len(body[1][4][0]) == 1


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 2),
        (0, None.__class__),
        (1, 128),
        (2, -1),
        (4, 65536),
        (8, 1 << 64),
        (3, 1.5),
        (10, 1e300),
        (12, b"x"),
        (13, "x"),
    ],
)
def test_a_value_that_does_not_fit_its_kind_is_refused(position, value):
    """A driver's bug is an error, never a truncation."""
    row = (*GOOD_ROW[:position], value, *GOOD_ROW[position + 1 :])
    with pytest.raises(ValueError):
        one(Frame(0, 0, row))


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, 0, GOOD_ROW[:-1]),
        Frame(1 << 63, 0, GOOD_ROW),
        Frame(0, 0, GOOD_ROW, (0,)),
        Frame(0, 0, GOOD_ROW, (1 << 32,) * len(GOOD_ROW)),
        Frame(0, 0, (*GOOD_ROW[:-2], "\ud800", b"")),
    ],
)
def test_a_frame_that_does_not_fit_the_format_is_refused(frame):
    """The wrong number of values or statuses, a time beyond 64 bits, a lone surrogate."""
    with pytest.raises(ValueError):
        one(frame)


@pytest.mark.parametrize(
    "event",
    [Event("x", 0, b"short"), Event("x" * 65, 0, bytes(8)), Event("x", 0, bytes(8), (("k", 1 << 64),))],
)
def test_an_event_that_does_not_fit_the_format_is_refused(event):
    """An id of 8 bytes, a type of 64 characters, integers of 64 bits."""
    with pytest.raises(ValueError):
        encode_payload(Payload(events=(event,)), [])


def test_a_change_of_a_point_that_is_not_there_is_refused():
    """Points are positions in the layout."""
    with pytest.raises(ValueError):
        encode_payload(Payload(changes=((0, (Change(99, None, 0, 1),)),)), [SMALL])


def test_more_readings_than_a_block_may_hold_are_refused():
    """The bound is the reader's too."""
    layout, found = walk(1, 4096)
    with pytest.raises(ValueError, match="readings"):
        encode_payload(Payload(frames=((0, found * (MAX_READINGS // 4096 + 1)),)), [layout])


def test_empty_groups_leave_no_trace():
    """A group without frames or changes is as good as none."""
    assert decode_payload(encode_payload(Payload(((0, ()),), ((0, ()),)), [SMALL]), [SMALL]) == Payload()


def test_cuts_lie_where_streams_meet():
    """The first cut is where the lanes begin; further ones are inside the payload."""
    layout, found = walk(5, 100)
    raw, cuts = encode_with_cuts(Payload(frames=((0, found),)), [layout])
    assert raw[cuts[0] - 3 : cuts[0]] == b"\x59" + (5 * 216).to_bytes(2, "big")
    assert cuts == sorted(cuts)
    assert cuts[-1] < len(raw)


def test_keys_of_a_later_version_are_skipped():
    """Unknown sections are covered by the signature and not interpreted."""
    body = loads(one(Frame(1, 1, GOOD_ROW)), "payload")
    assert decode_payload(dumps({**body, 9: "later"}), [SMALL]).frames[0][1][0].values == GOOD_ROW


def test_members_of_a_later_version_are_skipped_in_every_record():
    """Sections, marks, groups of changes, events and definitions may grow at their end."""
    body = body_with()
    plain = decode_payload(dumps(body), [SMALL])
    for record in (body[1], body[1][4][0][0], body[2], body[2][2][0], body[3][0], body[4]):
        record.append("later")
    assert decode_payload(dumps(body), [SMALL]) == plain


def body_with(**changes):
    """Give an encoded payload, some keys of which say something else."""
    frame = fault_frame(SMALL, 5, 0x80050000)
    change = (Change(4, 7, 1, 9, 5), Change(12, None, 1, None, 0, True))
    payload = Payload(((0, (frame,)),), ((0, change),), (Event("e", 1, bytes(8), (("k", (1, None)),)),), Definitions())
    body = loads(encode_payload(payload, [SMALL]), "payload")
    return {**body, **{int(key.removeprefix("k")): change for key, change in changes.items()}}


def frames_with(at, value):
    """Give a payload whose frames section has another value at one place."""
    section = body_with()[1]
    section[at] = value
    return body_with(k1=section)


def change_group_with(at, value):
    """Give a payload whose group of changes has another value at one place."""
    section = body_with()[2]
    section[2][0][at] = value
    return body_with(k2=section)


MALFORMED = {
    "not a map": [],
    "a key that is text": {"0": b""},
    "do not interpret": body_with() | {-1: 0},
    "no lanes": {1: body_with()[1]},
    "lanes too short": body_with(k0=b"\0"),
    "lanes too long": body_with(k0=body_with()[0] + b"\0"),
    "lanes are text": body_with(k0="x"),
    "frames section too short": body_with(k1=[1]),
    "frames section is a map": body_with(k1={}),
    "tick of zero point five": frames_with(0, 0.5),
    "tick too large": frames_with(0, 1 << 40),
    "counts missing": frames_with(2, []),
    "counts are text": frames_with(2, "1"),
    "indexes are one integer": frames_with(1, 0),
    "unknown layout": frames_with(1, [1]),
    "no frames in a group": frames_with(2, 0),
    "endless frames": frames_with(2, [1 << 62]),
    "true is no count": frames_with(2, [True]),
    "texts missing": frames_with(3, {}),
    "texts of the wrong type": frames_with(3, {0: [[1, 5], [1, b""]]}),
    "texts that do not add up": frames_with(3, {0: [[2, ""], [1, b""]]}),
    "texts with an odd list": frames_with(3, {0: [[1], [1, b""]]}),
    "marks are a list": frames_with(4, []),
    "a short mark": frames_with(4, {0: [[0, 1, None]]}),
    "a mark beyond the frames": frames_with(4, {0: [[0, 2, None, None]]}),
    "marks out of order": frames_with(4, {0: [[0, 1, None, None], [0, 1, None, None]]}),
    "a bitmap too long": frames_with(4, {0: [[0, 1, b"\0\0\0", None]]}),
    "a bit too many": frames_with(4, {0: [[0, 1, b"\0\xff", None]]}),
    "a status too large": frames_with(4, {0: [[0, 1, None, 1 << 32]]}),
    "statuses that do not add up": frames_with(4, {0: [[0, 1, None, [1, 5]]]}),
    "changes section too short": body_with(k2=[1]),
    "a short group of changes": body_with(k2=[1, 1, [[0]]]),
    "changes of an unknown layout": change_group_with(0, 7),
    "endless changes": change_group_with(1, 1 << 62),
    "points that do not fit": change_group_with(2, b"\0"),
    "a point that is not there": change_group_with(2, b"\x04\x20\0\0"),
    "sources that do not fit": change_group_with(3, None),
    "texts of changes missing": change_group_with(7, []),
    "events are a map": body_with(k3={}),
    "a short event": body_with(k3=[["e", 1, bytes(8)]]),
    "an event's id too short": body_with(k3=[["e", 1, b"", []]]),
    "an event's data odd": body_with(k3=[["e", 1, bytes(8), ["k"]]]),
    "an event with a map inside": body_with(k3=[["e", 1, bytes(8), ["k", {}]]]),
    "definitions too short": body_with(k4=[[]]),
    "a layout that is text": body_with(k4=[["x"], b""]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_payload_is_named_so(body):
    """Every check of the decoder, one by one."""
    with pytest.raises(BlockInvalid):
        decode_payload(dumps(body), [SMALL])


def test_the_body_that_is_malformed_is_otherwise_good():
    """What the malformed bodies are made from decodes."""
    assert decode_payload(dumps(body_with()), [SMALL]).count_readings([SMALL]) == len(KINDS) + 2


def test_a_bool_that_is_neither_is_malformed():
    """A lane of a bool is 0 or 1."""
    layout = Layout("l", "d", "m", None, (Column("b", "bool"),))
    body = loads(one(Frame(0, 0, (True,)), layout), "payload")
    with pytest.raises(BlockInvalid):
        decode_payload(dumps(body | {0: b"\2" + body[0][1:]}), [layout])


def test_frames_of_a_layout_without_columns_are_bounded_too():
    """They hold no reading, and must still not be without end."""
    body = {0: bytes(16 * (MAX_READINGS + 1)), 1: [1, [0], MAX_READINGS + 1, {}, {}]}
    with pytest.raises(BlockInvalid) as refused:
        decode_payload(dumps(body), [Layout("l", "d", "m", None, ())])
    assert refused.value.reason == "too-many-readings"


def test_a_time_beyond_64_bits_is_malformed():
    """A tick must not carry a time out of its range."""
    layout = Layout("l", "d", "m", None, ())
    body = loads(one(Frame((1 << 63) - 1, 1, ()), layout), "payload")
    body[1][0] = 1000
    with pytest.raises(BlockInvalid):
        decode_payload(dumps(body), [layout])


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_mutated_bytes_are_decoded_or_named_invalid(data):
    """Whatever happens to the bytes, nothing but BlockInvalid is raised."""
    good = bytearray(dumps(body_with()))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        good = good or bytearray(b"\0")
    try:
        decode_payload(bytes(good), [SMALL])
    except BlockInvalid:
        return


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xa0\xa0", b"\x81" * 100, b"\xc2\x41\x01", b"\x9f\xff", b"\xa1\x80\x01"]
)
def test_bytes_that_are_not_one_plain_item_are_invalid(data):
    """No tags, no indefinite lengths, no deep nesting, nothing behind the item."""
    with pytest.raises(BlockInvalid):
        decode_payload(data, [])
