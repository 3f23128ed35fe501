"""What a raw value is worth: sentinels, NaN and implausible values. Pure.

What is always true here:

- Bounds are in the raw domain (see `drivers.plausible`), so that judging is one comparison.
- Out of range keeps its raw value, with BadOutOfRange. A sentinel or NaN leaves no value, with BadNoData. What could
  not be read as its type (BCD, text) has no value and BadDecodingError; a failed request's own status goes before it.
- A group without ranges, sentinels and floats is judged by nothing at all; floats alone cost one `sum` per frame:
  it is NaN if any of them is, and only then is each looked at.
"""

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from buffer import status
from buffer.frame import Value
from drivers.modbus.decode import CODES
from drivers.modbus.points import ModbusPoint, Type
from drivers.plausible import raw_range

Judged = tuple[tuple[Value, ...], tuple[int, ...] | None]
"""Values and their statuses; None where all are good."""


class Bounds(NamedTuple):
    """What a raw value of one column may be: within `low..high`, and none of `sentinels`."""

    column: int
    low: int | float
    high: int | float
    sentinels: frozenset[int | float]


def bounds(column: int, point: ModbusPoint) -> Bounds | None:
    """Give the raw bounds of a point, or None where it has none."""
    if point.range is None and not point.nan:
        return None
    low, high = raw_range(point, whole=not point.kind.startswith("float"))
    return Bounds(column, low, high, frozenset(sentinel(point.kind, text) for text in point.nan))


def sentinel(kind: Type, text: str) -> int | float:
    """Give the raw value a sentinel stands for; 0x8000 of an int16 is the pattern, thus -32768."""
    code = ">" + CODES[kind]
    if kind.startswith("bcd"):
        return int(Decimal(text))
    if kind.startswith("float"):
        return float(struct.unpack(code, struct.pack(code, float(text)))[0])
    number = int(Decimal(text))
    packed = struct.pack(code if number < 0 else code.upper(), number)
    return int(struct.unpack(code, packed)[0])


Judge = Callable[[tuple[Value, ...]], Judged]
"""Weighs the decoded values of a whole frame; values may be None where a request brought none."""


def judge(kinds: Sequence[Type], limits: Sequence[Bounds]) -> Judge | None:
    """Prepare the judging of a group's frames; None where there is nothing to judge."""
    floats = tuple(column for column, kind in enumerate(kinds) if kind.startswith("float"))
    decoded = tuple(column for column, kind in enumerate(kinds) if kind in ("string", "bcd16", "bcd32"))
    if not floats and not limits and not decoded:
        return None
    return _Judge(floats, tuple(limits), decoded).weigh


class _Judge(NamedTuple):
    floats: tuple[int, ...]
    limits: tuple[Bounds, ...]
    decoded: tuple[int, ...]

    def weigh(self, values: tuple[Value, ...]) -> Judged:
        faults = self._faults(values)
        if not faults:
            return values, None
        kept = tuple(None if faults.get(i) == status.BAD_NO_DATA else value for i, value in enumerate(values))
        return kept, tuple(faults.get(i, status.GOOD) for i in range(len(values)))

    def _faults(self, values: tuple[Value, ...]) -> dict[int, int]:
        faults: dict[int, int] = {}
        for column, low, high, sentinels in self.limits:
            value = values[column]
            if value is not None and not low <= value <= high:  # type: ignore[operator]  # columns with bounds are numbers
                faults[column] = status.BAD_OUT_OF_RANGE
            if sentinels and value in sentinels:
                faults[column] = status.BAD_NO_DATA
        for column in self.decoded:
            if values[column] is None:
                faults[column] = status.BAD_DECODING_ERROR
        if self.floats and _any_nan(values):
            faults.update((i, status.BAD_NO_DATA) for i in self.floats if values[i] != values[i])
        return faults


def _any_nan(values: tuple[Value, ...]) -> bool:
    """Say whether some value may be NaN (infinities of both signs raise a false alarm, which costs a look)."""
    try:
        return math.isnan(sum(values))  # type: ignore[arg-type]  # None raises TypeError, which is the answer
    except TypeError:
        return True
