"""What a session is asked to watch, and what it says of it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """A monitored item to be made."""

    node: str
    queue: int
    deadband: float | None


class Told(NamedTuple):
    """What the server said of one item: its number, value, StatusCode and source time in ns since 1970, or None."""

    item: int
    value: object
    status: int
    source_ns: int | None


Notify = Callable[[Sequence[Told]], Awaitable[None]]
