"""What a simulated instrument remembers of every answer it gave, so that loss is computed from what was really read."""

from typing import NamedTuple


class Served(NamedTuple):
    """One answer: its running number, and CLOCK_BOOTTIME in nanoseconds when it was sent."""

    serial: int
    t_boot_ns: int
