"""A Modbus link in the technician's file: where the wire is, which units hang on it, which registers to read.

What is always true here:

- A link has exactly one wire (see `transport.py`).
- A point has exactly one address: `input`, `holding`, `coil` or `discrete` with the zero-based address that travels on
  the wire, or `register` with the one-based number of a manual (40101). `holding: 100` and `register: 40101` are the
  same register; the two ways of counting can never be confused because they have different keys.
- What passes fits: address plus width stays inside the table, range and scale can be carried out.

This file knows no library of the wire, so that `check` and `schema` stay light.
"""

import re
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from config.model import Device, Exact, Point
from drivers.modbus.transport import Wired

Table = Literal["coil", "discrete", "input", "holding"]
Type = Literal[
    "bool",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]

TABLES: tuple[Table, ...] = get_args(Table)
WIDTH: dict[Type, int] = {
    "bool": 1,
    "int16": 1,
    "uint16": 1,
    "float16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
}
"""Cells a type takes: bits in `coil` and `discrete`, registers in `input` and `holding`."""

CELLS = 65536
"""Cells of one table (Modbus Application Protocol V1.1b3, 4.3)."""

_FLOAT_MAX: dict[Type, Decimal] = {
    "float16": Decimal(65504),
    "float32": Decimal("3.4e38"),
    "float64": Decimal("1.7e308"),
}
_MANUAL_TABLE: dict[str, Table] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_MANUAL_NUMBER = re.compile(r"^([0134])(\d{4,5})$")


class Place(NamedTuple):
    """Where a point stands on the wire; `address` counts from zero."""

    table: Table
    address: int


def manual_register(number: object) -> Place:
    """Read the one-based number of a manual: 0xxxx, 1xxxx, 3xxxx or 4xxxx with five or six digits.

    A coil's leading zero is lost where YAML reads a whole number, so a number of up to four digits is a coil.
    """
    text = f"{number:05d}" if isinstance(number, int) and not isinstance(number, bool) else str(number)
    match = _MANUAL_NUMBER.match(text)
    cell = int(match[2]) - 1 if match else -1
    if match is None or not 0 <= cell < CELLS:
        raise PydanticCustomError("modbus.register-number", "not a register number: {number}", {"number": str(number)})
    return Place(_MANUAL_TABLE[match[1]], cell)


def _registered(number: int | str | None) -> int | str | None:
    if number is not None:
        manual_register(number)
    return number


def _listed(value: object) -> object:
    """Let one sentinel stand where several may, and let hexadecimal text be a number."""
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(int(item, 16) if isinstance(item, str) and item.lower().startswith("0x") else item for item in items)


def _is_raw(kind: Type, text: str) -> bool:
    """Say whether a sentinel is a value of a type; integers may be written signed or as their pattern."""
    if kind == "bool":
        return False
    if kind in _FLOAT_MAX:
        return abs(Decimal(text)) <= _FLOAT_MAX[kind]
    bits = WIDTH[kind] * 16
    number = Decimal(text)
    low = -(1 << bits - 1) if kind.startswith("int") else 0
    return number == number.to_integral_value() and low <= number < 1 << bits


def _unit_id(unit: int) -> int:
    if not (0 <= unit <= 247 or unit == 255):
        raise PydanticCustomError("modbus.unit-number", "not a unit id: {unit}", {"unit": unit})
    return unit


Address = Annotated[int, Field(ge=0, lt=CELLS)]


class ModbusPoint(Point):
    """One register, register pair, bit, or register of bits."""

    model_config = ConfigDict(populate_by_name=False)  # `manual` is `register` in the file, and nothing else

    input: Address | None = None
    holding: Address | None = None
    coil: Address | None = None
    discrete: Address | None = None
    manual: Annotated[int | str | None, AfterValidator(_registered), Field(alias="register")] = None
    type: Type | None = None
    order: Order = "ABCD"
    nan: Annotated[tuple[Exact, ...], BeforeValidator(_listed)] = ()
    bits: dict[str, Annotated[int, Field(ge=0, le=15)]] | None = None

    @property
    def place(self) -> Place:
        """Where it stands, whichever way it was written."""
        if self.manual is not None:
            return manual_register(self.manual)
        return next(Place(table, at) for table in TABLES if (at := getattr(self, table)) is not None)

    @property
    def kind(self) -> Type:
        """What it holds: as written, or a bit in the tables of bits and `uint16` in those of registers."""
        return self.type or ("bool" if self.place.table in ("coil", "discrete") else "uint16")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        given: list[str] = [key for key in TABLES if getattr(self, key) is not None]
        given += ["register"] if self.manual is not None else []
        if not given:
            raise PydanticCustomError("modbus.address-missing", "no address", {})
        if len(given) > 1:
            raise PydanticCustomError("modbus.address-twice", "two addresses: {keys}", {"keys": ", ".join(given)})
        return self._fitting()

    def _fitting(self) -> Self:
        table, address = self.place
        registers = table in ("input", "holding")
        if not registers and (self.type not in (None, "bool") or self.bits):
            raise PydanticCustomError("modbus.bit-table", "a {table} holds one bit", {"table": table})
        if registers and self.type == "bool":
            raise PydanticCustomError("modbus.bool-register", "a register is no bool", {})
        if self.bits is not None and (self.kind != "uint16" or not self.bits):
            raise PydanticCustomError("modbus.bits-type", "bits stand in one register", {})
        if address + WIDTH[self.kind] > CELLS:
            raise PydanticCustomError("modbus.past-the-end", "past the last address", {"last": CELLS - 1})
        return self._computable()

    def _computable(self) -> Self:
        if self.scale is not None and not Decimal(self.scale):
            raise PydanticCustomError("modbus.scale-zero", "a scale of zero", {})
        if self.range is not None and Decimal(self.range[0]) > Decimal(self.range[1]):
            low, high = self.range
            raise PydanticCustomError("modbus.range-crossed", "{low} > {high}", {"low": low, "high": high})
        for text in self.nan:
            if not _is_raw(self.kind, text):
                raise PydanticCustomError("modbus.nan-value", "no {type}: {value}", {"type": self.kind, "value": text})
        return self


class ModbusDevice(Device[ModbusPoint]):
    """One unit on the wire, and what it can bear.

    `max_registers` and `max_bits` bound one request; `bridge` is how many unwanted registers (sixteen times as many
    bits) may be read along to save a request, 0 for an instrument that refuses addresses it does not have.
    """

    unit: Annotated[int, AfterValidator(_unit_id)]
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    max_bits: Annotated[int, Field(ge=1, le=2000)] = 2000
    bridge: Annotated[int, Field(ge=0, le=124)] = 8


class ModbusLink(Wired[ModbusDevice]):
    """One wire and the units on it."""

    driver: Literal["modbus"] = "modbus"
