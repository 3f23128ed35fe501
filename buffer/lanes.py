"""Columns of numbers as lanes: subtracted, zigzagged and split into byte planes, so that little is left to compress.

What is always true here:

- A *lane* is an unsigned little-endian integer of 1, 2, 4 or 8 bytes: a number in two's complement, or the bits of an
  IEEE 754 float. A *column* is a run of lanes of one width that belong together: one point's values in order.
- Per width there are two streams: the *firsts* (the first lane of every column, as it is) and the *deltas* (every
  further lane minus the one before it in its column, modulo 2^bits, then zigzag: d becomes 2d, or -2d - 1 where d is
  negative in two's complement). Columns stand in the order they were added. An empty column leaves no trace.
- A stream is stored as byte planes: byte 0 of all its lanes, then byte 1 of all, and so on.
- The whole is: firsts of width 1, 2, 4, 8, then deltas of width 1, 2, 4, 8. Nothing stands between them: how many
  columns there are and how long each is, the reader knows before.
- Encoding does arithmetic on a whole stream at once, as one large integer with guard bits; it never loops over lanes.

The columnar codec enters.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from struct import pack, unpack

from buffer.errors import BlockInvalid

WIDTHS = (1, 2, 4, 8)
UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""The struct letter of a lane by its width."""


class LaneWriter:
    """Gathers columns and gives the streams. One payload, one writer."""

    def __init__(self) -> None:
        self._firsts: dict[int, list[bytes]] = {width: [] for width in WIDTHS}
        self._later: dict[int, list[bytes]] = {width: [] for width in WIDTHS}
        self._before: dict[int, list[bytes]] = {width: [] for width in WIDTHS}

    def add(self, packed: bytes, width: int, length: int) -> None:
        """Add columns of `length` lanes each, one behind the other in `packed`."""
        if length == 1:
            self._firsts[width].append(packed)
            return
        size = length * width
        firsts, later, before = self._firsts[width], self._later[width], self._before[width]
        for start in range(0, len(packed), size):
            end = start + size
            firsts.append(packed[start : start + width])
            later.append(packed[start + width : end])
            before.append(packed[start : end - width])

    def streams(self) -> list[bytes]:
        """Give the streams that are not empty, in their order: joined, they are the lanes of a payload."""
        firsts = (planes(b"".join(self._firsts[width]), width) for width in WIDTHS)
        deltas = (
            planes(subtract(b"".join(self._later[width]), b"".join(self._before[width]), width), width)
            for width in WIDTHS
        )
        return [stream for stream in (*firsts, *deltas) if stream]


class LaneReader:
    """Takes lanes apart again. `columns` are (width, length) in the order in which they will be asked for."""

    def __init__(self, lanes: bytes, columns: Sequence[tuple[int, int]]) -> None:
        filled = [(width, length) for width, length in columns if length]
        firsts = {width: sum(w == width for w, _ in filled) for width in WIDTHS}
        deltas = {width: sum(length - 1 for w, length in filled if w == width) for width in WIDTHS}
        if len(lanes) != sum(width * (firsts[width] + deltas[width]) for width in WIDTHS):
            raise BlockInvalid("lanes")
        counts = [(width, firsts[width]) for width in WIDTHS] + [(width, deltas[width]) for width in WIDTHS]
        ends = list(accumulate((width * count for width, count in counts), initial=0))
        streams = [
            unpack(f"<{count}{UNSIGNED[width]}", unplanes(lanes[start : start + width * count], width))
            for start, (width, count) in zip(ends, counts, strict=False)
        ]
        self._firsts = {width: iter(stream) for width, stream in zip(WIDTHS, streams[:4], strict=True)}
        self._deltas = dict(zip(WIDTHS, streams[4:], strict=True))
        self._at = dict.fromkeys(WIDTHS, 0)

    def column(self, width: int, length: int) -> bytes:
        """Give the next column, packed little-endian."""
        if not length:
            return b""
        start = self._at[width]
        end = self._at[width] = start + length - 1
        mask = (1 << 8 * width) - 1
        steps = ((z >> 1) ^ -(z & 1) for z in self._deltas[width][start:end])
        lanes = accumulate(steps, initial=next(self._firsts[width]))
        return pack(f"<{length}{UNSIGNED[width]}", *(lane & mask for lane in lanes))


def subtract(later: bytes, before: bytes, width: int) -> bytes:
    """Give zigzag(later - before) lane by lane, modulo the lane's size.

    The highest bit of every lane is set in the minuend and cleared in the subtrahend, so that no borrow leaves a lane;
    what the highest bit must become follows from the three bits that were changed.
    """
    lanes = len(later) // width
    if not lanes:
        return b""
    bits = 8 * width
    high = int.from_bytes((b"\0" * (width - 1) + b"\x80") * lanes, "little")
    every = (1 << lanes * bits) - 1
    a = int.from_bytes(later, "little")
    b = int.from_bytes(before, "little")
    difference = ((a | high) - (b & (every ^ high))) ^ ((a ^ b ^ every) & high)
    sign = (difference & high) >> (bits - 1)
    zigzag = ((difference & (every ^ high)) << 1) ^ ((sign << bits) - sign)
    return (zigzag & every).to_bytes(lanes * width, "little")


def planes(lanes: bytes, width: int) -> bytes:
    """Put byte 0 of every lane first, then byte 1 of every lane, and so on."""
    return lanes if width == 1 else b"".join(lanes[plane::width] for plane in range(width))


def unplanes(stored: bytes, width: int) -> bytes:
    """Undo `planes`."""
    lanes = bytearray(len(stored))
    count = len(stored) // width
    for plane in range(width):
        lanes[plane::width] = stored[plane * count : (plane + 1) * count]
    return bytes(lanes)


def pack_all(letter: str, values: Iterable[object]) -> bytes:
    """Pack numbers little-endian by a struct letter. Raises struct.error or OverflowError for what does not fit."""
    numbers = tuple(values)
    return pack(f"<{len(numbers)}{letter}", *numbers)
