"""From a link's settings to its groups, and to all that a poll of one needs, prepared beforehand. Pure.

A group is the points of one device with one interval, in the order of the file. Each bit of a register of bits is a
column of its own, named `register.bit`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from buffer.frame import MAX_POINTS, Column, Layout, Value
from drivers.api import DriverMisconfigured, Group
from drivers.modbus.decode import Decoder, Field, decoder
from drivers.modbus.judge import Bounds, Judge, bounds, judge
from drivers.modbus.plan import Limits, Request, Span, covers, plan
from drivers.modbus.settings import WIDTH, ModbusDevice, ModbusLink, ModbusPoint


class Part(NamedTuple):
    """One request of a group, and how its answer is read; `width` is the number of its columns."""

    request: Request
    decode: Decoder
    width: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for a group. `order` puts the values of all parts, one after the other, into layout order."""

    parts: tuple[Part, ...]
    order: Callable[[Sequence[Any]], tuple[Any, ...]] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A group and all a poll of it needs. `bridged` reads over holes, `whole` only what points want."""

    group: Group
    unit: int
    bridged: Plan
    whole: Plan
    judge: Judge | None


def readings(name: str, link: ModbusLink) -> tuple[Reading, ...]:
    """Make the groups of a link. Raises DriverMisconfigured."""
    return tuple(reading for device in link.devices for reading in _of_device(name, link, device))


def _of_device(name: str, link: ModbusLink, device_name: str) -> Iterator[Reading]:
    device = link.devices[device_name]
    path = ("devices", device_name)
    if link.serial is not None and not 1 <= device.unit <= 247:
        raise DriverMisconfigured((*path, "unit"), "modbus.unit-on-serial", unit=device.unit)
    if not device.points:
        raise DriverMisconfigured(path, "drivers.no-points", device=device_name)
    intervals: dict[int, dict[str, ModbusPoint]] = {}
    for point_name, point in device.points.items():
        every_ns = point.every or device.every
        if every_ns is None:
            raise DriverMisconfigured((*path, "points", point_name), "drivers.every-missing", point=point_name)
        _check(device, (*path, "points", point_name), point)
        intervals.setdefault(every_ns, {})[point_name] = point
    for every_ns, points in intervals.items():
        yield _reading(name, device_name, device, every_ns, points)


def _check(device: ModbusDevice, path: tuple[str | int, ...], point: ModbusPoint) -> None:
    width = WIDTH[point.kind]
    if point.kind != "bool" and width > device.max_registers:
        raise DriverMisconfigured((*path, "type"), "modbus.wider-than-request", registers=width)


def _reading(
    link: str, device_name: str, device: ModbusDevice, every_ns: int, points: dict[str, ModbusPoint]
) -> Reading:
    columns: list[Column] = []
    fields: list[Field] = []
    limits: list[Bounds] = []
    for name, point in points.items():
        for column, field in _columns(name, point):
            if (limit := bounds(len(columns), point)) is not None and field.bit is None and field.kind != "bool":
                limits.append(limit)
            columns.append(column)
            fields.append(field)
    if len(columns) > MAX_POINTS:
        raise DriverMisconfigured(("devices", device_name), "drivers.too-many-points", most=MAX_POINTS)
    group = Group(device_name, device.stream, Layout(link, device_name, "modbus", every_ns, tuple(columns)))
    most = Limits(device.max_registers, device.max_bits, device.bridge)
    return Reading(
        group,
        device.unit,
        _plan(fields, most),
        _plan(fields, most._replace(bridge=0)),
        judge([field.kind for field in fields], limits),
    )


def _columns(name: str, point: ModbusPoint) -> Iterator[tuple[Column, Field]]:
    table, address = point.place
    if point.bits is not None:
        span = Span(table, address, 1)
        for bit_name, bit in point.bits.items():
            column = Column(f"{name}.{bit_name}", "bool", address=f"{table}:{address}.{bit}", note=point.note)
            yield column, Field(span, "bool", point.order, bit)
        return
    low, high = point.range or ("", "")
    column = Column(
        name=name,
        kind=point.kind,
        unit=point.unit,
        scale=point.scale or "",
        offset=point.offset or "",
        address=f"{table}:{address}",
        order="" if point.kind == "bool" else point.order,
        low=low,
        high=high,
        note=point.note,
    )
    yield column, Field(Span(table, address, WIDTH[point.kind]), point.kind, point.order)


def _plan(fields: Sequence[Field], limits: Limits) -> Plan:
    brought = sorted(range(len(fields)), key=lambda column: fields[column].span)
    parts: list[Part] = []
    rest = iter(brought)
    column = next(rest, None)
    for request in plan((field.span for field in fields), limits):
        mine: list[Field] = []
        while column is not None and covers(request, fields[column].span):
            mine.append(fields[column])
            column = next(rest, None)
        parts.append(Part(request, decoder(request, mine), len(mine)))
    if brought == list(range(len(fields))):
        return Plan(tuple(parts), None)
    position = {column: at for at, column in enumerate(brought)}
    return Plan(tuple(parts), itemgetter(*(position[column] for column in range(len(fields)))))


def in_layout_order(plan_: Plan, values: Sequence[Value]) -> tuple[Value, ...]:
    """Put the values of all parts into the order of the layout."""
    return tuple(values) if plan_.order is None else plan_.order(values)
