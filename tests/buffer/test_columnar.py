"""What goes into a payload comes out of it, and nothing malformed comes out of anything."""

import math
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer.columnar import Definitions, Payload, decode_payload, encode_payload
from buffer.frame import Change, Column, Event, Frame, Layout
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
