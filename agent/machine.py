"""What the machine says of itself: load, memory, temperature, disk; what is given back, and what is not to be kept.

What is always true here:

- Everything is asked in ways that work in the unit's sandbox: sysinfo(2), getrusage(2) and statvfs(3), which need no
  /proc, and the thermal zone in sysfs where the board has one. What cannot be had is None, never an error.
- A process that holds a key or a secret leaves no core.
"""

import contextlib
import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
"""Millidegrees Celsius (Linux, Documentation/driver-api/thermal/sysfs-api.rst)."""
_LOAD_UNIT = 65536
_KIB = 1024
_NO_CORE = 1
"""A core of one byte: too small for a file, and the kernel's own mark for none through a pipe, where 0 still dumps."""


class _Sysinfo(ctypes.Structure):
    """The members of struct sysinfo, sysinfo(2)."""

    _fields_ = (
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        ("totalram", ctypes.c_ulong),
        ("freeram", ctypes.c_ulong),
        ("sharedram", ctypes.c_ulong),
        ("bufferram", ctypes.c_ulong),
        ("totalswap", ctypes.c_ulong),
        ("freeswap", ctypes.c_ulong),
        ("procs", ctypes.c_ushort),
        ("pad", ctypes.c_ushort),
        ("totalhigh", ctypes.c_ulong),
        ("freehigh", ctypes.c_ulong),
        ("mem_unit", ctypes.c_uint),
        ("rest", ctypes.c_byte * 64),
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """A look at the machine. Sizes in bytes, `cpu_s` is what this process has used, `load` the mean of a minute."""

    load: float | None
    cpu_s: float
    memory_total: int | None
    memory_free: int | None
    memory_most: int
    """The most that this process ever had in memory."""
    temperature: float | None
    """Degrees Celsius."""
    disk_total: int | None
    disk_free: int | None
    """Of the file system that the buffer is on, for an ordinary user."""


def look(disk: Path, thermal: Path = THERMAL) -> Machine:
    """Look at the machine, and at the file system that holds `disk`."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    info = _Sysinfo()
    known = ctypes.CDLL(None).sysinfo(ctypes.byref(info)) == 0
    total, free = _disk(disk)
    return Machine(
        load=info.loads[0] / _LOAD_UNIT if known else None,
        cpu_s=used.ru_utime + used.ru_stime,
        memory_total=info.totalram * info.mem_unit if known else None,
        memory_free=(info.freeram + info.bufferram) * info.mem_unit if known else None,
        memory_most=used.ru_maxrss * _KIB,
        temperature=_temperature(thermal),
        disk_total=total,
        disk_free=free,
    )


def give_back() -> None:
    """Hand memory that was freed back to the kernel, where the C library can (malloc_trim(3), glibc)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def forbid_core_dumps() -> None:
    """Let no crash of this process write its memory anywhere (core(5))."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = _NO_CORE if hard == resource.RLIM_INFINITY else min(hard, _NO_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        found = os.statvfs(path)
    except OSError:
        return None, None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _temperature(path: Path) -> float | None:
    try:
        return int(path.read_text()) / 1000
    except (OSError, ValueError):
        return None
