"""Frames, changes, events, and the layouts that say what their positions mean.

The unit of the whole system is the *frame*: one poll of one group of points. Per frame, a timestamp, a queue hop, a
commit and a signature cost nothing; per reading they would be the program.

What is always true here:

- Values are the raw wire values: integers as read, floats as sent. Scale, offset, unit, address and order stand in
  the layout as exact text, so that an auditor can recompute every figure.
- Time is CLOCK_BOOTTIME in nanoseconds. UTC is derived by whoever reads, never stored per frame.
- A status is an OPC UA StatusCode (`buffer.status`). A frame without statuses is good throughout.
- A value out of range keeps its raw value beside a Bad or Uncertain status; a sentinel or a missing answer has none.

Anyone may enter: this file imports nothing and everything is built on it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Value = bool | int | float | str | bytes | None
"""A raw wire value; None where the instrument gave none."""

Kind = Literal[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "text",
    "bytes",
]
"""What a column holds, in the words of the technician's file."""

MAX_POINTS = 4096
"""The most points one layout may have."""


@dataclass(frozen=True, slots=True)
class Column:
    """What one position of a layout means. All but `name` and `kind` is exact text, empty where nothing is said.

    The engineering value is `raw * scale + offset`, in `unit`. `address` is the driver's own way to name the place
    on the wire (`holding:40`, `nsu=urn:plant;s=Line3.Speed`); `order` is the word order (`ABCD`, `CDAB`, ...);
    `low` and `high` bound the plausible engineering value; `note` is free text for the reader.
    """

    name: str
    kind: Kind
    unit: str = ""
    scale: str = ""
    offset: str = ""
    address: str = ""
    order: str = ""
    low: str = ""
    high: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the positions of a group's frames, or the point numbers of its changes, mean.

    `every_ns` is the configured interval in nanoseconds, or None where the instrument pushes. At most `MAX_POINTS`
    columns. Its identity is the hash of its encoding: see `buffer.layout`.
    """

    link: str
    device: str
    driver: str
    every_ns: int | None
    columns: tuple[Column, ...]

    def __hash__(self) -> int:
        """Hash the few fields that tell layouts apart: one lookup a frame must not walk hundreds of columns."""
        return hash((self.link, self.device, self.driver, self.every_ns, len(self.columns)))


class Frame(NamedTuple):
    """One poll of one group: when the last answer was complete, how long since the first question, what was read."""

    t_boot_ns: int
    span_ns: int
    values: tuple[Value, ...]
    statuses: tuple[int, ...] | None = None
    """One StatusCode a column, or None where all are Good."""


class Change(NamedTuple):
    """What a pushing source said of one point. None is dropped, none is re-stamped."""

    point: int
    """Position in the layout."""
    source_ns: int | None
    """The source's own timestamp, nanoseconds since 1970-01-01T00:00Z, or None where it gave none."""
    t_boot_ns: int
    """When it was received."""
    value: Value
    status: int = 0
    historical: bool = False
    """True where the source sent it as history rather than as it happened."""


EventData = None | bool | int | float | str | bytes | tuple["EventData", ...]
"""What an event may carry."""


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the station's logbook. `id` is 8 random bytes, the same in every stream that holds the event."""

    type: str
    t_boot_ns: int
    id: bytes
    data: tuple[tuple[str, EventData], ...] = ()


def good(frame: Frame) -> bool:
    """Say whether every value of a frame is good."""
    return frame.statuses is None


def fault_frame(layout: Layout, t_boot_ns: int, status: int) -> Frame:
    """Make the frame of a poll that brought nothing: no values, the same status throughout."""
    width = len(layout.columns)
    return Frame(t_boot_ns, 0, (None,) * width, (status,) * width)
