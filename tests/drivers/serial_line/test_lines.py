"""Bytes into lines and lines into values, without a port."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import status
from drivers.serial_line.lines import Grammar, Slot, Splitter, bounds, read

ANY = Grammar(re.compile("(?P<v>[^,]*)(?:,(?P<w>.*))?(?:;(?P<s>.*))?", re.DOTALL), None, {})


def value(text, kind="float64", quality=status.GOOD, **slot):
    """Read one value of a kind."""
    values, statuses = read((Slot("v", kind, **slot),), ANY.match(text.encode("latin-1")), quality)
    return values[0], statuses[0]


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r"))), st.data())
def test_lines_come_out_whole_however_they_arrive(lines, data):
    """One byte at a time or all at once."""
    stream = b"".join(line + b"\r\n" for line in lines)
    splitter = Splitter(b"\n", 64, mid_line=False)
    out = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        out += splitter.feed(stream[:size])
        stream = stream[size:]
    assert out == lines
    assert (splitter.pending, splitter.overlong) == (b"", 0)


def test_a_line_that_began_before_us_is_dropped():
    """Half a number is never taken for a number."""
    splitter = Splitter(b"\n", 64, mid_line=True)
    assert splitter.feed(b"12.5\n0012.5\n") == [b"0012.5"]


def test_a_line_beyond_its_limit_is_dropped_whole_and_counted_once():
    """However long the noise, memory stays small, and the next line is good."""
    splitter = Splitter(b"\r\n", 8, mid_line=False)
    for _ in range(1000):
        assert splitter.feed(b"noise noise noise") == []
        assert len(splitter.pending) <= 8 + 2 + 17
    assert splitter.feed(b"\r\ngood\r\n") == [b"good"]
    assert splitter.overlong == 1
    assert splitter.feed(b"123456789\r\n12345678\r\n") == [b"12345678"]
    assert splitter.overlong == 2


def test_a_terminator_cut_in_two_by_noise_is_still_seen():
    """What is kept of an overlong line is just enough to find its end."""
    splitter = Splitter(b"\r\n", 4, mid_line=False)
    assert splitter.feed(b"0123456789\r") == []
    assert splitter.feed(b"\nok\r\n") == [b"ok"]


def test_another_terminator_keeps_its_carriage_returns():
    """Only a line feed takes one with it."""
    assert Splitter(b"\r", 9, mid_line=False).feed(b"a\rb\r") == [b"a", b"b"]
    assert Splitter(b";", 9, mid_line=False).feed(b"a\r;") == [b"a\r"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("12.5", 12.5), ("  -  0012.50 ", -12.5), ("+.5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0", 0.0)],
)
def test_a_decimal_is_the_number_it_says(text, number):
    """Spaces and leading zeros mean nothing."""
    assert value(text) == (number, status.GOOD)


@pytest.mark.parametrize("text", ["", "-------", "nan", "inf", "1_0", "1e999", "0x10", "1.2.3", "12a"])
def test_what_is_no_number_has_no_value(text):
    """Python's own generous reading of numbers is not ours."""
    assert value(text) == (None, status.BAD_DECODING_ERROR)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=5))
def test_a_decimal_of_fifteen_digits_can_be_given_back(decimal):
    """A double loses nothing that an instrument sends."""
    number, _ = value(f"{decimal:f}")
    assert f"{number:.5f}" == f"{decimal:.5f}"


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_a_whole_number_beyond_its_kind_has_no_value(kind):
    """It could not be kept as that kind."""
    low, high = bounds(kind)
    assert value(str(low), kind) == (low, status.GOOD)
    assert value(f"+{high}", kind) == (high, status.GOOD)
    assert value(str(low - 1), kind) == value(str(high + 1), kind) == (None, status.BAD_DECODING_ERROR)
    assert value("1.0", kind)[0] is None


def test_text_is_kept_as_it_came():
    """Spaces and all, any byte."""
    assert value(" \x80ok ", "text") == (" \x80ok ", status.GOOD)


def test_a_group_that_took_no_part_has_no_value():
    """An optional field that was not sent."""
    slot = (Slot("w", "float64"),)
    assert read(slot, ANY.match(b"1"), status.GOOD) == ((None,), (status.BAD_NO_DATA,))
    assert read(slot, ANY.match(b"1"), status.BAD_SENSOR_FAILURE) == ((None,), (status.BAD_SENSOR_FAILURE,))


def test_out_of_range_keeps_its_number_with_a_bad_status():
    """Reckoned after scale and offset, exactly; the bounds themselves are plausible."""
    slot = {"scale": Fraction("0.1"), "offset": Fraction(1), "limits": (Fraction(0), Fraction("2.1"))}
    assert value("11", **slot) == (11.0, status.GOOD)
    assert value("11.0001", **slot) == (11.0001, status.BAD_OUT_OF_RANGE)
    assert value("-11", "int16", **slot) == (-11, status.BAD_OUT_OF_RANGE)
    assert value("99", quality=status.BAD_SENSOR_FAILURE, **slot) == (99.0, status.BAD_SENSOR_FAILURE)
    assert value("-------", quality=status.BAD_SENSOR_FAILURE) == (None, status.BAD_SENSOR_FAILURE)


def test_a_status_text_is_looked_up_and_an_unknown_one_is_bad():
    """What an instrument says of itself is not guessed at."""
    grammar = Grammar(re.compile("(?P<s>..)?.*"), "s", {"ST": status.GOOD, "US": status.UNCERTAIN_SENSOR_NOT_ACCURATE})
    assert grammar.quality(grammar.match(b"ST1")) == status.GOOD
    assert grammar.quality(grammar.match(b"US1")) == status.UNCERTAIN_SENSOR_NOT_ACCURATE
    assert grammar.quality(grammar.match(b"XX1")) == status.BAD
    assert grammar.quality(grammar.match(b"")) == status.BAD


def test_a_line_is_understood_only_as_a_whole():
    """A pattern that fits the middle of a line fits nothing."""
    grammar = Grammar(re.compile("(?P<v>[0-9.]+)"), None, {})
    assert grammar.match(b"12.5") is not None
    assert grammar.match(b"12.5kg") is None
    assert grammar.match(b"-12.5") is None
