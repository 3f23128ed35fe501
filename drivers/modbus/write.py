"""What may be written, and the bytes that write it. Pure: nothing here is sent.

What is always true here:

- Only a point marked `writable` can be written, and only to an engineering value within its limits, carried exactly
  into the nearest raw value that its type holds; where that is a whole number, it too lies within the limits.
- A coil is written by function 5, one register by 6, several by 16; a device with `write_multiple` is told by 15
  and 16 alone (Modbus Application Protocol V1.1b3, 6.5, 6.6, 6.11, 6.12).
- What was written is compared bit for bit with what is read back.
"""

import struct
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from buffer.frame import Value
from drivers.errors import WriteRefused
from drivers.modbus.decode import CODES, Decoder, Field, decoder
from drivers.modbus.plan import Request, Span
from drivers.modbus.points import ModbusPoint
from drivers.modbus.settings import ModbusDevice

WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16
_COIL_ON = 0xFF00


class WriteOrder(NamedTuple):
    """One thing to write: to which unit, as which PDU, and how to know that it was."""

    unit: int
    pdu: bytes
    read_back: Request
    decode: Decoder
    data: bytes
    raw: Value

    def holds(self, answer: bytes) -> bool:
        """Say whether the answer to `read_back` is what was written."""
        return answer[: len(self.data)] == self.data


def order(device_name: str, device: ModbusDevice | None, name: str, value: Decimal) -> WriteOrder:
    """Judge what is to be written and prepare it. Raises WriteRefused."""
    point = device.points.get(name) if device else None
    if device is None or point is None:
        raise WriteRefused("drivers.no-such-point", device=device_name, point=name)
    if point.writable is None:
        raise WriteRefused("drivers.not-writable", device=device_name, point=name)
    low, high = point.writable.min, point.writable.max
    if not (value.is_finite() and Decimal(low) <= value <= Decimal(high)):
        raise WriteRefused("drivers.beyond-limits", point=name, value=value, low=low, high=high)
    raw = _raw(point, value)
    whole = isinstance(raw, int)
    wrong = raw is None or (whole and not Fraction(low) <= _engineering(point, raw) <= Fraction(high))
    data = b"" if raw is None or wrong else _bytes(point, raw)
    if raw is None or not data:
        raise WriteRefused("drivers.beyond-type", point=name, value=value, type=point.kind)
    table, address = point.place
    request = Request(table, address, point.width)
    decode = decoder(request, [Field(Span(table, address, point.width), point.kind, point.order)])
    return WriteOrder(device.unit, _pdu(point, data, multiple=device.write_multiple), request, decode, data, raw)


def _engineering(point: ModbusPoint, raw: float) -> Fraction:
    return Fraction(raw) * Fraction(point.scale or 1) + Fraction(point.offset or 0)


def _raw(point: ModbusPoint, value: Decimal) -> int | float | None:
    """Give the raw value nearest to an engineering value; None where the type cannot hold it."""
    exact = (Fraction(value) - Fraction(point.offset or 0)) / Fraction(point.scale or 1)
    limits = point.limits
    if limits is None:
        return float(exact)
    whole = round(exact)
    return whole if limits[0] <= whole <= limits[1] else None


def _bytes(point: ModbusPoint, raw: float) -> bytes:
    """Give the data as it travels; empty where the type cannot hold it."""
    if point.kind == "bool":
        return bytes((int(raw),))
    number = int(str(raw), 16) if point.kind.startswith("bcd") else raw
    try:
        packed = struct.pack(">" + CODES[point.kind], number)
    except (OverflowError, struct.error):
        return b""
    return _ordered(packed, point)


def _ordered(packed: bytes, point: ModbusPoint) -> bytes:
    words = [packed[at : at + 2] for at in range(0, len(packed), 2)]
    if point.order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words[::-1] if point.order in ("CDAB", "DCBA") else words)


def _pdu(point: ModbusPoint, data: bytes, *, multiple: bool) -> bytes:
    address, width = point.place.address, point.width
    if point.kind == "bool":
        if multiple:
            return struct.pack(">BHHB", WRITE_COILS, address, 1, 1) + data
        return struct.pack(">BHH", WRITE_COIL, address, _COIL_ON if data[0] else 0)
    if width == 1 and not multiple:
        return struct.pack(">BH", WRITE_REGISTER, address) + data
    return struct.pack(">BHHB", WRITE_REGISTERS, address, width, len(data)) + data
