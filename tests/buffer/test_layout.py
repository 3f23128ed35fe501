"""Layouts and catalogues are bytes with a hash, and come back from them."""

from dataclasses import replace
from hashlib import sha256

import pytest
from chains import METER

from buffer.cbor import dumps
from buffer.errors import BlockInvalid
from buffer.frame import MAX_POINTS, Column, Layout
from buffer.layout import (
    MAX_LAYOUTS,
    catalogue_digest,
    decode_catalogue,
    decode_layout,
    encode_catalogue,
    encode_layout,
    layout_id,
    once_a_layout,
)

FULL = Layout(
    "l", "d", "m", None, (Column("n", "text", "V", "0.1", "5", "s=1", "ABCD", "0", "9", "Điện áp"), Column("", "bool"))
)


@pytest.mark.parametrize("layout", [METER, FULL, Layout("", "", "", 0, ())])
def test_a_layout_comes_back_as_it_was(layout):
    """Every text, every kind, and the interval that may be missing."""
    assert decode_layout(encode_layout(layout)) == layout


def test_the_id_is_the_hash_of_the_encoding():
    """Whoever holds the bytes can check the name they came under."""
    assert layout_id(METER) == sha256(encode_layout(METER)).digest()
    assert layout_id(replace(METER, device="other")) != layout_id(METER)


def test_layouts_that_hash_alike_are_still_told_apart():
    """The hash looks at few fields; equality looks at all."""
    twin = replace(METER, columns=(METER.columns[0], Column("energy", "float32")))
    assert hash(twin) == hash(METER)
    assert len({twin, METER}) == 2


def test_what_is_known_of_a_layout_is_remembered_without_comparing_it():
    """By identity; and the memory is bounded."""
    asked = []
    look_up = once_a_layout(lambda layout: asked.append(layout) or layout.device)
    twin = replace(METER)
    assert [look_up(METER), look_up(METER), look_up(twin)] == ["meter"] * 3
    assert len(asked) == 2
    for number in range(MAX_LAYOUTS):
        look_up(replace(METER, device=str(number)))
    assert look_up(METER) == "meter"
    assert len(asked) == 3 + MAX_LAYOUTS


def test_a_layout_beyond_the_bounds_is_refused():
    """4,096 columns, 1,024 characters."""
    with pytest.raises(ValueError, match="columns"):
        encode_layout(Layout("l", "d", "m", None, (Column("c", "bool"),) * (MAX_POINTS + 1)))
    with pytest.raises(ValueError, match="characters"):
        encode_layout(Layout("x" * 1025, "d", "m", None, ()))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {0: "l", 1: "d", 2: "m"},
        {0: "l", 1: "d", 4: []},
        {0: "x" * 1025, 1: "d", 2: "m", 4: []},
        {0: "l", 1: "d", 2: "m", 3: -1, 4: []},
        {0: "l", 1: "d", 2: "m", 4: [{0: "n", 1: 99}]},
        {0: "l", 1: "d", 2: "m", 4: [{0: "n"}]},
        {0: "l", 1: "d", 2: "m", 4: [{0: "n", 1: 0}] * (MAX_POINTS + 1)},
        {0: "l", 1: "d", 2: "m", 4: [], -1: 0},
    ],
)
def test_a_malformed_layout_is_invalid(value):
    """Nothing that is not a layout is taken for one."""
    with pytest.raises(BlockInvalid):
        decode_layout(dumps(value))


def test_a_catalogue_comes_back_in_order():
    """A block's numbers are places in this list."""
    ids = (layout_id(METER), layout_id(FULL))
    assert decode_catalogue(encode_catalogue(ids)) == ids
    assert catalogue_digest(encode_catalogue(ids)) == sha256(encode_catalogue(ids)).digest()


def test_a_catalogue_beyond_the_bounds_is_refused():
    """4,096 layouts."""
    with pytest.raises(ValueError, match="layouts"):
        encode_catalogue((bytes(32),) * (MAX_LAYOUTS + 1))


@pytest.mark.parametrize("value", [{}, [b"short"], ["x" * 32], [bytes(32)] * (MAX_LAYOUTS + 1)])
def test_a_malformed_catalogue_is_invalid(value):
    """Ids are 32 bytes, and not endless."""
    with pytest.raises(BlockInvalid):
        decode_catalogue(dumps(value))
