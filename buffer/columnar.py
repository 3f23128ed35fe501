"""The payload of a block: frames, changes and events as columns, definitions as they are.

What is always true here:

- A payload is one CBOR map: 0 lanes, 1 frames, 2 changes, 3 events, 4 definitions. Only `lanes` is always there. A key
  of a later version is skipped; a negative one means "do not interpret". `FORMAT.md` gives every part to the byte.
- The lanes are those of the frames, then those of the changes.
- Statuses and absent values are sparse: a good frame costs nothing, and equal neighbours are merged.
- What is decoded is what was encoded: order of arrival, None, every status and the bits of floats included. (Python
  itself quiets signalling NaNs of 16 and 32 bits before they get here, and knows one NaN of 16 bits.)
- Decoding raises only BlockInvalid, and allocates nothing that the bytes at hand do not pay for, beyond
  `MAX_READINGS` values.

Seal, verify and whoever reads blocks enter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from buffer.cbor import dumps, expect, fields, loads
from buffer.change_section import change_columns, read_changes, read_groups, write_changes
from buffer.errors import BlockInvalid
from buffer.event_section import read_events, write_events
from buffer.frame import Change, Event, Frame, Layout
from buffer.frame_section import frame_columns, read_frames, write_frames
from buffer.lanes import LaneReader, LaneWriter

MAX_READINGS = 1 << 20
"""The most readings one block may hold."""

LANES, FRAMES, CHANGES, EVENTS, DEFINITIONS = range(5)
_KNOWN = 5


@dataclass(frozen=True, slots=True)
class Definitions:
    """What must be known before a block can be read: encoded layouts, and the encoded catalogue that lists their ids.

    `catalogue` is empty where more definitions of the same catalogue follow.
    """

    layouts: tuple[bytes, ...] = ()
    catalogue: bytes = b""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a block holds. The integers are positions in the catalogue."""

    frames: tuple[tuple[int, tuple[Frame, ...]], ...] = ()
    changes: tuple[tuple[int, tuple[Change, ...]], ...] = ()
    events: tuple[Event, ...] = ()
    definitions: Definitions | None = None

    def count_frames(self) -> int:
        """Count the frames."""
        return sum(len(frames) for _, frames in self.frames)

    def count_readings(self, layouts: Sequence[Layout]) -> int:
        """Count (point, instant) entries, good or bad."""
        in_frames = sum(len(frames) * len(layouts[index].columns) for index, frames in self.frames)
        return in_frames + sum(len(changes) for _, changes in self.changes)


def encode_payload(payload: Payload, layouts: Sequence[Layout]) -> bytes:
    """Encode. Raises ValueError where a value does not fit the kind of its column, or a bound is passed."""
    return encode_with_cuts(payload, layouts)[0]


def encode_with_cuts(payload: Payload, layouts: Sequence[Layout]) -> tuple[bytes, list[int]]:
    """Encode, and say where streams of a different nature meet: places where a compressor does well to start afresh."""
    if payload.count_readings(layouts) > MAX_READINGS:
        raise ValueError(f"more than {MAX_READINGS} readings in one block")
    lanes = LaneWriter()
    body: dict[int, object] = {LANES: b""}
    if groups := [group for group in payload.frames if group[1]]:
        body[FRAMES] = write_frames(lanes, groups, layouts)
    if pushed := [group for group in payload.changes if group[1]]:
        body[CHANGES] = write_changes(lanes, pushed, layouts)
    if payload.events:
        body[EVENTS] = write_events(payload.events)
    if payload.definitions is not None:
        body[DEFINITIONS] = [list(payload.definitions.layouts), payload.definitions.catalogue]
    streams = lanes.streams()
    joined = body[LANES] = b"".join(streams)
    start = 1 + len(dumps(LANES)) + len(dumps(joined)) - len(joined)
    return dumps(body), list(accumulate(map(len, streams), initial=start))


def decode_payload(data: bytes, layouts: Sequence[Layout]) -> Payload:
    """Decode. Anything malformed, and any layout that `layouts` does not have, raises BlockInvalid."""
    body = fields(loads(data, "payload"), _KNOWN, "payload")
    groups = read_groups(body[CHANGES], layouts, MAX_READINGS) if CHANGES in body else []
    left = MAX_READINGS - sum(len(group.points) for group in groups)
    columns = frame_columns(body[FRAMES], layouts, left) if FRAMES in body else []
    lanes = LaneReader(expect(body.get(LANES), bytes, "payload"), columns + change_columns(groups))
    return Payload(
        frames=read_frames(lanes, body[FRAMES], layouts) if FRAMES in body else (),
        changes=read_changes(lanes, body[CHANGES], groups) if CHANGES in body else (),
        events=read_events(body.get(EVENTS, [])),
        definitions=_definitions(body.get(DEFINITIONS)),
    )


def decode_events(data: bytes) -> tuple[Event, ...]:
    """Decode the events alone, for which no layout is needed. Raises BlockInvalid."""
    return read_events(fields(loads(data, "payload"), _KNOWN, "payload").get(EVENTS, []))


def _definitions(section: Any) -> Definitions | None:
    if section is None:
        return None
    if len(expect(section, list, "definitions")) < 2:
        raise BlockInvalid("definitions")
    layouts = expect(section[0], list, "definitions")
    return Definitions(
        tuple(expect(layout, bytes, "definitions") for layout in layouts), expect(section[1], bytes, "definitions")
    )
