"""How good the wall clock is: every way to ask, and which of them a sandbox leaves open.

What is always true here:

- The ways are asked in this order, and the first that says `synchronised` is believed:
  1. The kernel, adjtimex(2) with `modes = 0`. Refused (EPERM) under ProtectClock and in a SystemCallFilter without it:
     so is clock_adjtime(2), and no file in /proc or /sys tells the same.
  2. systemd-timesyncd's `/run/systemd/timesync/synchronized`, touched at every answer it takes. Readable under
     ProtectClock, ProcSubset=pid and ProtectSystem=strict; not under a TemporaryFileSystem=/run.
  3. `chronyc -c -n tracking`, which asks chronyd over UDP at 127.0.0.1:323. Not under PrivateNetwork.
  4. A client's question to the NTP server of this machine (RFC 5905), which ntpd and NTPsec answer at 127.0.0.1:123,
     and chronyd where `allow` names it. One that serves its own unsynchronised clock (127.127.x.x) is not believed.
  Tried with Debian 12's systemd 252 as PID 1, as an unprivileged user with ProtectClock=yes, ProcSubset=pid and both: 1
  is refused, 2 is read, and `%b` in Environment= gives the boot id. D-Bus (timedate1, timesync1) is not used: it asks
  the first two, through a daemon that a small gateway need not have.
- The largest error that is claimed is a bound, not an estimate:
  kernel: `maxerror`, as set by the daemon and grown by 500 ppm since, plus what is still to be slewed (`offset`).
  timesyncd: it tells the kernel an error of 0, so the distance of the farthest server that it accepts is added (5 s,
  RootDistanceMaxSec of timesyncd.conf(5)); where the kernel is silent, the largest slew and 100 ppm of the file's age.
  chrony, NTP: half the root delay plus the root dispersion, plus what is still to be slewed.
- A clock that is being slewed fast (more than 1,000 ppm: its tick is not nominal) is not synchronised yet.
- Nothing here raises: a way that does not work says nothing.

The first two are quick; the others may block for seconds and belong into a thread. The timekeeper enters.
"""

import ctypes
import os
import secrets
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from buffer.block import ClockQuality

TIMESYNCD = Path("/run/systemd/timesync/synchronized")
CHRONYC = ("chronyc", "-c", "-n", "tracking")
NTP_SERVERS = (("127.0.0.1", 123), ("::1", 123))
TIMEOUT_S = 2.0
NS_PER_S = 10**9

TIMESYNCD_POLL_NS = 2048 * NS_PER_S
"""PollIntervalMaxSec of timesyncd.conf(5)."""
TIMESYNCD_DISTANCE_NS = 5 * NS_PER_S
TIMESYNCD_SLEW_NS = 400_000_000
"""What timesyncd corrects by slewing; beyond it steps (NTP_MAX_ADJUST)."""
MISSED_POLLS = 3
DRIFT_PPM = 100

UNKNOWN = ClockQuality("unknown", None, "none")

_NS_PER_US = 1000
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000
_TIME_ERROR = 5
_NOMINAL_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_TICK_SLACK = _NOMINAL_TICK_US // 1000
_TIMEX_BYTES = 208
"""struct timex of 64-bit Linux; longer than the one of any 32-bit one."""

_NTP = struct.Struct("!BBbbIIIQQQQ")
_NTP_CLIENT = 4 << 3 | 3
"""Version 4, mode 3."""
_NTP_SERVER = 4
_NTP_ALARM = 3
_NTP_EPOCH_S = 2_208_988_800
_NTP_DEEPEST = 15
_LOCAL_CLOCK = 0x7F7F
"""The first half of the reference id of a clock that is its own reference."""
_CHRONY_FIELDS = 14


class Evidence(NamedTuple):
    """What one way says, and since when: the wall time at which the daemon last took an answer, or None."""

    clock: ClockQuality
    taken_wall_ns: int | None = None


class _Timex(ctypes.Structure):
    """The leading members of struct timex, adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_part", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_byte * _TIMEX_BYTES),
    )


def quick(wall_ns: int, marker: Path = TIMESYNCD) -> Evidence:
    """Ask the kernel and timesyncd's file."""
    return joined(kernel(), timesyncd(wall_ns, marker))


def thorough(servers: tuple[tuple[str, int], ...] = NTP_SERVERS, command: tuple[str, ...] = CHRONYC) -> Evidence | None:
    """Ask the daemons that must be spoken to; None where none answers. Blocks for seconds at worst."""
    answers = [answer for answer in (chrony(command), *map(ntp, servers)) if answer is not None]
    sound = (answer for answer in answers if answer.clock.quality == "synchronised")
    return next(sound, answers[0] if answers else None)


