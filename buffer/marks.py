"""What is sparse in a payload: statuses, absent values, and flags. What is as usual leaves no byte.

What is always true here:

- A bitmap has bit i of byte i // 8, lowest bit first, and no bit set beyond its length. No bit at all is null.
- The statuses of a frame are null (none given), one integer (the same for every column), or runs
  `[count, status, ...]` over the columns.
- A mark is `[first frame, frames, absent bitmap, statuses]`; neighbouring frames with equal marks share one, and marks
  ascend.

The sections of the payload enter.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from buffer.cbor import expect, natural
from buffer.columns import expand, run_lengths
from buffer.errors import BlockInvalid
from buffer.frame import Frame

MAX_STATUS = 0xFFFFFFFF


class Mark(NamedTuple):
    """What is unusual about one frame."""

    absent: bytes | None
    statuses: object


def encode_bitmap(bits: Iterable[bool]) -> bytes | None:
    """Encode; None where no bit is set."""
    flags = list(bits)
    number = sum(1 << place for place, bit in enumerate(flags) if bit)
    return number.to_bytes((len(flags) + 7) // 8, "little") if number else None


def decode_bitmap(value: object, length: int) -> list[bool]:
    """Decode a bitmap of `length` bits."""
    if value is None:
        return [False] * length
    data = expect(value, bytes, "bitmap")
    if len(data) != (length + 7) // 8 or int.from_bytes(data, "little") >> length:
        raise BlockInvalid("bitmap")
    return [bool(data[place >> 3] >> (place & 7) & 1) for place in range(length)]


def encode_statuses(statuses: Sequence[int] | None, width: int) -> object:
    """Encode the statuses of one frame of `width` columns. Raises ValueError where they are none."""
    if statuses is None:
        return None
    if len(statuses) != width or any(not 0 <= status <= MAX_STATUS for status in statuses):
        raise ValueError(f"not {width} StatusCodes")
    runs = run_lengths(statuses)
    return runs[1] if len(runs) == 2 else runs


def decode_statuses(value: object, width: int) -> tuple[int, ...] | None:
    """Undo `encode_statuses`."""
    if value is None:
        return None
    if type(value) is int:
        return (natural(value, MAX_STATUS, "status"),) * width
    return tuple(natural(status, MAX_STATUS, "status") for status in expand(value, width, "status"))


def encode_marks(frames: Sequence[Frame], width: int, some_absent: bool) -> list[object]:
    """Encode the marks of one group's frames."""
    marks: list[object] = []
    first = 0
    for mark, members in groupby(_mark(frame, width, some_absent) for frame in frames):
        count = sum(1 for _ in members)
        if mark != (None, None):
            marks.append([first, count, *mark])
        first += count
    return marks


def _mark(frame: Frame, width: int, some_absent: bool) -> Mark:
    absent = encode_bitmap(value is None for value in frame.values) if some_absent else None
    return Mark(absent, None if frame.statuses is None else encode_statuses(frame.statuses, width))


def apply_marks(frames: list[Frame], marks: object, width: int) -> None:
    """Give marked frames their statuses, and take their absent values from them."""
    free = 0
    for mark in expect(marks, list, "marks"):
        if len(expect(mark, list, "marks")) < 4:
            raise BlockInvalid("marks")
        first = natural(mark[0], len(frames), "marks")
        count = natural(mark[1], len(frames) - first, "marks")
        if first < free:
            raise BlockInvalid("marks")
        free = first + count
        gone = decode_bitmap(mark[2], width)
        statuses = decode_statuses(mark[3], width)
        frames[first:free] = [_marked(frame, gone, statuses) for frame in frames[first:free]]


def _marked(frame: Frame, gone: list[bool], statuses: tuple[int, ...] | None) -> Frame:
    values = tuple(None if away else value for value, away in zip(frame.values, gone, strict=True))
    return frame._replace(values=values, statuses=statuses)
