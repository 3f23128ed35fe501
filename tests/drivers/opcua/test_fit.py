"""A value fits a column if the column can keep it exactly, and only then."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import status
from drivers.conformance import fits
from drivers.opcua.fit import Fit, convert
from drivers.plausible import RawRange

KINDS = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32"]
KINDS += ["float64", "text", "bytes"]
values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary()


@given(st.sampled_from(KINDS), values | st.lists(st.integers()), st.sampled_from([0, 0x480, 0x40930000, 0x808C0000]))
def test_whatever_comes_a_column_gets_what_it_can_keep_or_a_status(kind, value, code):
    """No value without a kind, no missing value without a reason, no good made of bad."""
    kept, kept_code = Fit(kind)(value, code)
    assert kept is None or fits(kind, kept)
    assert kept is not None or kept_code != 0
    assert kept is None or kept == value
    assert not status.is_bad(code) or kept_code == code


@given(st.floats(width=32, allow_nan=False))
def test_a_float_fits_a_float32(value):
    """What was a float32 once is kept."""
    assert convert("float32", value) == value


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("float64", 2**53, 2.0**53),
        ("float64", 2**53 + 1, None),
        ("float64", True, None),
        ("float32", 0.1, None),
        ("float16", 70000, None),
        ("float32", 1e300, None),
        ("float64", 10**400, None),
        ("uint8", -1, None),
        ("int64", True, None),
        ("bool", 1, None),
        ("text", b"x", None),
        ("float32", math.inf, math.inf),
    ],
)
def test_only_what_is_kept_exactly_fits(kind, value, kept):
    """The edges, by hand."""
    assert convert(kind, value) == kept


def test_nan_and_nothing_leave_no_value():
    """Good is not a status for them."""
    assert Fit("float64")(math.nan, 0) == (None, status.BAD_NO_DATA)
    assert Fit("float32")(struct.unpack(">f", b"\x7f\xc0\0\0")[0], 0) == (None, status.BAD_NO_DATA)
    assert Fit("float64")(None, 0) == (None, status.BAD_NO_DATA)


def test_the_range_marks_only_what_was_good():
    """A server's own bad status is more than ours."""
    fit = Fit("float64", RawRange(0, 1))
    assert fit(2.0, 0) == (2.0, status.BAD_OUT_OF_RANGE)
    assert fit(2.0, 0x808C0000) == (2.0, 0x808C0000)
    assert fit(0.5, 0) == (0.5, 0)
