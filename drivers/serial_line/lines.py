"""Bytes into lines, lines into values: the pure half of the driver.

What is always true here:

- A byte is a character (ISO 8859-1), so that nothing an instrument sends is lost or refused, status bytes included.
- A line is what stands between two terminators; a carriage return before a line feed belongs to the terminator.
  A line that began before we listened, or grew beyond its limit, is dropped whole and counted: half a number is never
  taken for a number.
- A line is understood only if the pattern matches all of it.
- A number is kept as the number its text says, in the kind the point declares. What cannot be that number has no value
  and is Bad. Spaces in front of, behind and after the sign of a number mean nothing. Out of range keeps the number.

The driver enters. Nothing here waits or touches a port.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from buffer import status
from buffer.frame import Value
from drivers.serial_line.settings import LineKind

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_BY_NAME = {name: code for code, name in status.NAMES.items()}


class Splitter:
    """Cuts a stream of bytes into lines. Starts inside a line when told so."""

    def __init__(self, terminator: bytes, limit: int, *, mid_line: bool) -> None:
        self._terminator = terminator
        self._limit = limit
        self._skipping = mid_line
        self._rest = bytearray()
        self.overlong = 0

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not complete."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come, give the lines they complete."""
        self._rest += data
        *complete, rest = bytes(self._rest).split(self._terminator)
        self._rest = bytearray(rest)
        lines = [line for raw in complete if (line := self._end(raw)) is not None]
        if len(self._rest) > self._limit + len(self._terminator):
            self.overlong += not self._skipping
            self._skipping = True
            del self._rest[: -len(self._terminator)]
        return lines

    def _end(self, raw: bytes) -> bytes | None:
        skipped, self._skipping = self._skipping, False
        if skipped:
            return None
        line = raw.removesuffix(b"\r") if self._terminator == b"\n" else raw
        if len(line) > self._limit:
            self.overlong += 1
            return None
        return line


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one point's value stands in a line, what it is, and between which engineering values it is plausible."""

    group: str
    kind: LineKind
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    limits: tuple[Fraction, Fraction] | None = None

    def plausible(self, number: float) -> bool:
        """Say whether a number lies in the point's range, reckoned exactly."""
        if self.limits is None:
            return True
        low, high = self.limits
        return low <= Fraction(number) * self.scale + self.offset <= high


@dataclass(frozen=True, slots=True)
class Grammar:
    """How to understand an instrument's lines."""

    pattern: re.Pattern[str]
    status_group: str | None
    statuses: Mapping[str, int]

    def match(self, line: bytes) -> re.Match[str] | None:
        """Match a whole line, or say that it is none of this instrument's."""
        return self.pattern.fullmatch(line.decode("latin-1"))

    def quality(self, match: re.Match[str]) -> int:
        """Give the StatusCode that the line claims for its values; a claim that is not listed is Bad."""
        if self.status_group is None:
            return status.GOOD
        return self.statuses.get((match[self.status_group] or "").strip(), status.BAD)


def read(slots: tuple[Slot, ...], match: re.Match[str], quality: int) -> tuple[tuple[Value, ...], tuple[int, ...]]:
    """Take the values of a matched line, and the status of each."""
    pairs = [_value(slot, match[slot.group], quality) for slot in slots]
    return tuple(value for value, _ in pairs), tuple(code for _, code in pairs)


def _value(slot: Slot, text: str | None, quality: int) -> tuple[Value, int]:
    if text is None:
        return None, quality if status.is_bad(quality) else status.BAD_NO_DATA
    if slot.kind == "text":
        return text, quality
    number = _number(slot.kind, text.replace(" ", ""))
    if number is None:
        return None, quality if status.is_bad(quality) else status.BAD_DECODING_ERROR
    if not (status.is_bad(quality) or slot.plausible(number)):
        return number, status.BAD_OUT_OF_RANGE
    return number, quality


def _number(kind: LineKind, text: str) -> int | float | None:
    if kind == "float64":
        number = float(text) if _DECIMAL.fullmatch(text) else math.inf
        return number if math.isfinite(number) else None
    if _INTEGER.fullmatch(text) is None:
        return None
    low, high = bounds(kind)
    whole = int(text)
    return whole if low <= whole <= high else None


def bounds(kind: LineKind) -> tuple[int, int]:
    """Give the least and greatest integer of a kind such as `int16`."""
    bits = int(kind.lstrip("uint"))
    return (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def status_code(name: str) -> int | None:
    """Find a StatusCode by its standard name."""
    return _BY_NAME.get(name)


def status_names() -> list[str]:
    """List the names `status.codes` may use."""
    return sorted(_BY_NAME)
