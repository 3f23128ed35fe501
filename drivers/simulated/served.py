"""What an instrument counted: every answer that it really gave."""

from typing import NamedTuple


class Served(NamedTuple):
    """One answer: its number, which stands in the answer itself, and when it was given."""

    serial: int
    t_boot_ns: int
