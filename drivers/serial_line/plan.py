"""What a serial link will do, worked out from its settings before anything is opened.

What is always true here:

- An instrument that is asked has an interval for each point; one that speaks by itself has none, and the port to
  itself. Its groups have `every_ns` None.
- Every group of the pattern that a point or the status names exists.
- What cannot be carried out raises DriverMisconfigured with the path of the key at fault.

The driver enters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from buffer.frame import Column, Layout
from drivers.api import DriverMisconfigured, Group
from drivers.columns import column_of
from drivers.serial_line.lines import Grammar, Slot, status_code, status_names
from drivers.serial_line.settings import LineDevice, LinePoint, LineStatus, SerialLineLink

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One device of the link, ready to be asked or listened to."""

    name: str
    ask: bytes | None
    terminator: bytes
    max_line: int
    silence_s: float | None
    grammar: Grammar


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a link: its groups, and how to fill each."""

    groups: tuple[Group, ...]
    instruments: Mapping[str, Instrument]
    slots: Mapping[Group, tuple[Slot, ...]]


def plan(name: str, link: SerialLineLink) -> Plan:
    """Work out a link. Raises DriverMisconfigured."""
    instruments: dict[str, Instrument] = {}
    slots: dict[Group, tuple[Slot, ...]] = {}
    for device_name, device in link.devices.items():
        path: Path = ("devices", device_name)
        if device.ask is None and len(link.devices) > 1:
            raise DriverMisconfigured(path, "serial.stream-not-alone", device=device_name)
        instruments[device_name] = _instrument(device_name, device, path)
        slots |= _groups(name, device_name, device, path, instruments[device_name].grammar)
    return Plan(tuple(slots), MappingProxyType(instruments), MappingProxyType(slots))


def _instrument(name: str, device: LineDevice, path: Path) -> Instrument:
    return Instrument(
        name=name,
        ask=None if device.ask is None else _bytes(device.ask, (*path, "ask")),
        terminator=_bytes(device.terminator, (*path, "terminator")),
        max_line=device.max_line,
        silence_s=None if device.silence is None else device.silence / 1e9,
        grammar=_grammar(device, path),
    )


def _bytes(text: str, path: Path) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise DriverMisconfigured(path, "serial.not-bytes", character=text[error.start]) from error


def _grammar(device: LineDevice, path: Path) -> Grammar:
    try:
        pattern = re.compile(device.line, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise DriverMisconfigured((*path, "line"), "serial.bad-pattern", reason=str(error)) from error
    if device.status is None:
        return Grammar(pattern, None, {})
    _must_exist(device.status.group, pattern, (*path, "status", "group"))
    return Grammar(pattern, device.status.group, _statuses(device.status, (*path, "status", "codes")))


def _statuses(written: LineStatus, path: Path) -> dict[str, int]:
    codes: dict[str, int] = {}
    for text, name in written.codes.items():
        code = status_code(name)
        if code is None:
            known = ", ".join(status_names())
            raise DriverMisconfigured((*path, text), "serial.unknown-status", name=name, known=known)
        codes[text] = code
    return codes


def _must_exist(group: str, pattern: re.Pattern[str], path: Path) -> None:
    if group not in pattern.groupindex:
        known = ", ".join(pattern.groupindex) or "-"
        raise DriverMisconfigured(path, "serial.no-group", group=group, known=known)


def _groups(link: str, name: str, device: LineDevice, path: Path, grammar: Grammar) -> dict[Group, tuple[Slot, ...]]:
    by_interval: dict[int | None, list[tuple[Column, Slot]]] = {}
    for point_name, point in device.points.items():
        place = (*path, "points", point_name)
        slot = _slot(point_name, point)
        _must_exist(slot.group, grammar.pattern, (*place, "group") if point.group else place)
        column = column_of(point_name, slot.kind, point, f"group:{slot.group}")
        by_interval.setdefault(_interval(device, point, path, place), []).append((column, slot))
    made: dict[Group, tuple[Slot, ...]] = {}
    for every_ns, members in by_interval.items():
        layout = Layout(link, name, "serial", every_ns, tuple(column for column, _ in members))
        made[Group(name, device.stream, layout)] = tuple(slot for _, slot in members)
    return made


def _slot(name: str, point: LinePoint) -> Slot:
    limits = None if point.range is None else (Fraction(point.range[0]), Fraction(point.range[1]))
    return Slot(point.group or name, point.type, Fraction(point.scale or 1), Fraction(point.offset or 0), limits)


def _interval(device: LineDevice, point: LinePoint, path: Path, place: Path) -> int | None:
    every = point.every or device.every
    if device.ask is None and every is not None:
        where = place if point.every else path
        raise DriverMisconfigured((*where, "every"), "serial.every-without-ask")
    if device.ask is not None and every is None:
        raise DriverMisconfigured((*path, "ask"), "serial.ask-without-every")
    return every
