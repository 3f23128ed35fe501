"""Format `thingsboard`: the MQTT Gateway API of ThingsBoard (its reference, "MQTT Gateway API").

What is always true here:

- The topics are ThingsBoard's own: `v1/gateway/connect`, `v1/gateway/attributes`, `v1/gateway/telemetry`. The station's
  `online` and `state` do not belong there.
- A device is named `<gateway>/<device>`: names are unique in a tenant of ThingsBoard, and two stations may both have a
  `meter`. Its type, from which ThingsBoard picks the device profile, is our profile's name, else the driver's.
- A device is connected, and its attributes are told, once a session before its first telemetry, and the attributes
  again when they change. They are publishes of that block like any other.
- Only data whose time is known are sent; `ts` is in milliseconds. A change has its source's time where it gave one.
- What is Bad, absent or no finite number is left out; what is Uncertain is sent.
- A message is at most `chunk` bytes, unless a single value is longer. Rows are split where need be: ThingsBoard puts
  values of one `ts` together again. A repeat of a block repeats keys and times, so it overwrites and adds nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.broker import Message
from agent.formats.api import UNTIMED, Answer, CannotTell, Conversation, Opened, Station
from agent.formats.numbers import Number, dumps, scalings
from buffer.frame import Change, Frame, Layout
from buffer.status import GOOD, is_bad
from config.model import Uplink

CONNECT = "v1/gateway/connect"
ATTRIBUTES = "v1/gateway/attributes"
TELEMETRY = "v1/gateway/telemetry"
CHUNK = 60_000
"""The default; ThingsBoard's own default limit of a payload is 65,536 bytes."""
_NS_PER_MS = 10**6
_TEXTS = ("text", "bytes")


class Row(NamedTuple):
    """Values of one device at one time: texts of JSON, by key."""

    device: str
    ts_ms: int
    values: Mapping[str, str]


def make(station: Station, uplink: Uplink) -> "ThingsBoard":
    """Make the format."""
    return ThingsBoard(station, uplink.chunk or CHUNK)


@dataclass(frozen=True, slots=True)
class ThingsBoard:
    """The format. `chunk` is bytes of a payload."""

    station: Station
    chunk: int
    house: bool = False

    def converse(self) -> Conversation:
        """Begin a session."""
        return _Told(self)

    def try_on(self, layout: Layout, stream: str) -> None:
        """Do nothing: every layout can be told."""

    def name(self, device: str) -> str:
        """Give a device's name at the platform."""
        return f"{self.station.gateway}/{device}"


@dataclass(slots=True)
class _Told:
    """A session: what each device is known by."""

    format: ThingsBoard
    attributes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def messages(self, opened: Opened) -> Answer:
        """Give introductions of the devices that need one, then telemetry."""
        if not (opened.payload.frames or opened.payload.changes):
            return iter(())
        return opened.untimed() or self._tell(opened)

    def forget(self) -> None:
        """Introduce every device again."""
        self.attributes.clear()

    def _tell(self, opened: Opened) -> Iterator[Message]:
        for device in dict.fromkeys(_spoken(opened)):
            layouts = [layout for layout in opened.layouts if layout.device == device]
            yield from self._introduce(device, layouts)
        for payload in chunks(_rows(opened, self.format), self.format.chunk):
            yield Message(TELEMETRY, payload)

    def _introduce(self, device: str, layouts: Sequence[Layout]) -> Iterator[Message]:
        attributes = _attributes(self.format.station, device, layouts)
        told = self.attributes.get(device)
        if told == attributes:
            return
        self.attributes[device] = attributes
        name = self.format.name(device)
        if told is None:
            kind = self.format.station.profiles.get(device) or layouts[0].driver
            yield Message(CONNECT, dumps({"device": name, "type": kind}).encode())
        for payload in _attribute_chunks(name, attributes, self.format.chunk):
            yield Message(ATTRIBUTES, payload)


def _spoken(opened: Opened) -> Iterator[str]:
    """Name the devices that a block tells of."""
    for index, _ in (*opened.payload.frames, *opened.payload.changes):
        yield opened.layouts[index].device


