"""Sentinels and NaN leave no value; an implausible value keeps its raw value beside a Bad status."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from buffer import status
from config.judge import judged as sound
from drivers.modbus.judge import bounds, judge, sentinel
from drivers.modbus.points import ModbusPoint


def point(**keys):
    """Make a point of holding register 0."""
    return sound(ModbusPoint, {"holding": 0, **keys})


def judged(value, **keys):
    """Judge one value of one point."""
    made = point(**keys)
    limit = bounds(0, made)
    weigh = judge([made.kind], [limit] if limit else [])
    return ((value,), None) if weigh is None else weigh((value,))


def test_a_group_without_floats_and_bounds_is_not_judged_at_all():
    """Nothing is paid for what nobody asked for."""
    assert judge(["uint16"] * 100, []) is None


def test_a_value_in_range_is_good():
    """Both ends belong to the range."""
    for raw in (0, 2000, 3000):
        assert judged(raw, type="uint16", scale="0.1", range=[0, 300]) == ((raw,), None)


def test_a_value_out_of_range_keeps_its_raw_value():
    """300.1 V is kept as 3001 and marked."""
    values, codes = judged(3001, type="uint16", scale="0.1", range=[0, 300])
    assert values == (3001,)
    assert codes == (status.BAD_OUT_OF_RANGE,)


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.decimals(-1000, 1000, places=3).filter(bool),
    st.decimals(-1000, 1000, places=3),
    st.tuples(st.decimals(-(10**6), 10**6, places=2), st.decimals(-(10**6), 10**6, places=2)).map(sorted),
)
def test_the_raw_bounds_decide_as_exact_arithmetic_on_engineering_values(raw, scale, offset, limits):
    """Whatever the scale, its sign included, the judgement is that of raw * scale + offset computed exactly."""
    low, high = limits
    value = Fraction(raw) * Fraction(scale) + Fraction(offset)
    plausible = Fraction(low) <= value <= Fraction(high)
    _, codes = judged(raw, type="int32", scale=str(scale), offset=str(offset), range=[str(low), str(high)])
    assert (codes is None) == plausible


@given(st.floats(width=32, allow_nan=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_floats_are_judged_as_exactly(raw, one, other):
    """A float on the edge is inside, the next one is not."""
    low, high = sorted((one, other))
    _, codes = judged(raw, type="float32", range=[repr(low), repr(high)])
    inside = Fraction(repr(low)) <= Fraction(raw) <= Fraction(repr(high)) if math.isfinite(raw) else False
    assert (codes is None) == inside


def test_a_range_beyond_all_floats_holds_everything():
    """Bounds that no float reaches are infinite."""
    assert judged(1.0, type="float64", range=["-1e400", "1e400"]) == ((1.0,), None)


def test_a_sentinel_leaves_no_value():
    """What the manual calls not available is no number."""
    assert judged(0xFFFF, type="uint16", nan=0xFFFF) == ((None,), (status.BAD_NO_DATA,))
    assert judged(7, type="uint16", nan=[0xFFFF, "0x0007"]) == ((None,), (status.BAD_NO_DATA,))


def test_a_sentinel_of_a_signed_type_may_be_written_as_its_pattern():
    """0x8000 in a manual is -32768 in an int16."""
    assert judged(-32768, type="int16", nan=0x8000) == ((None,), (status.BAD_NO_DATA,))
    assert sentinel("int32", "-1") == -1


def test_a_sentinel_wins_over_a_range():
    """Not available is not implausible."""
    assert judged(-32768, type="int16", nan=-32768, range=[0, 10])[1] == (status.BAD_NO_DATA,)


def test_nan_leaves_no_value_even_where_nothing_was_asked_for():
    """A float that is no number is never passed on, nor taken for one out of range."""
    assert judged(math.nan, type="float32") == ((None,), (status.BAD_NO_DATA,))
    assert judged(math.nan, type="float32", range=[0, 1]) == ((None,), (status.BAD_NO_DATA,))


def test_infinities_are_values():
    """Infinity plus minus infinity is NaN, and neither of them is."""
    weigh = judge(["float32", "float32"], [])
    assert weigh((math.inf, -math.inf)) == ((math.inf, -math.inf), None)


def test_what_could_not_be_read_as_its_type_is_marked():
    """BCD with a digit above 9, text that is no text."""
    weigh = judge(["bcd16", "string", "uint16"], [])
    assert weigh((12, "a", None)) == ((12, "a", None), None)
    failed = (status.BAD_DECODING_ERROR, status.BAD_DECODING_ERROR, status.GOOD)
    assert weigh((None, None, 7)) == ((None, None, 7), failed)


def test_a_sentinel_of_a_masked_or_bcd_point_is_what_it_is_read_as():
    """The value behind mask and shift, the number of the digits."""
    assert judged(15, type="uint16", mask=0xF0, shift=4, nan=15) == ((None,), (status.BAD_NO_DATA,))
    assert judged(9999, type="bcd16", nan=9999) == ((None,), (status.BAD_NO_DATA,))


def test_missing_values_are_left_alone():
    """What a failed request did not bring is judged by nobody."""
    weigh = judge(["float32", "uint16"], [bounds(1, point(range=[0, 1]))])
    assert weigh((None, None)) == ((None, None), None)
    assert weigh((math.nan, None)) == ((None, None), (status.BAD_NO_DATA, status.GOOD))
