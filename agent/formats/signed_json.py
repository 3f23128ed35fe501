"""Format `json`: a block in readable columns, signed as a JWS, on `<root>/json/<stream>`.

What is always true here:

- One message a block. Inside the signature stand the block's identity (`gateway`, `stream`, `epoch`, `seq`, `kid`) and
  its `digest`, so a receiver drops repeats and can ask for, or be shown, the very block this was made from.
- Nothing is held for want of time. `boot_us` is always there, and orders everything of one `boot`; `utc_us` is null
  where it is not known yet, else `bound_us` bounds its error.
- A group is one device's points read together: one list of times, and for each point one list of values, as long.
  A change is a row of its own, in order of arrival.
- Values are engineering values, exact (`agent.formats.numbers`). `status` lists what is not Good: `[row, name]`. The
  value of a Bad row is null, and what was read, if anything, stands third: `[row, name, value]`.
- Where the uplink lists points, `whole` is false, and events and other points are not there.

docs/formats.md shows a message.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.broker import Message
from agent.formats import jws
from agent.formats.api import Conversation, Opened, Station
from agent.formats.numbers import Number, dumps, engineering, scalings
from buffer.frame import Change, Column, Event, EventData, Frame, Layout
from buffer.status import GOOD, is_bad, is_good, name
from config.model import Uplink

TYPE = "trambien-json"
MEDIA_TYPE = "application/jose"
"""Of a compact JWS (RFC 7515, section 9.2.1); the parameter `cty` repeats what the protected header says."""
_US = 1000

Document = dict[str, object]
_Pair = tuple[Number, int]
"""A value and its status."""


def make(station: Station, uplink: Uplink) -> "SignedJson":
    """Make the format."""
    return SignedJson(station, uplink.compress or "none")


@dataclass(frozen=True, slots=True)
class SignedJson:
    """The format, and its own conversation: it remembers nothing."""

    station: Station
    compress: str
    house: bool = True

    def converse(self) -> Conversation:
        """Begin a session."""
        return self

    def try_on(self, layout: Layout, stream: str) -> None:
        """Do nothing: every layout can be told."""

    def messages(self, opened: Opened) -> Iterator[Message]:
        """Give the one message of a block."""
        text = dumps(document(opened, self.station)).encode()
        content_type, packed = jws.PACKERS[self.compress](text)
        assert self.station.signer is not None
        signed = jws.sign(packed, content_type, TYPE, self.station.signer())
        topic = f"{self.station.root}/json/{opened.header.stream}"
        marked = MEDIA_TYPE if content_type == "json" else f"{MEDIA_TYPE}; cty={content_type}"
        yield Message(topic, signed, content_type=marked)

    def forget(self) -> None:
        """Do nothing."""


def document(opened: Opened, station: Station) -> Document:
    """Give what is signed."""
    header, layouts, payload = opened.header, opened.layouts, opened.payload
    whole: Document = {
        "gateway": station.gateway,
        "stream": header.stream,
        "epoch": header.epoch.hex(),
        "seq": header.seq,
        "kid": header.kid.hex(),
        "digest": opened.digest.hex(),
        "whole": opened.whole,
        "boot": header.boot_id.hex(),
        "clock": header.clock.quality,
        "groups": [_group(opened, layouts[index], frames) for index, frames in payload.frames],
    }
    if payload.changes:
        whole["changes"] = [_changes(opened, layouts[index], changes) for index, changes in payload.changes]
    if payload.events:
        whole["events"] = [_event(opened, event) for event in payload.events]
    return whole


def _group(opened: Opened, layout: Layout, frames: Sequence[Frame]) -> Document:
    return {
        "device": layout.device,
        "every_us": None if layout.every_ns is None else layout.every_ns // _US,
        **_times(opened, [frame.t_boot_ns for frame in frames]),
        "span_us": [frame.span_ns // _US for frame in frames],
        "points": [
            _point(column, [(scale(frame.values[at]), _status(frame, at)) for frame in frames])
            for at, (column, scale) in enumerate(zip(layout.columns, scalings(layout), strict=True))
        ],
    }


def _status(frame: Frame, at: int) -> int:
    return GOOD if frame.statuses is None else frame.statuses[at]


def _point(column: Column, pairs: Sequence[_Pair]) -> Document:
    return {"name": column.name, "unit": column.unit, "kind": column.kind, **_columns(pairs)}


def _columns(pairs: Sequence[_Pair]) -> Document:
    """Give values, and statuses where there are any to tell."""
    columns: Document = {"values": [None if is_bad(status) else value for value, status in pairs]}
    marks = [_mark(row, value, status) for row, (value, status) in enumerate(pairs) if not is_good(status)]
    return {**columns, "status": marks} if marks else columns


def _mark(row: int, value: Number, status: int) -> list[object]:
    return [row, name(status), value] if is_bad(status) and value is not None else [row, name(status)]


def _changes(opened: Opened, layout: Layout, changes: Sequence[Change]) -> Document:
    scales = scalings(layout)
    names = [layout.columns[change.point].name for change in changes]
    told = list(dict.fromkeys(change.point for change in changes))
    return {
        "device": layout.device,
        "points": [
            {"name": column.name, "unit": column.unit, "kind": column.kind}
            for column in (layout.columns[point] for point in told)
        ],
        "point": names,
        "source_us": [None if change.source_ns is None else change.source_ns // _US for change in changes],
        **_times(opened, [change.t_boot_ns for change in changes]),
        "historical": [row for row, change in enumerate(changes) if change.historical],
        **_columns([(scales[change.point](change.value), change.status) for change in changes]),
    }


def _event(opened: Opened, event: Event) -> Document:
    times = _times(opened, [event.t_boot_ns])
    at = {key: value[0] if isinstance(value, list) else value for key, value in times.items()}
    return {"type": event.type, "id": event.id.hex(), **at, "data": {key: _plain(value) for key, value in event.data}}


def _plain(value: EventData) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return engineering(value, "float64")
    return [_plain(member) for member in value] if isinstance(value, tuple) else value


def _times(opened: Opened, boot_ns: Sequence[int]) -> Document:
    """Give times in microseconds, rounded down, and the largest bound of them, rounded up."""
    placed = [opened.place(at) for at in boot_ns]
    known = [instant for instant in placed if instant is not None]
    return {
        "boot_us": [at // _US for at in boot_ns],
        "utc_us": [instant.utc_ns // _US for instant in known] if len(known) == len(placed) else None,
        "bound_us": max((-(-instant.bound_ns // _US) for instant in known), default=None),
    }
