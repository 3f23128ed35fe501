"""The registers of a simulated Modbus instrument: a recording behind a counter of answers. Pure.

What is always true here:

- Registers 0 and 1 hold, as a uint32 in order ABCD, the number of the answer that carries them. An answer that carries
  both is counted: its number is one more than that of the counted answer before, and never comes twice.
- Answer number n carries row n of the recording, so what was read can be checked value by value.
- All registers of one answer belong to one row. An answer that does not carry the number repeats the row before.
- A missing value is NaN in a float, and the lowest (signed) or highest (unsigned) pattern in an integer.
"""

import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from drivers.simulated.replay import Recording, Row

Table = Literal["holding", "input"]
Type = Literal["int16", "uint16", "int32", "uint32", "float32"]

COUNTER_WIDTH = 2
ILLEGAL_FUNCTION = 1
ILLEGAL_DATA_ADDRESS = 2
ILLEGAL_DATA_VALUE = 3
_FUNCTION: dict[Table, int] = {"holding": 3, "input": 4}
_MOST_REGISTERS = 125
_CODES: dict[Type, str] = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f"}


class Channel(NamedTuple):
    """One value of the instrument: which column of the recording it replays, and how it stands in registers."""

    name: str
    column: str
    kind: Type
    order: Literal["ABCD", "CDAB"] = "ABCD"
    scale: str = ""
    unit: str = ""

    def pack(self, value: float | None) -> bytes:
        """Give the bytes of the registers."""
        code = ">" + _CODES[self.kind]
        if self.kind.startswith("float"):
            packed = struct.pack(code, float("nan") if value is None else value)
        else:
            packed = struct.pack(code, self._integer(value))
        words = [packed[at : at + 2] for at in range(0, len(packed), 2)]
        return b"".join(reversed(words)) if self.order == "CDAB" else packed

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return struct.calcsize(">" + _CODES[self.kind]) // 2

    @property
    def missing(self) -> int:
        """The integer that says there is no value."""
        bits = self.registers * 16
        return -(1 << bits - 1) if self.kind.startswith("int") else (1 << bits) - 1

    def _integer(self, value: float | None) -> int:
        if value is None:
            return self.missing
        bits = self.registers * 16
        low, high = (1 - (1 << bits - 1), (1 << bits - 1) - 1) if self.kind.startswith("int") else (0, (1 << bits) - 2)
        return min(max(round(value / float(self.scale or 1)), low), high)

    def point(self, table: Table, address: int) -> dict[str, Any]:
        """Give the point that reads it, for the technician's file."""
        point: dict[str, Any] = {table: address, "type": self.kind}
        point |= {"order": self.order} if self.order != "ABCD" else {}
        point |= {"scale": self.scale} if self.scale else {}
        point |= {"unit": self.unit} if self.unit else {}
        point |= {} if self.kind.startswith("float") else {"nan": self.missing}
        return point


class Answered(NamedTuple):
    """The PDU of an answer, and its number where it is counted."""

    pdu: bytes
    serial: int | None = None


class Bank:
    """One unit's registers in one table. Every other unit is silent, every other function an exception."""

    def __init__(self, recording: Recording, channels: Sequence[Channel], unit: int, table: Table) -> None:
        self.unit = unit
        self.table = table
        self.channels = tuple(channels)
        self.serial = 0
        """The number of the last counted answer."""
        columns = [recording.names.index(channel.column) for channel in channels]
        self._images = tuple(self._image(row, columns) for row in recording.rows)
        self.registers = COUNTER_WIDTH + len(self._images[0]) // 2

    def _image(self, row: Row, columns: Sequence[int]) -> bytes:
        return b"".join(channel.pack(row[at]) for channel, at in zip(self.channels, columns, strict=True))

    def image(self, serial: int) -> bytes:
        """Give the bytes of all registers as answer number `serial` carries them."""
        return struct.pack(">I", serial & 0xFFFFFFFF) + self._images[serial % len(self._images)]

    def answer(self, unit: int, pdu: bytes) -> Answered | None:
        """Answer one request PDU, or stay silent where another unit is meant."""
        if unit != self.unit:
            return None
        function = pdu[0]
        if function != _FUNCTION[self.table]:
            return _exception(function, ILLEGAL_FUNCTION)
        if len(pdu) != 5:
            return _exception(function, ILLEGAL_DATA_VALUE)
        _, address, quantity = struct.unpack(">BHH", pdu)
        if not 1 <= quantity <= _MOST_REGISTERS:
            return _exception(function, ILLEGAL_DATA_VALUE)
        if address + quantity > self.registers:
            return _exception(function, ILLEGAL_DATA_ADDRESS)
        counted = address == 0 and quantity >= COUNTER_WIDTH
        self.serial += counted
        data = self.image(self.serial)[address * 2 : (address + quantity) * 2]
        return Answered(bytes((function, len(data))) + data, self.serial if counted else None)

    def points(self) -> dict[str, Any]:
        """Give the points that read everything in one request, for the technician's file."""
        points: dict[str, Any] = {"serial": {self.table: 0, "type": "uint32"}}
        address = COUNTER_WIDTH
        for channel in self.channels:
            points[channel.name] = channel.point(self.table, address)
            address += channel.registers
        return points


def _exception(function: int, code: int) -> Answered:
    return Answered(bytes((function | 0x80, code)))
