"""What a wire and each of its units have done: counted as it happens, shown when asked. Pure, and bounded in memory.

Kinds of errors of a unit: `timeout` silence, `half` an answer that began, `crc` a damaged one, `bad-answer` one that
is none, `exception-2` and so on by code. The whole link has these, and what its framer skipped: frames that were
`foreign`, `late` or an `echo`, and bytes of `noise`.

On a serial line `carried_s` is the time that all bytes, asked and answered, took at the line's pace, with a gap for
each frame. `held_s` is the time from each question to its answer or to giving it up: nobody else can use the line then.
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from drivers.api import Figures, Tally
from drivers.modbus.pace import Pace

_KEPT = 256
"""Round trips kept of each unit, for the percentiles."""


class Count:
    """What one unit, or the whole link, has done so far."""

    __slots__ = ("answers", "bytes_in", "bytes_out", "errors", "questions", "trips_s")

    def __init__(self) -> None:
        self.questions = self.answers = self.bytes_out = self.bytes_in = 0
        self.errors: Counter[str] = Counter()
        self.trips_s = array("d")

    def asked(self, characters: int) -> None:
        """Count a question."""
        self.questions += 1
        self.bytes_out += characters

    def answered(self, took_s: float) -> None:
        """Count an answer."""
        trips, at = self.trips_s, self.answers % _KEPT
        if at < len(trips):
            trips[at] = took_s
        else:
            trips.append(took_s)
        self.answers += 1

    def shown(self, skipped: Mapping[str, int] | None = None) -> Tally:
        """Give what was counted."""
        errors = self.errors + Counter({kind: count for kind, count in (skipped or {}).items() if kind not in _OWN})
        trips = sorted(self.trips_s)
        return Tally(
            self.questions,
            self.answers,
            self.bytes_out,
            self.bytes_in,
            tuple(sorted(errors.items())),
            tuple(trips[len(trips) * share // 100] for share in (50, 95, 99)) if trips else None,
        )


_OWN = ("crc", "half")
"""Kinds that a framer counts too, but more finely than once a question."""


class Counts:
    """All that is counted of one wire."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.link = Count()
        self.units: dict[int, Count] = {}
        self.skipped: Counter[str] = Counter()
        self.open_s = self.held_s = 0.0

    def of(self, unit: int) -> Count:
        """Give the count of a unit."""
        if (count := self.units.get(unit)) is None:
            count = self.units[unit] = Count()
        return count

    def shown(self, devices: Mapping[str, int], open_s: float, bytes_in: int) -> Figures:
        """Give the figures of the link and of devices, by their units. `open_s` and `bytes_in` are of this opening."""
        link = self.link.shown(self.skipped)
        link = replace(link, bytes_in=link.bytes_in + bytes_in)
        frames = link.questions + link.answers
        carried_s = self._pace.line_s(link.bytes_out + link.bytes_in) + frames * self._pace.gap_s
        return Figures(
            link,
            tuple((name, self.of(unit).shown()) for name, unit in devices.items()),
            self.open_s + open_s,
            self.held_s,
            carried_s if self._pace.char_s else None,
        )
