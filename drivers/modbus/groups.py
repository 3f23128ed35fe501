"""From a link's settings to its groups, and to all that a poll of one needs, prepared beforehand. Pure.

A group is the points of one device with one interval, in the order of the file. Each bit of a register of bits is a
column of its own, named `register.bit`.

What the layout says of a column beside its number, for whoever audits it (see the README):

- `address` is `table:address`, and behind it what part of the cells the value is: `.3` the bit, `.high` or `.low` the
  byte, `*16` that many characters, `=bcd` four bits a digit, `&0x0FFF` the mask and `>>4` the shift.
- `note` is the technician's note, and on lines of their own `nan: ...` and `enum: 0 = stopped, 1 = running`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple

from buffer.frame import MAX_POINTS, Column, Kind, Layout
from buffer.layout import MAX_TEXT
from drivers.api import DriverMisconfigured, Group
from drivers.columns import column_of
from drivers.modbus.cost import Cost, cost
from drivers.modbus.decode import Decoder, Field, decoder
from drivers.modbus.judge import Bounds, Judge, bounds, judge
from drivers.modbus.pace import Pace, pace
from drivers.modbus.plan import Limits, Request, Span, covers, plan, total_s
from drivers.modbus.points import ModbusPoint, Type
from drivers.modbus.settings import ModbusDevice, ModbusLink, clashes, forbidden_points

Path = tuple[str | int, ...]
_KINDS: Mapping[Type, Kind] = {"bcd16": "uint16", "bcd32": "uint32", "string": "text"}


class Part(NamedTuple):
    """One request of a group, and how its answer is read; `columns` are the positions it brings, in this order."""

    request: Request
    decode: Decoder
    fields: tuple[Field, ...]
    columns: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many values it brings."""
        return len(self.columns)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for a group, and which columns are not asked for.

    `order` puts the values of all parts, one after the other, and behind them one for each absent column, into layout
    order. `wire_s` is the time all that takes on the wire, without the device's turnaround.
    """

    parts: tuple[Part, ...]
    absent: tuple[int, ...]
    order: Callable[[Sequence[Any]], tuple[Any, ...]] | None
    wire_s: float

    @property
    def least(self) -> bool:
        """Say whether no turnaround makes another plan cheaper: no hole is read along, and no table is asked twice."""
        tables = {part.request.table for part in self.parts}
        return len(tables) == len(self.parts) and not any(part.request.holes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Reading:
    """A group and all a poll of it needs."""

    group: Group
    device: ModbusDevice
    pace: Pace
    fields: tuple[Field, ...]
    judge: Judge | None

    def cost(self, turnaround_s: float | None = None) -> Cost:
        """Give what requests cost; `turnaround_s` as measured, None where it is not yet."""
        return cost(self.pace, turnaround_s, (self.device.pause or 0) / 1e9)

    def requests(
        self, avoid: Sequence[Span] = (), lost: Collection[Span] = (), turnaround_s: float | None = None
    ) -> tuple[Request, ...]:
        """Give the requests that ask for all but the `lost` spans, and read nothing that is to be avoided."""
        limits = Limits(
            self.device.max_registers,
            self.device.max_bits,
            self.device.bridge,
            self.device.one_point_per_request,
            (*avoid, *(Span(table, first, last - first + 1) for table, first, last in self.device.forbidden_ranges)),
        )
        wanted = (field.span for field in self.fields if field.span not in lost)
        return plan(wanted, limits, self.cost(turnaround_s))

    def plan(self, requests: Sequence[Request], lost: Collection[Span] = ()) -> Plan:
        """Make the plan of these requests, which ask for all but the `lost` spans."""
        absent = [i for i, field in enumerate(self.fields) if field.span in lost]
        parts = self._parts(requests, [i for i, field in enumerate(self.fields) if field.span not in lost])
        brought = [column for part in parts for column in part.columns] + absent
        wire_s = total_s(requests, self.cost(0.0))
        return Plan(parts, tuple(absent), _order(brought), wire_s)

    def part(self, columns: Sequence[int]) -> Part:
        """Make one request of its own for some columns of one table, and of nothing behind the last."""
        fields = tuple(self.fields[column] for column in columns)
        first, end = min(field.span.address for field in fields), max(field.span.end for field in fields)
        request = Request(fields[0].span.table, first, end - first)
        return Part(request, decoder(request, fields), fields, tuple(columns))

    def _parts(self, requests: Sequence[Request], asked: Sequence[int]) -> tuple[Part, ...]:
        parts = []
        rest = iter(sorted(asked, key=lambda column: self.fields[column].span))
        column = next(rest, None)
        for request in requests:
            mine: list[int] = []
            while column is not None and covers(request, self.fields[column].span):
                mine.append(column)
                column = next(rest, None)
            fields = tuple(self.fields[i] for i in mine)
            parts.append(Part(request, decoder(request, fields), fields, tuple(mine)))
        return tuple(parts)


def _order(brought: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
    if list(brought) == list(range(len(brought))):
        return None
    position = {column: at for at, column in enumerate(brought)}
    return itemgetter(*(position[column] for column in range(len(brought))))


def readings(name: str, link: ModbusLink) -> tuple[Reading, ...]:
    """Make the groups of a link. Raises DriverMisconfigured, with everything that is wrong."""
    found = [fault for device in link.devices for fault in _faults(link, device)]
    if found:
        raise found[0].with_others(found[1:])
    return tuple(reading for device in link.devices for reading in _of_device(name, link, device))


def _faults(link: ModbusLink, name: str) -> Iterator[DriverMisconfigured]:
    """Find what only shows where the whole device is known."""
    device = link.devices[name]
    path = ("devices", name)
    if link.spoken != "tcp" and not 1 <= device.unit <= 247:
        yield DriverMisconfigured((*path, "unit"), "modbus.unit-on-serial", unit=device.unit)
    if not device.points:
        yield DriverMisconfigured(path, "drivers.no-points", device=name)
    if sum(len(point.bits or (0,)) for point in device.points.values()) > MAX_POINTS:
        yield DriverMisconfigured(path, "drivers.too-many-points", most=MAX_POINTS)
    points = (*path, "points")
    for point_name, point in device.points.items():
        yield from _point_faults(device, point_name, point, (*points, point_name))
    for clash in clashes(device):
        yield DriverMisconfigured((*points, clash.name), "modbus.overlap", point=clash.name, other=clash.other)
    for point_name, (table, first, last) in forbidden_points(device):
        where = (*points, point_name)
        yield DriverMisconfigured(
            where, "modbus.forbidden-point", point=point_name, table=table, first=first, last=last
        )


def _point_faults(device: ModbusDevice, name: str, point: ModbusPoint, path: Path) -> Iterator[DriverMisconfigured]:
    if (point.every or device.every) is None:
        yield DriverMisconfigured(path, "drivers.every-missing", point=name)
    if point.kind != "bool" and point.width > device.max_registers:
        key = "length" if point.kind == "string" else "type"
        yield DriverMisconfigured((*path, key), "modbus.wider-than-request", registers=point.width)
    if len(_note(point)) > MAX_TEXT:
        yield DriverMisconfigured(path, "modbus.note-too-long", most=MAX_TEXT)


def _of_device(link_name: str, link: ModbusLink, name: str) -> Iterator[Reading]:
    device = link.devices[name]
    intervals: dict[int, dict[str, ModbusPoint]] = {}
    for point_name, point in device.points.items():
        intervals.setdefault(point.every or device.every or 0, {})[point_name] = point
    for every_ns, points in intervals.items():
        columns: list[Column] = []
        fields: list[Field] = []
        limits: list[Bounds] = []
        for point_name, point in points.items():
            for column, field in _columns(point_name, point):
                if (limit := bounds(len(columns), point)) is not None and field.kind != "bool":
                    limits.append(limit)
                columns.append(column)
                fields.append(field)
        layout = Layout(link_name, name, "modbus", every_ns, tuple(columns))
        group = Group(name, device.stream, layout)
        weigh = judge([field.kind for field in fields], limits)
        yield Reading(group, device, pace(link.serial, link.spoken), tuple(fields), weigh)


def _columns(name: str, point: ModbusPoint) -> Iterator[tuple[Column, Field]]:
    table, address = point.place
    span = Span(table, address, point.width)
    if point.bits is not None:
        for bit_name, bit in point.bits.items():
            column = Column(f"{name}.{bit_name}", "bool", address=f"{table}:{address}.{bit}", note=point.note)
            yield column, Field(span, "bool", point.order, bit)
        return
    kind: Kind = _KINDS.get(point.kind) or point.kind  # type: ignore[assignment]  # else it is a kind itself
    order = "" if point.kind in ("bool", "int8", "uint8") else point.order
    column = column_of(name, kind, point, f"{table}:{address}{_portion(point)}", order)
    column = replace(column, note=_note(point))
    high_byte = point.byte == "high"
    yield column, Field(span, point.kind, point.order, None, high_byte, point.mask, point.shift or 0)


def _portion(point: ModbusPoint) -> str:
    """Write which part of its cells a value is."""
    text = f".{point.byte or 'low'}" if point.kind in ("int8", "uint8") else ""
    text += f"*{point.length}" if point.kind == "string" else ""
    text += "=bcd" if point.kind in ("bcd16", "bcd32") else ""
    text += "" if point.mask is None else f"&0x{point.mask:X}"
    return text + (f">>{point.shift}" if point.shift else "")


def _note(point: ModbusPoint) -> str:
    """Write what an auditor needs beside the technician's own note."""
    lines = [point.note] if point.note else []
    lines += [f"nan: {', '.join(point.nan)}"] if point.nan else []
    if point.enum:
        lines.append("enum: " + ", ".join(f"{number} = {state}" for number, state in sorted(point.enum.items())))
    return "\n".join(lines)


def load(made: Sequence[Reading]) -> float:
    """Give the share of the wire's time that all groups need at their intervals, by the cost model."""
    return sum(
        total_s(reading.requests(), reading.cost()) * 1e9 / (reading.group.layout.every_ns or 1) for reading in made
    )
