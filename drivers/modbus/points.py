"""A Modbus point in the technician's file: where it stands, how its bytes are read, what may be written to it.

What is always true here:

- A point has exactly one address: `input`, `holding`, `coil` or `discrete` with the zero-based address that travels on
  the wire, or `register` with the one-based number of a manual (40101). `holding: 100` and `register: 40101` are the
  same register; the two ways of counting can never be confused because they have different keys.
- What passes fits: address plus width stays inside the table, mask and shift inside the type, range and scale can be
  carried out, and a sentinel or the name of a state stands for a value that the point can have.

This file knows no library of the wire, so that `check` and `schema` stay light.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, get_args

from config.model import Exact, Point
from config.shape import After, Before, Between, Key, Strict, Wrong

Table = Literal["coil", "discrete", "input", "holding"]
Type = Literal[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bcd16",
    "bcd32",
    "string",
]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]

TABLES: tuple[Table, ...] = get_args(Table)
WIDTH: dict[Type, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 1,
    "uint16": 1,
    "float16": 1,
    "bcd16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "bcd32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
}
"""Cells a type takes: bits in `coil` and `discrete`, registers in `input` and `holding`. A `string` has a length."""

BITS: dict[Type, int] = {
    kind: {"bool": 1, "int8": 8, "uint8": 8}.get(kind, width * 16) for kind, width in WIDTH.items()
}
UNSIGNED: tuple[Type, ...] = ("uint8", "uint16", "uint32", "uint64")
SIGNED: tuple[Type, ...] = ("int8", "int16", "int32", "int64")
BCD_MAX: dict[Type, int] = {"bcd16": 9999, "bcd32": 99_999_999}

CELLS = 65536
"""Cells of one table (Modbus Application Protocol V1.1b3, 4.3)."""

LONGEST_STRING = 250
"""Characters in the most registers that one request may ask."""

_FLOAT_MAX: dict[Type, Decimal] = {
    "float16": Decimal(65504),
    "float32": Decimal("3.4e38"),
    "float64": Decimal("1.7e308"),
}
_MANUAL_TABLE: dict[str, Table] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_MANUAL_NUMBER = re.compile(r"^([0134])(\d{4,5})$")
_WHOLE = re.compile(r"^-?(0x[0-9a-fA-F]+|\d+)$")


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
        raise Wrong("modbus.register-number", number=str(number))
    return Place(_MANUAL_TABLE[match[1]], cell)


def _registered(number: int | str | None) -> int | str | None:
    if number is not None:
        manual_register(number)
    return number


def _listed(value: object) -> object:
    """Let one sentinel stand where several may, and let hexadecimal text be a number."""
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(int(item, 16) if isinstance(item, str) and item.lower().startswith("0x") else item for item in items)


def _states(value: object) -> object:
    """Read the numbers that name states. A key of YAML is text."""
    if not isinstance(value, dict):
        return value
    for key in value:
        if not _WHOLE.match(str(key)):
            raise Wrong("modbus.enum-key", key=str(key))
    return {int(str(key), 0): name for key, name in value.items()}


Address = Annotated[int, Between(0, CELLS - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writable(Strict):
    """The engineering values that a command may give a point, both ends included."""

    min: Exact
    max: Exact


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusPoint(Point):
    """One value: a bit, a byte, a register, several in a row, or a register of bits."""

    input: Address | None = None
    holding: Address | None = None
    coil: Address | None = None
    discrete: Address | None = None
    manual: Annotated[int | str | None, After(_registered), Key("register")] = None
    type: Type | None = None
    order: Order = "ABCD"
    byte: Literal["high", "low"] | None = None
    length: Annotated[int, Between(1, LONGEST_STRING)] | None = None
    mask: Annotated[int, Between(0)] | None = None
    shift: Annotated[int, Between(0)] | None = None
    nan: Annotated[tuple[Exact, ...], Before(_listed, Exact | tuple[Exact, ...])] = ()
    enum: Annotated[dict[int, str], Before(_states)] | None = None
    bits: dict[str, Annotated[int, Between(0, 15)]] | None = None
    writable: Writable | None = None

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

    @property
    def width(self) -> int:
        """How many cells it takes."""
        return (self.length or 0) // 2 if self.kind == "string" else WIDTH[self.kind]

    @property
    def limits(self) -> tuple[int, int] | None:
        """The least and greatest raw number it can hold; None where it is not a whole number."""
        kind = self.kind
        if kind in BCD_MAX:
            return 0, BCD_MAX[kind]
        if kind in SIGNED:
            return -(1 << BITS[kind] - 1), (1 << BITS[kind] - 1) - 1
        if kind in UNSIGNED:
            everything = (1 << BITS[kind]) - 1
            return 0, (everything if self.mask is None else self.mask) >> (self.shift or 0)
        return (0, 1) if kind == "bool" else None

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        given: list[str] = [key for key in TABLES if getattr(self, key) is not None]
        given += ["register"] if self.manual is not None else []
        if not given:
            raise Wrong("modbus.address-missing")
        if len(given) > 1:
            raise Wrong("modbus.address-twice", keys=", ".join(given))
        self._check_fit()
        self._check_numbers()
        self._check_states()
        self._check_writable()

    def _check_fit(self) -> None:
        table, address = self.place
        registers = table in ("input", "holding")
        if not registers and (self.type not in (None, "bool") or self.bits):
            raise Wrong("modbus.bit-table", table=table)
        if registers and self.type == "bool":
            raise Wrong("modbus.bool-register")
        if self.bits is not None and (self.kind != "uint16" or not self.bits):
            raise Wrong("modbus.bits-type")
        self._check_string()
        self._check_byte()
        self._check_mask()
        if address + self.width > CELLS:
            raise Wrong("modbus.past-the-end", last=CELLS - 1)

    def _check_string(self) -> None:
        if (self.kind == "string") != (self.length is not None):
            raise Wrong("modbus.string-length")
        if self.kind != "string":
            return
        if self.length is not None and self.length % 2:
            raise Wrong("modbus.string-odd", length=self.length)
        if self.order in ("CDAB", "DCBA"):
            raise Wrong("modbus.string-order", order=self.order)
        if self.scale is not None or self.offset is not None or self.range is not None:
            raise Wrong("modbus.string-number")

    def _check_byte(self) -> None:
        eight = self.kind in ("int8", "uint8")
        if (self.byte is not None and not eight) or (eight and self.order != "ABCD"):
            raise Wrong("modbus.byte-type")

    def _check_mask(self) -> None:
        if self.mask is None and self.shift is None:
            return
        kind = self.kind
        if kind not in UNSIGNED or self.bits is not None:
            raise Wrong("modbus.mask-type", type=kind)
        everything = (1 << BITS[kind]) - 1
        mask, shift = everything if self.mask is None else self.mask, self.shift or 0
        if mask > everything or shift >= BITS[kind] or not mask >> shift:
            raise Wrong("modbus.mask-width", mask=hex(mask), shift=shift, bits=BITS[kind])

    def _check_numbers(self) -> None:
        if self.scale is not None and not Decimal(self.scale):
            raise Wrong("modbus.scale-zero")
        if self.range is not None and Decimal(self.range[0]) > Decimal(self.range[1]):
            low, high = self.range
            raise Wrong("modbus.range-crossed", low=low, high=high)
        for text in self.nan:
            if not self._is_raw(text):
                raise Wrong("modbus.nan-value", type=self.kind, value=text)

    def _is_raw(self, text: str) -> bool:
        """Say whether a sentinel is a value of the type; a signed one may be written as its pattern."""
        if self.kind in _FLOAT_MAX:
            return abs(Decimal(text)) <= _FLOAT_MAX[self.kind]
        number, limits = Decimal(text), self.limits
        if limits is None or self.kind == "bool" or self.bits is not None:
            return False
        high = (1 << BITS[self.kind]) - 1 if self.kind in SIGNED else limits[1]
        return number == number.to_integral_value() and limits[0] <= number <= high

    def _check_states(self) -> None:
        if self.enum is None:
            return
        limits = self.limits
        if limits is None or self.bits is not None or not self.enum:
            raise Wrong("modbus.enum-type", type=self.kind)
        for number in self.enum:
            if not limits[0] <= number <= limits[1]:
                raise Wrong("modbus.enum-value", type=self.kind, value=number)

    def _check_writable(self) -> None:
        if self.writable is None:
            return
        masked = self.mask is not None or self.shift is not None
        if self.place.table not in ("coil", "holding") or self.bits is not None or masked:
            raise Wrong("modbus.not-writable")
        if self.kind in ("int8", "uint8", "string"):
            raise Wrong("modbus.not-writable")
        low, high = self.writable.min, self.writable.max
        if Decimal(low) > Decimal(high):
            raise Wrong("modbus.range-crossed", low=low, high=high)