def kernel() -> ClockQuality:
    """Ask the kernel; `unknown` where it refuses."""
    timex = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    return UNKNOWN if (state := libc.adjtimex(ctypes.byref(timex))) < 0 else judged(state, timex)


def judged(state: int, timex: _Timex) -> ClockQuality:
    """Say what the kernel's answer is worth."""
    slewed_fast = abs(timex.tick - _NOMINAL_TICK_US) > _TICK_SLACK
    if state == _TIME_ERROR or timex.status & _STA_UNSYNC or slewed_fast:
        return ClockQuality("unsynchronised", None, "kernel")
    slewing_ns = abs(timex.offset) * (1 if timex.status & _STA_NANO else _NS_PER_US)
    return ClockQuality("synchronised", timex.maxerror * _NS_PER_US + slewing_ns, "kernel")


def timesyncd(wall_ns: int, marker: Path = TIMESYNCD) -> Evidence | None:
    """Read when timesyncd last took an answer; None where it never did, or too long ago to still be at work."""
    try:
        taken_ns = marker.stat().st_mtime_ns
    except OSError:
        return None
    age_ns = wall_ns - taken_ns
    if not 0 <= age_ns <= MISSED_POLLS * TIMESYNCD_POLL_NS:
        return None
    error_ns = TIMESYNCD_DISTANCE_NS + TIMESYNCD_SLEW_NS + age_ns * DRIFT_PPM // 10**6
    return Evidence(ClockQuality("synchronised", error_ns, "timesyncd"), taken_ns)


def joined(told: ClockQuality, timesync: Evidence | None) -> Evidence:
    """Make one of what the kernel and timesyncd say."""
    if timesync is None:
        return Evidence(told)
    if told.quality == "synchronised" and told.max_error_ns is not None:
        return Evidence(ClockQuality("synchronised", told.max_error_ns + TIMESYNCD_DISTANCE_NS, "timesyncd"))
    return Evidence(told) if told.quality == "unsynchronised" else timesync


def chrony(command: tuple[str, ...] = CHRONYC) -> Evidence | None:
    """Ask chronyd through its own tool (chronyc(1), `tracking`)."""
    with suppress(OSError, subprocess.SubprocessError):
        # No input but a constant command line.
        asked = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)  # noqa: S603
        return chrony_told(asked.stdout)
    return None


def chrony_told(line: str) -> Evidence | None:
    """Read the line of `tracking`: 0 ref id, 3 ref time, 4 slew, 10 root delay, 11 root dispersion, 13 leap."""
    told = line.strip().split(",")
    try:
        reference, leap = int(told[0], 16), told[_CHRONY_FIELDS - 1]
        taken_s, slewing_s, delay_s, dispersion_s = map(float, (told[3], told[4], told[10], told[11]))
    except (ValueError, IndexError):
        return None
    if leap == "Not synchronised" or reference >> 16 == _LOCAL_CLOCK:
        return Evidence(ClockQuality("unsynchronised", None, "chrony"))
    error_ns = round((abs(slewing_s) + delay_s / 2 + dispersion_s) * NS_PER_S)
    return Evidence(ClockQuality("synchronised", error_ns, "chrony"), round(taken_s * NS_PER_S))


def ntp(server: tuple[str, int]) -> Evidence | None:
    """Ask the NTP server of this machine what it knows of its own clock (RFC 5905, section 7.3)."""
    cookie = secrets.randbits(64)
    question = _NTP.pack(_NTP_CLIENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, cookie)
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(TIMEOUT_S)
        asking.connect(server)
        asking.send(question)
        return ntp_told(asking.recv(1024), cookie)
    return None


def ntp_told(answer: bytes, cookie: int) -> Evidence | None:
    """Read a server's answer; None where it is none to our question."""
    if len(answer) < _NTP.size:
        return None
    first, stratum, _, _, delay, dispersion, reference, taken, origin, _, _ = _NTP.unpack_from(answer)
    if first & 7 != _NTP_SERVER or origin != cookie:
        return None
    local = reference >> 16 == _LOCAL_CLOCK or reference == int.from_bytes(b"LOCL", "big")
    if first >> 6 == _NTP_ALARM or not 0 < stratum <= _NTP_DEEPEST or local:
        return Evidence(ClockQuality("unsynchronised", None, "ntp"))
    error_ns = (delay // 2 + dispersion + 1) * NS_PER_S >> 16
    era = 0 if taken >> 63 else 1 << 64  # RFC 4330, section 3: the first era ends in 2036
    return Evidence(
        ClockQuality("synchronised", error_ns, "ntp"), ((taken + era) * NS_PER_S >> 32) - _NTP_EPOCH_S * NS_PER_S
    )
