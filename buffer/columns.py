"""The columns of one layout: which positions are lanes, in what order, and how their values become lanes and return.

What is always true here:

- Lane order of a layout: by width, then by kind in the order of `KINDS`, then by position. Text and bytes follow, in
  order of position; they are not lanes but runs `[count, value, count, value, ...]` of equal neighbours.
- A bool is a lane 0 or 1. Floats are their IEEE 754 bits, integers two's complement.
- An absent value (None) has the lane, or the text, of the value before it in its column, or zero (the empty text)
  where there is none before. That it is absent stands elsewhere.
- A value that does not fit its kind raises ValueError when written: that is a driver's bug, never a truncation.

The columnar codec enters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from struct import error as struct_error
from struct import unpack
from typing import Any

from buffer.cbor import expect, natural
from buffer.errors import BlockInvalid
from buffer.frame import Column, Kind, Layout, Value
from buffer.lanes import WIDTHS, LaneReader, LaneWriter, pack_all
from buffer.layout import KINDS, once_a_layout

LETTERS: dict[Kind, str] = {
    "bool": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}
"""The struct letter of each kind that is a lane."""

WIDTH_OF: dict[Kind, int] = {
    kind: next(width for width, letters in zip(WIDTHS, ("Bb", "hHe", "iIf", "qQd"), strict=True) if letter in letters)
    for kind, letter in LETTERS.items()
}
"""Bytes a lane, by kind."""

_EMPTY: dict[Kind, str | bytes] = {"text": "", "bytes": b""}
_PYTHON: dict[Kind, type] = {"text": str, "bytes": bytes}


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in lane order that are of one kind."""

    kind: Kind
    positions: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes a lane."""
        return WIDTH_OF[self.kind]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the columns of a layout go."""

    kinds: tuple[Kind, ...]
    runs: tuple[Run, ...]
    texts: tuple[int, ...]

    @property
    def lane_order(self) -> Iterable[tuple[int, Kind]]:
        """Give the position and kind of every lane column, in order."""
        return ((position, run.kind) for run in self.runs for position in run.positions)


@once_a_layout
def plan(layout: Layout) -> Plan:
    """Work out a layout's lane order once."""
    numbered = list(enumerate(layout.columns))
    lanes = sorted((pair for pair in numbered if pair[1].kind in LETTERS), key=_lane_rank)
    runs = tuple(
        Run(kind, tuple(position for position, _ in members))
        for kind, members in groupby(lanes, key=lambda p: p[1].kind)
    )
    texts = tuple(position for position, column in numbered if column.kind not in LETTERS)
    return Plan(tuple(column.kind for column in layout.columns), runs, texts)


def _lane_rank(pair: tuple[int, Column]) -> tuple[int, int, int]:
    position, column = pair
    return WIDTH_OF[column.kind], KINDS.index(column.kind), position


def write_rows(lanes: LaneWriter, layout: Layout, rows: Sequence[tuple[Value, ...]]) -> list[list[object]]:
    """Write the values of frames, none of them absent; give the runs of the text columns.

    Raises ValueError, and has written nothing, where a value does not fit.
    """
    todo = plan(layout)
    if any(len(row) != len(todo.kinds) for row in rows):
        raise ValueError(f"{layout.device}: a frame does not have the {len(todo.kinds)} values of its layout")
    packed = [(pack_kind(run.kind, _along(rows, run, todo), layout), run.width) for run in todo.runs]
    texts = [text_runs(layout, position, [row[position] for row in rows]) for position in todo.texts]
    for column_bytes, width in packed:
        lanes.add(column_bytes, width, len(rows))
    return texts


def _along(rows: Sequence[tuple[Value, ...]], run: Run, todo: Plan) -> Iterable[Value]:
    """Give the values of a run column by column."""
    whole = len(run.positions) == len(todo.kinds)
    if len(rows) == 1:
        return rows[0] if whole else map(rows[0].__getitem__, run.positions)
    columns = list(zip(*rows, strict=True))
    return chain.from_iterable(columns if whole else map(columns.__getitem__, run.positions))


def pack_kind(kind: Kind, values: Iterable[Value], layout: Layout) -> bytes:
    """Pack values of one kind. Raises ValueError where one does not fit."""
    try:
        packed = pack_all(LETTERS[kind], values)
    except (struct_error, OverflowError) as error:
        raise ValueError(f"{layout.device}: a value is not a {kind}: {error}") from error
    if kind == "bool" and packed.translate(None, b"\0\1"):
        raise ValueError(f"{layout.device}: a value is not a bool")
    return packed


def unpack_kind(kind: Kind, packed: bytes) -> tuple[Value, ...]:
    """Undo `pack_kind`."""
    letter = LETTERS[kind]
    values = unpack(f"<{len(packed) // WIDTH_OF[kind]}{letter}", packed)
    if kind != "bool":
        return values
    if packed.translate(None, b"\0\1"):
        raise BlockInvalid("bool")
    return tuple(map(bool, values))


def text_runs(layout: Layout, position: int, values: Sequence[Value]) -> list[object]:
    """Merge equal neighbours of a text or bytes column into `[count, value, ...]`."""
    kind = layout.columns[position].kind
    if any(type(value) is not _PYTHON[kind] for value in values):
        raise ValueError(f"{layout.device}: a value is not {kind}")
    return run_lengths(values)


def run_lengths(values: Iterable[object]) -> list[object]:
    """Merge equal neighbours into `[count, value, count, value, ...]`."""
    merged: list[object] = []
    for value, members in groupby(values):
        merged += (sum(1 for _ in members), value)
    return merged


def expand(runs: object, total: int, reason: str) -> list[Any]:
    """Undo `run_lengths`; the counts must add up to `total`, which the caller has bounded."""
    flat = expect(runs, list, reason)
    counts = [natural(count, total, reason) for count in flat[::2]]
    if len(flat) % 2 or sum(counts) != total:
        raise BlockInvalid(reason)
    return list(chain.from_iterable([value] * count for count, value in zip(counts, flat[1::2], strict=True)))


def read_texts(kind: Kind, runs: object, total: int) -> list[Any]:
    """Undo `text_runs`."""
    values = expand(runs, total, "text")
    if any(type(value) is not _PYTHON[kind] for value in values):
        raise BlockInvalid("text")
    return values


def lane_columns(layout: Layout, length: int) -> list[tuple[int, int]]:
    """Give (width, length) of every lane column when each holds as many values."""
    return [(run.width, length) for run in plan(layout).runs for _ in run.positions]


def read_rows(lanes: LaneReader, layout: Layout, count: int, texts: Sequence[object]) -> list[tuple[Value, ...]]:
    """Undo `write_rows` for `count` frames."""
    todo = plan(layout)
    columns: list[Sequence[Value]] = [()] * len(todo.kinds)
    for position, kind in todo.lane_order:
        columns[position] = unpack_kind(kind, lanes.column(WIDTH_OF[kind], count))
    for position, runs in zip(todo.texts, texts, strict=True):
        columns[position] = read_texts(todo.kinds[position], runs, count)
    return list(zip(*columns, strict=True)) if columns else [()] * count


def zero(kind: Kind) -> Value:
    """Give what stands in place of an absent value that has none before it."""
    return _EMPTY.get(kind, 0)
