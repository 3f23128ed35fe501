"""A Modbus link in the technician's file: where the wire is, which units hang on it, what each can bear.

What is always true here:

- A link has exactly one wire (see `transport`).
- No two points of a device lie across each other: they share registers only where one lies inside the other and both
  are whole numbers or bits, or where both read the same registers as the same type.
- No point stands in a forbidden range.

What a point may say is in `points`. This file knows no library of the wire, so that `check` and `schema` stay light.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from config.model import Device, Duration, parse_duration
from config.shape import After, Before, Between, Wrong
from drivers.modbus.points import TABLES, Address, ModbusPoint, Table
from drivers.modbus.transport import Wired


class Range(NamedTuple):
    """Cells of one table, from `first` to `last`, both included."""

    table: Table
    first: int
    last: int


def _unit_id(unit: int) -> int:
    if not (0 <= unit <= 247 or unit == 255):
        raise Wrong("modbus.unit-number", unit=unit)
    return unit


def _of_both_register_tables(value: object) -> object:
    """Let a bare list of ranges mean both tables of registers."""
    return {"input": value, "holding": value} if isinstance(value, tuple) else value


Ends = tuple[Address, Address]
_Written = dict[Table, tuple[Ends, ...]] | tuple[Ends, ...]
Forbidden = Annotated[dict[Table, tuple[Ends, ...]], Before(_of_both_register_tables, _Written)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusDevice(Device[ModbusPoint]):
    """One unit on the wire, and what it can bear.

    `max_registers` and `max_bits` bound one request; `bridge` bounds how many unwanted registers (sixteen times as many
    bits) may be read along to save a request, 0 for none; without it the cost on the wire alone decides. `forbidden`
    ranges are never asked for, not even as a hole. `pause` is the least time from an answer to the next question.
    """

    unit: Annotated[int, After(_unit_id)]
    max_registers: Annotated[int, Between(1, 125)] = 125
    max_bits: Annotated[int, Between(1, 2000)] = 2000
    bridge: Annotated[int, Between(0, 124)] | None = None
    forbidden: Forbidden = field(default_factory=dict)
    one_point_per_request: bool = False
    pause: Duration | None = None
    retry_parked: Duration = parse_duration("1h")
    write_multiple: bool = False

    @property
    def forbidden_ranges(self) -> tuple[Range, ...]:
        """What may never be asked for."""
        return tuple(Range(table, first, last) for table, ranges in self.forbidden.items() for first, last in ranges)

    def __post_init__(self) -> None:
        """Refuse ranges that do not run upwards."""
        for _, first, last in self.forbidden_ranges:
            if first > last:
                raise Wrong("modbus.range-crossed", low=first, high=last)


class Clash(NamedTuple):
    """Two points that lie across each other."""

    name: str
    other: str


def forbidden_points(device: ModbusDevice) -> Iterator[tuple[str, Range]]:
    """Find the points that stand in a forbidden range."""
    ranges = device.forbidden_ranges
    for name, point in device.points.items() if ranges else ():
        table, address = point.place
        for each in ranges:
            if each.table == table and each.first < address + point.width and address <= each.last:
                yield name, each
                break


def clashes(device: ModbusDevice) -> Iterator[Clash]:
    """Find the points that share registers in a way that cannot be meant."""
    for table in TABLES:
        mine = [(name, point) for name, point in device.points.items() if point.place.table == table]
        reaching: list[tuple[int, str]] = []
        for name, point in sorted(mine, key=lambda entry: entry[1].place.address):
            address = point.place.address
            reaching = [(end, other) for end, other in reaching if end > address]
            across = next((other for _, other in reaching if not _may_share(device.points[other], point)), None)
            if across is not None:
                yield Clash(name, across)
            reaching.append((address + point.width, name))


def _may_share(one: ModbusPoint, other: ModbusPoint) -> bool:
    """Say whether two points that share registers can both be meant."""
    a, b = one.place.address, other.place.address
    if (a, one.width, one.kind) == (b, other.width, other.kind):
        return True
    inside = (a <= b and b + other.width <= a + one.width) or (b <= a and a + one.width <= b + other.width)
    whole = all(point.limits is not None and not point.kind.startswith("bcd") for point in (one, other))
    return inside and whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusLink(Wired[ModbusDevice]):
    """One wire and the units on it."""

    driver: Literal["modbus"] = "modbus"
