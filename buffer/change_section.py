"""The changes of a payload: `[tick, source tick, [group, ...]]`, in order of arrival within a group.

What is always true here:

- A group is `[index, count, points, no source, statuses, historical, absent, texts]`. `points` is a column of 2-byte
  lanes of its own; `no source`, `historical` and `absent` are bitmaps over the changes, or null; `statuses` are those
  of `buffer.marks` over the changes, null where all are Good.
- Receive times of all groups are one column of 8-byte lanes; source times, of those that have one, another.
- The values follow group by group, in lane order of their point, then arrival: each point is a column of its own
  length, so that it is its own neighbour however the points interleave.

The columnar codec enters.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from buffer.cbor import expect, natural
from buffer.columns import WIDTH_OF, Plan, pack_kind, plan, read_texts, text_runs, unpack_kind, zero
from buffer.errors import BlockInvalid
from buffer.frame import Change, Layout, Value
from buffer.frame_section import read_tick, read_times, tick_of, write_times
from buffer.lanes import LaneReader, LaneWriter, pack_all
from buffer.marks import decode_bitmap, decode_statuses, encode_bitmap, encode_statuses

Groups = Sequence[tuple[int, Sequence[Change]]]


@dataclass(frozen=True, slots=True)
class Pushed:
    """One group as its structure tells it, before its lanes are read."""

    index: int
    layout: Layout
    points: tuple[int, ...]
    with_source: list[bool]
    statuses: tuple[int, ...]
    historical: list[bool]
    absent: list[bool]
    texts: list[Any]


def write_changes(lanes: LaneWriter, groups: Groups, layouts: Sequence[Layout]) -> list[object]:
    """Write the section; every group has a change. Raises ValueError where a value does not fit."""
    changes = [change for _, members in groups for change in members]
    received = [change.t_boot_ns for change in changes]
    sources = [change.source_ns for change in changes if change.source_ns is not None]
    tick, source_tick = tick_of(received), tick_of(sources)
    write_times(lanes, received, tick)
    if sources:
        write_times(lanes, sources, source_tick)
    return [tick, source_tick, [_write_group(lanes, index, layouts[index], members) for index, members in groups]]


def _write_group(lanes: LaneWriter, index: int, layout: Layout, changes: Sequence[Change]) -> list[object]:
    if any(not 0 <= change.point < len(layout.columns) for change in changes):
        raise ValueError(f"{layout.device}: a change names a point that its layout does not have")
    statuses = [change.status for change in changes]
    texts = _write_values(lanes, layout, changes)
    return [
        index,
        len(changes),
        _encode_points(changes),
        encode_bitmap(change.source_ns is None for change in changes),
        encode_statuses(statuses if any(statuses) else None, len(changes)),
        encode_bitmap(change.historical for change in changes),
        encode_bitmap(change.value is None for change in changes),
        texts,
    ]


def _encode_points(changes: Sequence[Change]) -> bytes:
    own = LaneWriter()
    own.add(pack_all("H", (change.point for change in changes)), 2, len(changes))
    return b"".join(own.streams())


def _write_values(lanes: LaneWriter, layout: Layout, changes: Sequence[Change]) -> list[object]:
    by_point: dict[int, list[Value]] = {}
    for change in changes:
        by_point.setdefault(change.point, []).append(change.value)
    todo = plan(layout)
    for position, kind in todo.lane_order:
        if values := by_point.get(position):
            lanes.add(pack_kind(kind, _filled(values, zero(kind)), layout), WIDTH_OF[kind], len(values))
    texts = [position for position in todo.texts if position in by_point]
    return [text_runs(layout, at, list(_filled(by_point[at], zero(todo.kinds[at])))) for at in texts]


def _filled(values: Iterable[Value], before: Value) -> Iterable[Value]:
    for value in values:
        before = before if value is None else value
        yield before


def read_groups(section: Any, layouts: Sequence[Layout], limit: int) -> list[Pushed]:
    """Read the structure of a section, checked to hold at most `limit` changes."""
    if len(expect(section, list, "changes")) < 3:
        raise BlockInvalid("changes")
    groups = []
    for group in expect(section[2], list, "changes"):
        groups.append(_read_group(group, layouts, limit))
        limit -= len(groups[-1].points)
    return groups


def _read_group(group: Any, layouts: Sequence[Layout], limit: int) -> Pushed:
    if len(expect(group, list, "changes")) < 8:
        raise BlockInvalid("changes")
    index = natural(group[0], len(layouts) - 1, "unknown-layout")
    count = natural(group[1], limit, "too-many-readings")
    width = len(layouts[index].columns)
    points = unpack_kind("uint16", LaneReader(expect(group[2], bytes, "changes"), [(2, count)]).column(2, count))
    return Pushed(
        index=index,
        layout=layouts[index],
        points=tuple(natural(point, width - 1, "unknown-point") for point in points),
        with_source=[not missing for missing in decode_bitmap(group[3], count)],
        statuses=decode_statuses(group[4], count) or (0,) * count,
        historical=decode_bitmap(group[5], count),
        absent=decode_bitmap(group[6], count),
        texts=expect(group[7], list, "text"),
    )


def change_columns(groups: Sequence[Pushed]) -> list[tuple[int, int]]:
    """Give (width, length) of the lane columns of a section."""
    received = sum(len(group.points) for group in groups)
    sources = sum(sum(group.with_source) for group in groups)
    return [(8, received), (8, sources), *chain.from_iterable(_value_columns(group) for group in groups)]


def _value_columns(group: Pushed) -> Iterable[tuple[int, int]]:
    return (
        (WIDTH_OF[kind], group.points.count(at)) for at, kind in plan(group.layout).lane_order if at in group.points
    )


def read_changes(
    lanes: LaneReader, section: Any, groups: Sequence[Pushed]
) -> tuple[tuple[int, tuple[Change, ...]], ...]:
    """Undo `write_changes`."""
    received = iter(read_times(lanes, sum(len(group.points) for group in groups), read_tick(section[0])))
    sources = iter(read_times(lanes, sum(sum(group.with_source) for group in groups), read_tick(section[1])))
    return tuple((group.index, _changes(lanes, group, received.__next__, sources.__next__)) for group in groups)


def _changes(
    lanes: LaneReader, group: Pushed, received: Callable[[], int], source: Callable[[], int]
) -> tuple[Change, ...]:
    values = _read_values(lanes, group, plan(group.layout))
    return tuple(
        Change(
            point=point,
            source_ns=source() if group.with_source[at] else None,
            t_boot_ns=received(),
            value=_absent_or(next(values[point]), group.absent[at]),
            status=group.statuses[at],
            historical=group.historical[at],
        )
        for at, point in enumerate(group.points)
    )


def _absent_or(value: Value, absent: bool) -> Value:
    return None if absent else value


def _read_values(lanes: LaneReader, group: Pushed, todo: Plan) -> dict[int, Any]:
    lengths = {point: group.points.count(point) for point in set(group.points)}
    values = {
        at: iter(unpack_kind(kind, lanes.column(WIDTH_OF[kind], lengths[at])))
        for at, kind in todo.lane_order
        if at in lengths
    }
    texts = [at for at in todo.texts if at in lengths]
    if len(texts) != len(group.texts):
        raise BlockInvalid("text")
    for at, runs in zip(texts, group.texts, strict=True):
        values[at] = iter(read_texts(todo.kinds[at], runs, lengths[at]))
    return values
