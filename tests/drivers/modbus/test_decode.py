"""Every type in every order is decoded as pymodbus encodes it; no answer of right length can fail."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from drivers.modbus.decode import CODES, Field, answer_size, decoder
from drivers.modbus.plan import Request, Span
from drivers.modbus.points import WIDTH

TYPES = {
    "int16": -12345,
    "uint16": 54321,
    "int32": -1234567890,
    "uint32": 4023456789,
    "int64": -1234567890123456789,
    "uint64": 12345678901234567890,
    "float32": -1234.5,
    "float64": 3.141592653589793,
}


def encoded(kind, value, order):
    """Give the bytes on the wire, by pymodbus and, for the byte orders it has not, by swapping its bytes."""
    word_order = "little" if order in ("CDAB", "DCBA") else "big"
    kind_there = getattr(ModbusClientMixin.DATATYPE, kind.upper())
    registers = ModbusClientMixin.convert_to_registers(value, kind_there, word_order)
    return struct.pack(f"{'<' if order in ('BADC', 'DCBA') else '>'}{len(registers)}H", *registers)


@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_in_every_order_is_decoded_as_pymodbus_encodes_it(kind, order):
    """The golden pairs come from another implementation than ours."""
    span = Span("holding", 10, WIDTH[kind])
    decode = decoder(Request("holding", 10, span.width), [Field(span, kind, order)])
    assert decode(encoded(kind, TYPES[kind], order)) == (TYPES[kind],)


@pytest.mark.parametrize("order", ["ABCD", "BADC"])
@pytest.mark.parametrize("byte", ["high", "low"])
@pytest.mark.parametrize(("kind", "value"), [("int8", -100), ("uint8", 200)])
def test_half_a_register_is_decoded_as_pymodbus_packs_it(kind, value, byte, order):
    """The byte is named; a register has no order within it."""
    pattern = value & 0xFF
    registers = ModbusClientMixin.convert_to_registers(
        pattern << 8 | 0x11 if byte == "high" else 0x1100 | pattern, ModbusClientMixin.DATATYPE.UINT16
    )
    field = Field(Span("holding", 0, 1), kind, order, high_byte=byte == "high")
    assert decoder(Request("holding", 0, 1), [field])(struct.pack(">H", *registers)) == (value,)


@pytest.mark.parametrize("order", ["ABCD", "BADC"])
@pytest.mark.parametrize("text", ["Liquiline", "Trạm bơm", "", "1234567890123456"])
def test_text_is_decoded_as_pymodbus_encodes_it(text, order):
    """Two characters a register, padded with NUL; UTF-8 beyond ASCII."""
    registers = ModbusClientMixin.convert_to_registers(text, ModbusClientMixin.DATATYPE.STRING)
    registers += [0] * (8 - len(registers))
    wire = struct.pack(f"{'<' if order == 'BADC' else '>'}8H", *registers)
    field = Field(Span("holding", 4, 8), "string", order)
    assert decoder(Request("holding", 4, 8), [field])(wire) == (text,)


def test_text_ends_at_the_first_nul_and_loses_the_spaces_that_pad_it():
    """What stands behind NUL is what was there before."""
    decode = decoder(Request("input", 0, 4), [Field(Span("input", 0, 4), "string")])
    assert decode(b"AB  \0xyz") == ("AB",)
    assert decode(b"  A B   ") == ("  A B",)


def test_bytes_that_are_no_text_are_no_value():
    """0xFF begins no character of UTF-8."""
    decode = decoder(Request("input", 0, 1), [Field(Span("input", 0, 1), "string")])
    assert decode(b"\xff\xff") == (None,)


@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
@pytest.mark.parametrize(("kind", "as_type"), [("bcd16", "uint16"), ("bcd32", "uint32")])
def test_bcd_is_four_bits_a_digit(kind, as_type, order):
    """The digits of the hexadecimal pattern that pymodbus packs are the number."""
    pattern = 0x9041 if kind == "bcd16" else 0x12349041
    span = Span("holding", 0, WIDTH[kind])
    decode = decoder(Request("holding", 0, span.width), [Field(span, kind, order)])
    assert decode(encoded(as_type, pattern, order)) == (int(f"{pattern:x}"),)


def test_a_digit_above_nine_is_no_bcd():
    """0x1A is no number in any reading of BCD."""
    decode = decoder(Request("holding", 0, 1), [Field(Span("holding", 0, 1), "bcd16")])
    assert decode(bytes.fromhex("001A")) == (None,)
    assert decode(bytes.fromhex("0010")) == (10,)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 31))
def test_a_mask_picks_bits_and_a_shift_moves_them_down(raw, mask, shift):
    """First the mask, then the shift."""
    fields = [Field(Span("input", 0, 2), "uint32", mask=mask, shift=shift), Field(Span("input", 0, 2), "uint32")]
    assert decoder(Request("input", 0, 2), fields)(struct.pack(">I", raw)) == ((raw & mask) >> shift, raw)


def test_finished_columns_stand_among_plain_ones():
    """Whatever order and holes there are."""
    fields = [
        Field(Span("input", 0, 1), "uint16"),
        Field(Span("input", 1, 2), "string"),
        Field(Span("input", 5, 1), "uint16", mask=0xF0, shift=4),
        Field(Span("input", 6, 1), "int8", high_byte=True),
    ]
    wire = struct.pack(">H4s4xHbB", 7, b"abcd", 0x1234, -5, 9)
    assert decoder(Request("input", 0, 7), fields)(wire) == (7, "abcd", 3, -5)


def test_the_orders_are_those_of_the_manuals():
    """0x0A0B0C0D stands as ABCD, CDAB, BADC and DCBA on the wire."""
    wires = {"ABCD": "0A0B0C0D", "CDAB": "0C0D0A0B", "BADC": "0B0A0D0C", "DCBA": "0D0C0B0A"}
    for order, wire in wires.items():
        decode = decoder(Request("input", 0, 2), [Field(Span("input", 0, 2), "uint32", order)])
        assert decode(bytes.fromhex(wire)) == (0x0A0B0C0D,)


def test_half_floats_are_decoded():
    """Pymodbus has none; IEEE 754 binary16 says 0x3E00 is 1.5."""
    decode = decoder(Request("input", 0, 1), [Field(Span("input", 0, 1), "float16", "ABCD")])
    assert decode(bytes.fromhex("3E00")) == (1.5,)


def test_a_block_of_registers_is_unpacked_in_one_step():
    """The common case neither picks nor expands."""
    fields = [Field(Span("holding", n, 1), "uint16") for n in range(100)]
    decode = decoder(Request("holding", 0, 100), fields)
    assert (decode.expand, decode.pick) == (False, None)
    assert decode(struct.pack(">100H", *range(100))) == tuple(range(100))


def test_holes_between_points_are_skipped():
    """A bridged register is read and not decoded."""
    fields = [Field(Span("holding", 5, 1), "int16"), Field(Span("holding", 8, 2), "float32")]
    decode = decoder(Request("holding", 5, 5), fields)
    assert decode.pick is None
    assert decode(struct.pack(">hHHf", -7, 1, 2, 2.5)) == (-7, 2.5)


def test_points_may_overlap():
    """The same registers can be read as one number and as its halves."""
    fields = [
        Field(Span("holding", 0, 1), "uint16"),
        Field(Span("holding", 0, 2), "uint32"),
        Field(Span("holding", 1, 1), "int16"),
    ]
    assert decoder(Request("holding", 0, 2), fields)(bytes.fromhex("0001FFFE")) == (1, 0x1FFFE, -2)


def test_coils_come_lowest_bit_first():
    """The example of the protocol specification, 6.1: coils 20 to 38 read as CD 6B 05."""
    fields = [Field(Span("coil", 19 + n, 1), "bool") for n in range(19)]
    values = decoder(Request("coil", 19, 19), fields)(bytes.fromhex("CD6B05"))
    assert "".join("01"[value] for value in values) == "1011001111010110101"
    assert all(type(value) is bool for value in values)


@given(st.integers(0, 0xFFFF), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
def test_bits_of_a_register_are_its_binary_digits(register, order):
    """Bit n of a register is worth 2 to the n, in either byte order."""
    fields = [Field(Span("holding", 3, 1), "bool", order, bit) for bit in range(16)]
    wire = struct.pack("<H" if order in ("BADC", "DCBA") else ">H", register)
    assert decoder(Request("holding", 3, 1), fields)(wire) == tuple(bool(register >> bit & 1) for bit in range(16))


@st.composite
def answers(draw):
    """Give a request, fields inside it, and any bytes as its answer."""
    address = draw(st.integers(0, 1000))
    quantity = draw(st.integers(4, 125))
    request = Request("holding", address, quantity)
    fields = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from([kind for kind in CODES if kind in TYPES or kind == "float16"]))
        at = draw(st.integers(0, quantity - WIDTH[kind]))
        order = draw(st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
        fields.append(Field(Span("holding", address + at, WIDTH[kind]), kind, order))
    return request, fields, draw(st.binary(min_size=quantity * 2, max_size=quantity * 2))


@given(answers())
def test_any_bytes_are_decoded_field_by_field_as_if_each_stood_alone(case):
    """Whatever else a request brings, a field reads its own bytes, as pymodbus would."""
    request, fields, answer = case
    values = decoder(request, sorted(fields, key=lambda field: field.span))(answer)
    for field, value in zip(sorted(fields, key=lambda field: field.span), values, strict=True):
        at = (field.span.address - request.address) * 2
        words = [answer[at + i * 2 : at + i * 2 + 2] for i in range(field.span.width)]
        words = [word[::-1] for word in words] if field.order in ("BADC", "DCBA") else words
        words = words[::-1] if field.order in ("CDAB", "DCBA") else words
        packed = struct.pack(">" + CODES[field.kind], value)
        assert packed == b"".join(words) or value != value  # a NaN may change its payload


def test_an_answer_has_the_size_of_its_request():
    """Two bytes a register, one byte for each eight bits begun."""
    assert answer_size(Request("input", 0, 125)) == 250
    assert answer_size(Request("coil", 0, 9)) == 2
