"""The frames of a payload: `[tick, [index, ...], counts, {group: texts}, {group: marks}]`.

What is always true here:

- Groups, and frames within one, stand in the order given. `index` is the layout's place in the catalogue; `counts` are
  the frames of each group, or one integer where all have as many.
- Times (`t_boot_ns`) of all frames are one column of 8-byte lanes, spans another, both divided by `tick`: the largest
  of 1,000,000, 1,000 and 1 that divides them all without rest. The lanes of the groups follow.
- A group without text columns, or without marks, has no entry in the map.

The columnar codec enters.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from struct import error as struct_error
from struct import unpack
from typing import Any

from buffer.cbor import expect, natural
from buffer.columns import lane_columns, plan, read_rows, write_rows, zero
from buffer.errors import BlockInvalid
from buffer.frame import Frame, Layout, Value
from buffer.lanes import LaneReader, LaneWriter, pack_all
from buffer.marks import apply_marks, encode_marks

Groups = Sequence[tuple[int, Sequence[Frame]]]

TICKS = (1_000_000, 1_000)
MAX_TICK = 1_000_000_000
MAX_TIME = 2**63


def write_frames(lanes: LaneWriter, groups: Groups, layouts: Sequence[Layout]) -> list[object]:
    """Write the section; every group has a frame. Raises ValueError where a value does not fit."""
    frames = [frame for _, members in groups for frame in members]
    times, spans = [frame.t_boot_ns for frame in frames], [frame.span_ns for frame in frames]
    tick = tick_of(times + spans)
    write_times(lanes, times, tick)
    write_times(lanes, spans, tick)
    sparse = [_write_group(lanes, layouts[index], members) for index, members in groups]
    texts = {group: runs for group, (runs, _) in enumerate(sparse) if runs}
    marks = {group: found for group, (_, found) in enumerate(sparse) if found}
    counts = [len(members) for _, members in groups]
    alike = len(set(counts)) == 1
    return [tick, [index for index, _ in groups], counts[0] if alike else counts, texts, marks]


def _write_group(lanes: LaneWriter, layout: Layout, frames: Sequence[Frame]) -> tuple[list[list[object]], list[object]]:
    """Write the lanes of a group; give the runs of its text columns and its marks."""
    rows = [frame.values for frame in frames]
    absent = False
    try:
        runs = write_rows(lanes, layout, rows)
    except ValueError:
        absent = any(None in row for row in rows)
        if not absent:
            raise
        runs = write_rows(lanes, layout, _filled(rows, layout))
    marked = absent or any(frame.statuses is not None for frame in frames)
    return runs, encode_marks(frames, len(layout.columns), absent) if marked else []


def _filled(rows: Iterable[tuple[Value, ...]], layout: Layout) -> list[tuple[Value, ...]]:
    """Put the value before, or zero, in place of every absent one."""
    before: tuple[Value, ...] = tuple(zero(kind) for kind in plan(layout).kinds)
    filled = []
    for row in rows:
        before = tuple(old if new is None else new for old, new in zip(before, row, strict=True))
        filled.append(before)
    return filled


def frame_columns(section: Any, layouts: Sequence[Layout], limit: int) -> list[tuple[int, int]]:
    """Give (width, length) of the lane columns of a section, checked to hold at most `limit` readings and frames."""
    groups = _groups(section, layouts)
    total = sum(count for _, count in groups)
    if total > limit or sum(count * len(layout.columns) for layout, count in groups) > limit:
        raise BlockInvalid("too-many-readings")
    return [(8, total), (8, total), *chain.from_iterable(lane_columns(layout, count) for layout, count in groups)]


def read_frames(
    lanes: LaneReader, section: Any, layouts: Sequence[Layout]
) -> tuple[tuple[int, tuple[Frame, ...]], ...]:
    """Undo `write_frames`."""
    groups = _groups(section, layouts)
    total = sum(count for _, count in groups)
    tick = read_tick(section[0])
    times, spans = iter(read_times(lanes, total, tick)), iter(read_times(lanes, total, tick))
    found = []
    for group, (layout, count) in enumerate(groups):
        texts = _of_group(section[3], group, len(plan(layout).texts))
        rows = read_rows(lanes, layout, count, texts)
        frames = [Frame(next(times), next(spans), row) for row in rows]
        apply_marks(frames, expect(section[4], dict, "frames").get(group, []), len(layout.columns))
        found.append((section[1][group], tuple(frames)))
    return tuple(found)


def _groups(section: Any, layouts: Sequence[Layout]) -> list[tuple[Layout, int]]:
    if len(expect(section, list, "frames")) < 5:
        raise BlockInvalid("frames")
    indexes = [natural(index, len(layouts) - 1, "unknown-layout") for index in expect(section[1], list, "frames")]
    told = [section[2]] * len(indexes) if type(section[2]) is int else expect(section[2], list, "frames")
    counts = [natural(count, MAX_TIME, "frames") for count in told]
    if 0 in counts or len(counts) != len(indexes):
        raise BlockInvalid("frames")
    return [(layouts[index], count) for index, count in zip(indexes, counts, strict=True)]


def _of_group(entries: Any, group: int, wanted: int) -> list[Any]:
    texts = expect(expect(entries, dict, "text").get(group, []), list, "text")
    if len(texts) != wanted:
        raise BlockInvalid("text")
    return texts


def tick_of(times: Iterable[int]) -> int:
    """Give the largest tick that divides all times without rest."""
    every = list(times)
    return next((tick for tick in TICKS if not any(time % tick for time in every)), 1)


def read_tick(value: object) -> int:
    """Give a tick back if it is one."""
    tick = natural(value, MAX_TICK, "tick")
    if tick == 0:
        raise BlockInvalid("tick")
    return tick


def write_times(lanes: LaneWriter, times: Sequence[int], tick: int) -> None:
    """Write one column of times. Raises ValueError beyond 64 bits."""
    try:
        lanes.add(pack_all("q", (time // tick for time in times)), 8, len(times))
    except struct_error as error:
        raise ValueError(f"a time does not fit 64 bits: {error}") from error


def read_times(lanes: LaneReader, count: int, tick: int) -> list[int]:
    """Undo `write_times`."""
    times = [time * tick for time in unpack(f"<{count}q", lanes.column(8, count))]
    if any(not -MAX_TIME <= time < MAX_TIME for time in times):
        raise BlockInvalid("time")
    return times
