"""The station's clocks: what time is, and how far it may be believed.

What is always true here:

- Boot time (CLOCK_BOOTTIME) orders everything; it also runs while the machine sleeps. It is kept to the microsecond:
  nothing on a field bus is known better.
- Wall time is evidence with a quality. It keys, orders and expires nothing.
- The quality comes from adjtimex(2), which a sandbox may refuse (EPERM under ProtectClock): then it is `unknown`.
"""

import ctypes
import os
import time
from pathlib import Path

from buffer.block import ClockQuality
from buffer.seal import Moment

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NS_PER_US = 1000
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_TIMEX_BYTES = 208
"""struct timex of 64-bit Linux; longer than the one of any 32-bit one."""


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.boot_id = _read_boot_id()

    def boot_ns(self) -> int:
        """Give CLOCK_BOOTTIME in nanoseconds, floored to the microsecond."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_US * _NS_PER_US

    def wall_ns(self) -> int:
        """Give the wall clock, nanoseconds since 1970-01-01T00:00Z, whatever it is worth."""
        return time.time_ns()

    def moment(self) -> Moment:
        """Take all clocks at once, for the header of a block."""
        return Moment(self.boot_id, self.boot_ns(), self.wall_ns(), clock_quality())


def _read_boot_id() -> bytes:
    """Give the kernel's boot id, 16 bytes; where it is hidden, a random one that is true for this process only."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return os.urandom(16)


class _Timex(ctypes.Structure):
    """The leading members of struct timex, adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * _TIMEX_BYTES),
    )


def clock_quality() -> ClockQuality:
    """Ask the kernel whether the wall clock is synchronised and how far off it may be."""
    timex = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if (state := libc.adjtimex(ctypes.byref(timex))) < 0:
        return ClockQuality("unknown", None, "none")
    if state == _TIME_ERROR or timex.status & _STA_UNSYNC:
        return ClockQuality("unsynchronised", None, "kernel")
    return ClockQuality("synchronised", timex.maxerror * _NS_PER_US, "kernel")
