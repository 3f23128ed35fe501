"""What a configuration will cost in flash, before a single reading is taken. Pure.

What is always true here:

- It is an estimate by what was measured (DECISIONS 12 to 16), good to a fifth or so on data like those; the words that
  carry it say "about". Groups that instruments push are not in it, since nobody knows their rate: it errs low.
- A block costs an envelope, the first row of each of its groups in full, and of every further row what is left of it
  after compression: a third for whole numbers, most of it for floats.
- A commit writes more than it keeps: pages of the WAL and of the database, a little for itself and more for each block.
  What is told is that of a full buffer, which lets as much go as it takes; while it grows it writes a fifth less.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buffer.frame import Kind
from config.model import Buffer
from drivers.api import Group

NS_PER_S = 10**9
DAY_S = 86_400
_EMPTY_SEAL_S = 300.0
"""A stream seals this often when it has nothing to tell (`agent.recorder`)."""
_ENVELOPE_BYTES = 390 + 60
"""The signed envelope; the head of the payload and the times of its rows."""
_PAGE = 512
_IN_PAGE = 470
"""The longest row that is kept on one page; a longer one goes on over pages of its own, which wastes little."""
_COMMIT_BYTES = 2_400
_BLOCK_BYTES = 5_100
_WRITTEN_PER_BYTE = 1.9
"""What a commit writes: for itself, for each block, and for each byte of a block."""
_TEXT_BYTES = 16
_KEPT_OF_FLOAT = 0.85
_KEPT_OF_WHOLE = 0.33


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a day: bytes kept in the buffer, bytes written to flash. `loss_ns` is what a power cut may take with it."""

    kept_bytes: float
    written_bytes: float
    loss_ns: int

    def days(self, limit_bytes: int) -> float:
        """Give the days that fit into so many bytes."""
        return limit_bytes / self.kept_bytes


def estimate(groups: Iterable[Group], buffer: Buffer) -> Estimate:
    """Add up what all streams will cost."""
    streams: dict[str, list[Group]] = {}
    for group in groups:
        streams.setdefault(group.stream, []).append(group)
    seal_s = buffer.seal_every / NS_PER_S
    blocks = {stream: _blocks(members, seal_s) for stream, members in streams.items()}
    bytes_a_block = {stream: _block_bytes(members, blocks[stream]) for stream, members in streams.items()}
    commits = max(blocks.values(), default=DAY_S / _EMPTY_SEAL_S)
    kept = sum(number * _stored(bytes_a_block[stream]) for stream, number in blocks.items())
    written = sum(
        number * (_BLOCK_BYTES + _WRITTEN_PER_BYTE * bytes_a_block[stream]) for stream, number in blocks.items()
    )
    return Estimate(kept or 1.0, written + commits * _COMMIT_BYTES, buffer.seal_every)


def _blocks(groups: Sequence[Group], seal_s: float) -> float:
    """Give the blocks of a stream in a day: one at each seal that has something to tell."""
    shortest_s = min((_every_s(group) for group in groups), default=_EMPTY_SEAL_S)
    return DAY_S / min(max(seal_s, shortest_s), max(seal_s, _EMPTY_SEAL_S))


def _every_s(group: Group) -> float:
    every_ns = group.layout.every_ns
    return _EMPTY_SEAL_S if every_ns is None else every_ns / NS_PER_S


def _block_bytes(groups: Sequence[Group], blocks: float) -> float:
    """Give the size of a stream's block, taken over a day."""
    total = 0.0
    for group in groups:
        if group.layout.every_ns is None:
            continue
        rows = DAY_S / _every_s(group)
        first = min(rows, blocks)
        for column in group.layout.columns:
            width, kept = _width(column.kind)
            total += first * width + (rows - first) * width * kept
    return _ENVELOPE_BYTES + total / blocks


def _width(kind: Kind) -> tuple[float, float]:
    """Give the bytes of a value, and how much of it a further row keeps."""
    if kind in ("text", "bytes"):
        return _TEXT_BYTES, 0.5
    if kind == "bool":
        return 1.0, 0.15
    bits = int(kind.removeprefix("u").removeprefix("int").removeprefix("float"))
    return bits / 8, _KEPT_OF_FLOAT if kind.startswith("float") else _KEPT_OF_WHOLE


def _stored(size: float) -> float:
    """Give what a row takes in the file: a page, or several and a share of one."""
    return _PAGE if size <= _IN_PAGE else _IN_PAGE / 10 + 1.03 * size
