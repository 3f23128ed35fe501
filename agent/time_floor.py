"""The floor of time: the latest wall time that was surely past, kept so that no later start believes less.

What is always true here:

- The floor never runs backwards, neither in memory nor in its file.
- It rises to the earliest time that a synchronised clock leaves possible (wall time less its largest error), once the
  clock was synchronised, and not set, for an hour of boot time.
- A time server that lies raises it by little: besides the boot time that passed, by at most 400 days at once, and that
  at most once a day of running time. Where there is no floor it begins at `EARLIEST_NS`. A floor that lags does no
  harm: it says `not before`. One that a lie raised is mended by deleting the file.
- The file is written as temporary, fsync, rename, fsync of the directory, at most once an hour and at the stop. A file
  that is missing or damaged is no floor, and one that cannot be written is tried again: neither stops the station.

Whoever must not take an old time for the present one asks `now_not_before`: the expiry of pushes, certificates.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock

from agent.clock import HOLDOVER_PPM, KERNEL_PPM, Belief, Look
from agent.log import Log

NS_PER_S = 10**9
HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS
LEAP_NS = 400 * DAY_NS
WORTH_A_LEAP_NS = 60 * NS_PER_S
EARLIEST_NS = 1_767_225_600 * NS_PER_S
"""2026-01-01T00:00Z: no station was made before."""

_MILLION = 10**6
_CHECK_CHARACTERS = 16
_LATEST_NS = (1 << 63) - 1

_log = Log("time")


class TimeFloor:
    """The floor beside one buffer. `boot_ns` is now."""

    def __init__(self, path: Path, boot_ns: int) -> None:
        self._path = path
        self._floor_ns = read(path)
        self._kept_ns = self._floor_ns
        self._at_ns = boot_ns
        """The boot time at which the floor was surely past."""
        self._held_since_ns: int | None = None
        self._leapt_ns: int | None = None
        self._written_ns: int | None = None
        self._keeping = Lock()
        """The last writing, at the stop, may meet one that is still under way in its thread."""

    def now_not_before(self, boot_ns: int) -> int | None:
        """Give a wall time that is surely past now; None where nothing was ever believed."""
        return None if self._floor_ns is None else self._floor_ns + self._passed(boot_ns)

    def note(self, belief: Belief, look: Look) -> None:
        """Take what the timekeeper believes now."""
        clock = belief.clock
        if clock.quality != "synchronised" or clock.max_error_ns is None:
            self._held_since_ns = None
            return
        if self._held_since_ns is None:
            self._held_since_ns = look.boot_ns
        if look.boot_ns - self._held_since_ns >= HOUR_NS:
            self._rise(look.boot_ns + belief.offset_ns - clock.max_error_ns, look.boot_ns)

    def due(self, boot_ns: int) -> bool:
        """Say whether the file should be written: it is not up to date, and an hour old."""
        if self._floor_ns == self._kept_ns or (self._written_ns is not None and boot_ns - self._written_ns < HOUR_NS):
            return False
        self._written_ns = boot_ns
        return True

    def keep(self) -> None:
        """Write the file, durably, if it is not up to date."""
        with self._keeping:
            floor_ns = self._floor_ns
            if floor_ns is None or floor_ns == self._kept_ns:
                return
            try:
                write(self._path, floor_ns)
            except OSError as error:
                _log.warning("floor-not-kept", path=self._path, error=error)
            else:
                self._kept_ns = floor_ns

    def _rise(self, certain_ns: int, boot_ns: int) -> None:
        base_ns = EARLIEST_NS if self._floor_ns is None else self._floor_ns
        if certain_ns <= base_ns + self._passed(boot_ns):
            return
        elapsed_ns = boot_ns - self._at_ns
        reach_ns = base_ns + elapsed_ns + elapsed_ns * KERNEL_PPM // _MILLION
        may_leap = self._leapt_ns is None or boot_ns - self._leapt_ns >= DAY_NS
        if may_leap and certain_ns - reach_ns > WORTH_A_LEAP_NS:
            self._leapt_ns, reach_ns = boot_ns, reach_ns + LEAP_NS
        self._floor_ns, self._at_ns = min(certain_ns, reach_ns), boot_ns

    def _passed(self, boot_ns: int) -> int:
        """Give the least true time since the floor was surely past."""
        elapsed_ns = boot_ns - self._at_ns
        return elapsed_ns - elapsed_ns * HOLDOVER_PPM // _MILLION


def read(path: Path) -> int | None:
    """Read the floor; None where there is none, or a damaged one."""
    with suppress(OSError, ValueError):
        number, check = path.read_text(encoding="ascii").split()
        floor_ns = int(number)
        if check == _check(number) and EARLIEST_NS <= floor_ns <= _LATEST_NS:
            return floor_ns
    return None


def write(path: Path, floor_ns: int) -> None:
    """Write the floor; after a power cut there is the old file or the new one. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{floor_ns} {_check(str(floor_ns))}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check(number: str) -> str:
    return sha256(f"trambien-time-floor {number}".encode()).hexdigest()[:_CHECK_CHARACTERS]
