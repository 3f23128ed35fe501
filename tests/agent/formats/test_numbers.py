"""Engineering values are exact, and JSON keeps them so."""

import json
import math
import struct
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats.numbers import dumps, engineering, number_text, raw_decimal, scaling
from buffer.frame import Column

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6).map(str)


def read_back(text: str) -> Decimal:
    """Read a JSON number without losing a digit."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@given(st.integers(-(2**63), 2**64 - 1), DECIMALS, DECIMALS)
def test_an_integer_is_raw_times_scale_plus_offset_to_the_last_digit(raw: int, scale: str, offset: str) -> None:
    """As an auditor with a pencil would find it."""
    value = scaling(Column("x", "int64", scale=scale, offset=offset))(raw)
    with localcontext(Context(prec=200)):
        assert read_back(dumps(value)) == raw * Decimal(scale) + Decimal(offset)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), DECIMALS)
def test_a_float_is_scaled_from_the_shortest_decimal_that_names_it(raw: float, scale: str) -> None:
    """And that decimal, rounded to the width, is the very float that was sent."""
    value = scaling(Column("x", "float32", scale=scale))(raw)
    with localcontext(Context(prec=200)):
        assert read_back(dumps(value)) == raw_decimal(raw, "float32") * Decimal(scale)


@pytest.mark.parametrize(
    ("kind", "form", "width"), [("float16", "<e", 16), ("float32", "<f", 32), ("float64", "<d", 64)]
)
def test_every_float_comes_back_from_its_decimal(kind: str, form: str, width: int) -> None:
    """Bit for bit, the sign of zero included."""

    @given(st.floats(width=width, allow_nan=False, allow_infinity=False))
    def comes_back(raw: float) -> None:
        text = dumps(engineering(raw, kind))
        assert struct.pack(form, float(text)) == struct.pack(form, raw)
        assert len(text) <= 64

    comes_back()


def test_what_a_person_expects_to_read() -> None:
    """Tenths are tenths, whole numbers have all their digits, no exponent where none is needed."""
    tenth = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert dumps(engineering(tenth, "float32")) == "0.1"
    assert dumps(engineering(123456792.0, "float32")) == "123456792.0"
    assert dumps(engineering(65504.0, "float16")) == "65504.0"
    assert dumps(engineering(2301, "uint16", Decimal("0.1"))) == "230.1"
    assert dumps(engineering(3, "uint16", Decimal("1E+3"))) == "3000"
    largest = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
    assert dumps(engineering(largest, "float32")) == "340282350000000000000000000000000000000"
    assert dumps(engineering(16777217.0 / 3, "float64")) == "5592405.666666667"
    assert number_text(Decimal("1E-7")) == "0.0000001"
    assert number_text(Decimal("1.5E+300")) == "1.5E+300"


def test_what_is_no_finite_number_is_text() -> None:
    """NaN and the infinities are no JSON numbers."""
    told = [engineering(raw, "float64", Decimal(2)) for raw in (math.nan, math.inf, -math.inf)]
    assert dumps(told) == '["NaN","Infinity","-Infinity"]'
    assert dumps([engineering(b"\x00\xff", "bytes"), engineering(True, "bool"), engineering(None, "int8")]) == (
        '["00ff",true,null]'
    )


def test_an_absurd_scale_rounds_nothing_and_breaks_nothing() -> None:
    """A number of a million digits is told as its formula."""
    assert scaling(Column("x", "int64", scale="1e999999", offset="1"))(7) == "7*1E+999999+1"


def test_only_what_json_has_is_written() -> None:
    """A float would be rounded, so it does not pass."""
    with pytest.raises(TypeError):
        dumps({"x": 0.1})
