"""The station's clocks: what time is, and how far it may be believed.

What is always true here:

- Boot time (CLOCK_BOOTTIME) orders everything; it also runs while the machine sleeps. It is kept to the microsecond:
  nothing on a field bus is known better.
- Wall time is evidence with a quality. It keys, orders and expires nothing.
- A header never shows a wall clock that the timekeeper has not judged: one that jumped since its last look is passed
  over, and the clock before the jump, carried on by boot time, stands in its place as `holdover` or worse. So a block
  that is sealed between a step and its event belongs to the time before the step.
- What is said of the clock's error grows while nobody looks: by 500 ppm where a daemon keeps it, by 100 ppm else.
- The boot id is systemd's (`%b`, which the unit hands over as TRAMBIEN_BOOT_ID), else the kernel's, which is hidden
  under ProcSubset=pid; where both are missing a random one that is true for this process only: order within it is
  kept, and a reader sees several boots where there was one.

Which ways to the clock's quality work in which sandbox stands in `agent.clock_sources`.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent import clock_sources
from buffer.block import ClockQuality
from buffer.seal import Moment

BOOT_ID_VARIABLE = "TRAMBIEN_BOOT_ID"
STEP_NS = 10_000_000
"""Wall and boot time are slewed together, so their difference changes by steps alone: a larger change is one."""

KERNEL_PPM = 500
HOLDOVER_PPM = 100

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_ID_BYTES = 16
_NS_PER_US = 1000
_MILLION = 10**6
_TRIES = 3
_SHARP_NS = 100_000


class Look(NamedTuple):
    """All clocks at one instant. `blur_ns` is how far apart they may have been read."""

    boot_ns: int
    monotonic_ns: int
    wall_ns: int
    blur_ns: int = 0

    @property
    def offset_ns(self) -> int:
        """Wall time less boot time."""
        return self.wall_ns - self.boot_ns


class Belief(NamedTuple):
    """What the timekeeper made of its last look: the offset that headers may use, and the quality at that moment."""

    boot_ns: int
    offset_ns: int
    clock: ClockQuality

    def shown(self, look: Look) -> tuple[int, ClockQuality]:
        """Give wall time and quality for a header that is sealed at this look."""
        age_ns = max(0, look.boot_ns - self.boot_ns)
        if stepped(self.offset_ns, look):
            quality = "holdover" if self.clock.quality == "synchronised" else self.clock.quality
            return look.boot_ns + self.offset_ns, grown(self.clock, quality, age_ns)
        return look.wall_ns, grown(self.clock, self.clock.quality, age_ns)


class SystemClock:
    """The clocks of this machine."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.boot_id = boot_id(os.environ if environment is None else environment)
        look = self.look()
        self.belief = Belief(look.boot_ns, look.offset_ns, clock_sources.quick(look.wall_ns).clock)
        """Replaced as a whole by the timekeeper, read by whoever seals."""

    def boot_ns(self) -> int:
        """Give CLOCK_BOOTTIME in nanoseconds, floored to the microsecond."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_US * _NS_PER_US

    def look(self) -> Look:
        """Read all clocks as close together as may be."""
        looks = []
        for _ in range(_TRIES):
            before_ns = self.boot_ns()
            wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
            looks.append(Look(before_ns, monotonic_ns, wall_ns, self.boot_ns() - before_ns))
            if looks[-1].blur_ns <= _SHARP_NS:
                break
        return min(looks, key=lambda look: look.blur_ns)

    def moment(self) -> Moment:
        """Take all clocks at once, for the header of a block."""
        look = self.look()
        wall_ns, clock = self.belief.shown(look)
        return Moment(self.boot_id, look.boot_ns, wall_ns, clock)


def stepped(offset_ns: int, look: Look) -> bool:
    """Say whether the wall clock was set since it had this offset."""
    return abs(look.offset_ns - offset_ns) > STEP_NS + look.blur_ns


def grown(clock: ClockQuality, quality: str, age_ns: int) -> ClockQuality:
    """Give what is left of a quality after so long without a look."""
    if clock.max_error_ns is None:
        return ClockQuality(quality, None, clock.source)
    ppm = KERNEL_PPM if quality == "synchronised" else HOLDOVER_PPM
    return ClockQuality(quality, clock.max_error_ns - (-age_ns * ppm // _MILLION), clock.source)


def boot_id(environment: Mapping[str, str], path: Path = _BOOT_ID) -> bytes:
    """Give the id of this boot, 16 bytes: as the unit hands it over, as the kernel tells it, or a random one."""
    handed = _uuid(environment.get(BOOT_ID_VARIABLE, ""))
    if handed is None:
        with suppress(OSError, ValueError):
            handed = _uuid(path.read_text())
    return os.urandom(_BOOT_ID_BYTES) if handed is None else handed


def _uuid(text: str) -> bytes | None:
    with suppress(ValueError):
        found = bytes.fromhex(text.strip().replace("-", ""))
        return found if len(found) == _BOOT_ID_BYTES else None
    return None
