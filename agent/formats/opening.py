"""Opening committed blocks for the formats: decoded, and cut to the points that an uplink is given.

What is always true here:

- A point that is not listed is cut away before a format sees the block, from layouts, frames and changes alike. Where
  points are listed, events are left out whole: their words may name anything.
- A device of which no point is listed is not there at all.
- Layouts are decoded once a catalogue; at most `CATALOGUES` of them are kept.

`agent.formats` enters.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

from agent.formats.api import EVICTED, UNREADABLE, Opened, Placer, Skip
from agent.kept import Definition, Kept
from buffer.block import read_header
from buffer.columnar import Payload
from buffer.errors import BlockInvalid
from buffer.frame import Change, Frame, Layout
from buffer.layout import decode_catalogue, decode_layout
from buffer.verify import payload_of

CATALOGUES = 8
EVERY = "*"


class Points:
    """The points that an uplink is given, written `device/point` or `device/*`; None stands for all."""

    def __init__(self, listed: Sequence[str] | None) -> None:
        self.all = listed is None
        self._listed = frozenset(listed or ())

    def mask(self, layout: Layout) -> list[bool]:
        """Say of each column of a layout whether it is given."""
        if self.all or f"{layout.device}/{EVERY}" in self._listed:
            return [True] * len(layout.columns)
        return [f"{layout.device}/{column.name}" in self._listed for column in layout.columns]


def cut_layout(layout: Layout, points: Points) -> Layout:
    """Give a layout with the points that are given; it may have none."""
    return replace(layout, columns=tuple(compress(layout.columns, points.mask(layout))))


class Opener:
    """Opens the blocks of one uplink."""

    def __init__(self, points: Points, placer: Placer) -> None:
        self._points = points
        self._placer = placer
        self._known: OrderedDict[bytes, tuple[Layout, ...]] = OrderedDict()

    def knows(self, catalogue: bytes) -> bool:
        """Say whether the layouts of a catalogue are at hand."""
        return catalogue in self._known

    def learn(self, catalogue: bytes, definition: Definition) -> None:
        """Take the layouts of a catalogue. Raises BlockInvalid where they are none."""
        ids = decode_catalogue(definition.catalogue)
        self._known[catalogue] = tuple(decode_layout(definition.layouts[identity]) for identity in ids)
        if len(self._known) > CATALOGUES:
            self._known.popitem(last=False)

    def open(self, kept: Kept) -> Opened | Skip:
        """Open a block whose catalogue was learned."""
        layouts = self._known[kept.catalogue]
        self._known.move_to_end(kept.catalogue)
        if kept.block.payload is None:
            return Skip(EVICTED)
        try:
            header = read_header(kept.block.envelope)
            payload = payload_of(kept.block, header, layouts)
        except BlockInvalid:
            return Skip(UNREADABLE)
        if not self._points.all:
            layouts, payload = restrict(layouts, payload, self._points)
        return Opened(header, kept.block.digest, layouts, payload, self._points.all, self._placer)


def restrict(layouts: Sequence[Layout], payload: Payload, points: Points) -> tuple[tuple[Layout, ...], Payload]:
    """Cut a payload, and the layouts it is read by, to the points given."""
    masks = [points.mask(layout) for layout in layouts]
    given = [place for place, mask in enumerate(masks) if any(mask)]
    place_of = {old: new for new, old in enumerate(given)}
    cut = tuple(replace(layouts[old], columns=tuple(compress(layouts[old].columns, masks[old]))) for old in given)
    frames = tuple(
        (place_of[old], tuple(map(partial(_cut_frame, masks[old]), members)))
        for old, members in payload.frames
        if old in place_of
    )
    changes = tuple(
        (place_of[old], kept)
        for old, members in payload.changes
        if old in place_of and (kept := _cut_changes(masks[old], members))
    )
    return cut, Payload(frames=frames, changes=changes)


def _cut_frame(mask: Sequence[bool], frame: Frame) -> Frame:
    statuses = None if frame.statuses is None else tuple(compress(frame.statuses, mask))
    return Frame(frame.t_boot_ns, frame.span_ns, tuple(compress(frame.values, mask)), statuses)


def _cut_changes(mask: Sequence[bool], changes: Sequence[Change]) -> tuple[Change, ...]:
    positions: Mapping[int, int] = {old: new for new, old in enumerate(compress(range(len(mask)), mask))}
    return tuple(change._replace(point=positions[change.point]) for change in changes if change.point in positions)
