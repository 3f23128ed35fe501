"""A platform never receives a byte of a point that it is not given."""

import base64
from itertools import chain

import pytest
from golden import CATALOGUE, data_block, events_block, opener, sealed, station, told
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import uplink_of

from agent.broker import Message
from agent.formats import make
from agent.formats.api import EVICTED, UNREADABLE, Skip
from agent.formats.opening import CATALOGUES, Opener, Points
from agent.kept import Definition
from buffer.block import Block
from buffer.frame import Column, Frame, Layout
from buffer.layout import encode_catalogue, encode_layout, layout_id
from buffer.seal import Batch

EACH_READING = {
    "each": "reading",
    "topic": "m/{{ device }}/{{ point }}",
    "payload": "{{ value | json }} {{ unit }} {{ seq }}",
}
EACH_FRAME = {"topic": "m/{{ device }}", "payload": "{{ points | json }} {{ values | json }}"}
FORMATS = {
    "json": {"format": "json"},
    "thingsboard": {"format": "thingsboard"},
    "reading": {"format": "template", "template": EACH_READING},
    "frame": {"format": "template", "template": EACH_FRAME},
}

PROBE = tuple(
    Layout(
        f"link-{at}",
        f"device-{at}",
        "modbus",
        None,
        tuple(Column(f"point-{at}-{n}", "text", unit=f"unit-{at}-{n}", address=f"place-{at}-{n}") for n in range(3)),
    )
    for at in range(3)
)
NAMES = [f"device-{at}/point-{at}-{n}" for at in range(3) for n in range(3)]


def bytes_of(messages: list[Message]) -> bytes:
    """Give every byte that would go out."""
    parts = [one.topic.encode() + b" " + one.payload for one in messages]
    inside = [base64.urlsafe_b64decode(one.payload.split(b".")[1] + b"==") for one in messages if "/json/" in one.topic]
    return b"\n".join(chain(parts, inside))


def probe_batch() -> Batch:
    """Give frames and changes in which every value names its point."""
    gathered = Batch()
    for at, layout in enumerate(PROBE):
        gathered.add_frame(layout, Frame(10**9, 0, tuple(f"value-{at}-{n}" for n in range(3))))
    return gathered


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(given=st.sets(st.sampled_from([*NAMES, "device-0/*", "device-2/*"]), min_size=1))
def test_nothing_of_an_unlisted_point_is_in_any_byte(name: str, given: set[str]) -> None:
    """Neither its name nor its unit, address or value; and a device without any is not named at all."""
    uplink = uplink_of(url="mqtt://h", points=sorted(given), **FORMATS[name])
    kept = data_block(what=probe_batch(), layouts=PROBE)
    sent = bytes_of(told(make(station(), uplink).converse(), kept, sorted(given), layouts=PROBE))
    for at in range(3):
        of_device = [n for n in range(3) if {f"device-{at}/point-{at}-{n}", f"device-{at}/*"} & given]
        for n in range(3):
            marks = [f"{what}-{at}-{n}".encode() for what in ("point", "unit", "place", "value")]
            assert any(mark in sent for mark in marks) == (n in of_device)
        assert (f"device-{at}".encode() in sent) == bool(of_device)


def test_events_are_left_out_where_points_are_listed() -> None:
    """Their words may name any device."""
    uplink = uplink_of(url="mqtt://h", format="json", points=["press/*"])
    sent = bytes_of(told(make(station(), uplink).converse(), events_block(), uplink.points))
    assert b"device-lost" not in sent
    assert b"meter" not in sent
    assert b'"whole":false' in sent


def test_without_a_list_all_points_are_given() -> None:
    """The plain case."""
    opened = opener().open(data_block())
    assert opened.layouts == CATALOGUE
    assert opened.whole


def test_a_payload_that_is_gone_is_skipped_with_its_reason() -> None:
    """The hole is in the chain, and in the ledger."""
    kept = data_block()
    assert opener().open(kept._replace(block=Block(kept.block.envelope, None))) == Skip(EVICTED)


def test_a_payload_that_is_not_the_signed_one_is_skipped_with_its_reason() -> None:
    """Nothing that does not fit its header is told."""
    kept = data_block()
    assert opener().open(kept._replace(block=Block(kept.block.envelope, b"x"))) == Skip(UNREADABLE)


def test_layouts_are_kept_of_a_few_catalogues_only() -> None:
    """Whatever the history of configurations, memory is bounded; what is used stays."""
    one = Opener(Points(None), opener()._placer)
    first = sealed()[0].catalogue
    layouts = {layout_id(layout): encode_layout(layout) for layout in CATALOGUE}
    definition = Definition(encode_catalogue(tuple(layouts)), layouts)
    one.learn(first, definition)
    for number in range(CATALOGUES * 3):
        one.learn(bytes([number]) * 32, definition)
        one.open(data_block())
    assert one.knows(first)
    assert sum(one.knows(bytes([number]) * 32) for number in range(CATALOGUES * 3)) == CATALOGUES - 1