def _attributes(station: Station, device: str, layouts: Iterable[Layout]) -> dict[str, str]:
    """Give a device's attributes, texts of JSON by key: where it is, and unit and address of each point."""
    found: dict[str, str] = {}
    for layout in layouts:
        facts = {"gateway": station.gateway, "link": layout.link, "driver": layout.driver}
        facts |= {"profile": station.profiles.get(device) or ""}
        facts |= {f"{column.name}.unit": column.unit for column in layout.columns}
        facts |= {f"{column.name}.address": column.address for column in layout.columns}
        found |= {key: dumps(text) for key, text in facts.items() if text}
    return found


def _attribute_chunks(name: str, attributes: Mapping[str, str], most: int) -> Iterator[bytes]:
    head, tail = f"{{{dumps(name)}:{{", "}}"
    for part in _parts(attributes, most - len(head.encode()) - len(tail)):
        yield f"{head}{part}{tail}".encode()


def _rows(opened: Opened, format_: ThingsBoard) -> Iterator[Row]:
    """Give every row of a block that has something to say, in order."""
    for index, frames in opened.payload.frames:
        layout = opened.layouts[index]
        for frame in frames:
            yield from _row(format_.name(layout.device), _ms(opened, frame.t_boot_ns), _frame_values(layout, frame))
    for index, changes in opened.payload.changes:
        layout = opened.layouts[index]
        for change in changes:
            at_ms = _ms(opened, change.t_boot_ns) if change.source_ns is None else change.source_ns // _NS_PER_MS
            yield from _row(format_.name(layout.device), at_ms, _change_values(layout, change))


def _row(name: str, ts_ms: int, values: dict[str, str]) -> Iterator[Row]:
    if values:
        yield Row(name, ts_ms, values)


def _ms(opened: Opened, boot_ns: int) -> int:
    instant = opened.place(boot_ns)
    if instant is None:
        raise CannotTell(UNTIMED)
    return instant.utc_ns // _NS_PER_MS


def _frame_values(layout: Layout, frame: Frame) -> dict[str, str]:
    statuses = frame.statuses or (GOOD,) * len(frame.values)
    scaled = [scale(value) for scale, value in zip(scalings(layout), frame.values, strict=True)]
    told = zip(layout.columns, scaled, statuses, strict=True)
    return {column.name: dumps(value) for column, value, status in told if _fit(value, status, column.kind)}


def _change_values(layout: Layout, change: Change) -> dict[str, str]:
    column = layout.columns[change.point]
    value = scalings(layout)[change.point](change.value)
    return {column.name: dumps(value)} if _fit(value, change.status, column.kind) else {}


def _fit(value: Number, status: int, kind: str) -> bool:
    """Say whether a value may be sent; the text that stands for what is no number may not."""
    return value is not None and not is_bad(status) and (not isinstance(value, str) or kind in _TEXTS)


def chunks(rows: Iterable[Row], most: int) -> Iterator[bytes]:
    """Write rows as `{device: [{"ts":..., "values": {...}}, ...], ...}`, at most so many bytes each."""
    gathered: dict[str, list[str]] = {}
    size = 2
    for row in rows:
        head = f'{{"ts":{row.ts_ms},"values":{{'
        name_bytes = len(dumps(row.device).encode()) + 4
        for part in _parts(row.values, most - 2 - name_bytes - len(head) - 2):
            entry = f"{head}{part}}}}}"
            more = len(entry.encode()) + 1 + (0 if row.device in gathered else name_bytes)
            if gathered and size + more > most:
                yield _telemetry(gathered)
                gathered, size = {}, 2
                more = len(entry.encode()) + 1 + name_bytes
            gathered.setdefault(row.device, []).append(entry)
            size += more
    if gathered:
        yield _telemetry(gathered)


def _telemetry(gathered: Mapping[str, Sequence[str]]) -> bytes:
    devices = (f"{dumps(name)}:[{','.join(entries)}]" for name, entries in gathered.items())
    return f"{{{','.join(devices)}}}".encode()


def _parts(members: Mapping[str, str], most: int) -> Iterator[str]:
    """Write members of a JSON object, without its braces, in parts of at most so many bytes, each at least one."""
    part: list[str] = []
    size = 0
    for key, text in members.items():
        member = f"{dumps(key)}:{text}"
        length = len(member.encode()) + 1
        if part and size + length - 1 > most:
            yield ",".join(part)
            part, size = [], 0
        part.append(member)
        size += length
    if part:
        yield ",".join(part)
