"""Readings as lines of text: CSV for a spreadsheet, JSON lines for a program.

What is always true here:

- A value is the engineering value, exact (`raw * scale + offset` in decimal). A Bad one has none, whatever was read;
  its status says why. The raw value stands beside it where it was asked for.
- A time is ISO 8601 in the zone asked for, with the bound of its error in seconds; where only a bracket is known the
  time is empty and the bracket is given.
"""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, TextIO

from agent.formats.numbers import Number, dumps, number_text, scalings, usable
from agent.history import Told
from buffer import status
from buffer.frame import Layout, Value
from buffer.timeline import Bracket, Placed

NS_PER_S = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = (
    "time", "error_s", "not_before", "not_after", "stream", "seq", "device", "point", "value", "unit", "status",
    "source_time",
)  # fmt: skip


def iso(utc_ns: int | None, zone: tzinfo) -> str:
    """Give a time in a zone with microseconds; nothing where it is not known or no calendar has it."""
    if utc_ns is None:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=utc_ns // 1000)).astimezone(zone).isoformat(timespec="microseconds")
    except (OverflowError, ValueError):
        return ""


def _when(placed: Placed | Bracket | None, zone: tzinfo) -> tuple[str, str, str, str]:
    """Give time, error in seconds, not before, not after."""
    if isinstance(placed, Placed):
        return iso(placed.utc_ns, zone), f"{placed.bound_ns / NS_PER_S:.6f}", "", ""
    if isinstance(placed, Bracket):
        return "", "", iso(placed.not_before_ns, zone), iso(placed.not_after_ns, zone)
    return "", "", "", ""


class Reading:
    """One value of one point at one moment."""

    __slots__ = ("column", "layout", "raw", "source_ns", "status", "t_boot_ns", "value")

    def __init__(
        self, layout: Layout, column: int, t_boot_ns: int, raw: Value, code: int, source_ns: int | None
    ) -> None:
        self.layout = layout
        self.column = column
        self.t_boot_ns = t_boot_ns
        self.raw = raw
        self.status = code
        self.source_ns = source_ns
        told = scalings(layout)[column](raw)
        self.value: Number = told if usable(told, code) else None


def readings(told: Told) -> Iterator[Reading]:
    """Give every reading of a block: frames first, then changes, each in order."""
    for index, frames in told.payload.frames:
        layout = told.layouts[index]
        for frame in frames:
            codes = frame.statuses or (status.GOOD,) * len(frame.values)
            for at, raw in enumerate(frame.values):
                yield Reading(layout, at, frame.t_boot_ns, raw, codes[at], None)
    for index, changes in told.payload.changes:
        for change in changes:
            yield Reading(
                told.layouts[index], change.point, change.t_boot_ns, change.value, change.status, change.source_ns
            )


class CsvRows:
    """Writes one line a reading, with a heading."""

    def __init__(self, out: TextIO, zone: tzinfo, *, raw: bool) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._zone = zone
        self._raw = raw
        self._writer.writerow((*COLUMNS, "raw") if raw else COLUMNS)

    def write(self, told: Told, reading: Reading) -> None:
        """Write a reading."""
        column = reading.layout.columns[reading.column]
        row = (
            *_when(told.place(reading.t_boot_ns), self._zone),
            told.header.stream,
            told.header.seq,
            reading.layout.device,
            column.name,
            _cell(reading.value),
            column.unit,
            status.name(reading.status),
            iso(reading.source_ns, self._zone),
        )
        self._writer.writerow((*row, _cell(_plain(reading.raw))) if self._raw else row)


class JsonRows:
    """Writes one JSON object a reading."""

    def __init__(self, out: TextIO, zone: tzinfo, *, raw: bool) -> None:
        self._out = out
        self._zone = zone
        self._raw = raw

    def write(self, told: Told, reading: Reading) -> None:
        """Write a reading."""
        column = reading.layout.columns[reading.column]
        time, error, not_before, not_after = _when(told.place(reading.t_boot_ns), self._zone)
        record: dict[str, Any] = {
            "time": time or None,
            "error_s": Decimal(error) if error else None,
            "stream": told.header.stream,
            "seq": told.header.seq,
            "device": reading.layout.device,
            "point": column.name,
            "value": reading.value,
            "unit": column.unit,
            "status": status.name(reading.status),
        }
        if not time:
            record |= {"not_before": not_before or None, "not_after": not_after or None}
        if reading.source_ns is not None:
            record["source_time"] = iso(reading.source_ns, self._zone)
        if self._raw:
            record["raw"] = _plain(reading.raw)
        self._out.write(dumps(record) + "\n")


def _plain(raw: Value) -> Number:
    """Give a raw value as it can be written: floats by their shortest decimal of 64 bits, bytes in hexadecimal."""
    if isinstance(raw, float):
        return Decimal(repr(raw)) if Decimal(raw).is_finite() else repr(raw)
    return raw.hex() if isinstance(raw, bytes) else raw


def _cell(value: Number) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Decimal):
        return number_text(value)
    return value if isinstance(value, str) else json.dumps(value)
