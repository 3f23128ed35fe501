"""Format `template`: a platform's own messages, topic and payload from Jinja templates, for each frame or each reading.

What is always true here:

- A topic is a topic and not a filter: no `+`, `#` or NUL in it, not empty, at most 65,535 bytes. No prefix is added.
- A payload that comes out blank is not published: a template may leave out what its platform does not want.
- `value` is null where a reading is Bad or no finite number: neither is ever sent as a plain number.
- A template that names `utc_us`, `utc_ms` or `bound_us` needs time, and its blocks wait for it; another does not.
- With `each: frame` a change is a frame of one point.
- A template is read, and tried on every layout, when the configuration is checked. What fails all the same later skips
  the block, with reason `template`.

The variables stand in `VARIABLES`, `READING` and `FRAME`, and in docs/formats.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.broker import Message
from agent.formats.api import Answer, CannotTell, Conversation, FormatMisconfigured, Opened, Station
from agent.formats.numbers import scalings
from agent.formats.sandbox import Budget, Sandbox, Template, TemplateFault
from buffer.frame import Layout, Value
from buffer.status import BAD, GOOD, is_bad, is_good, name
from config.model import Template as Settings
from config.model import Uplink

TIMES = ("utc_us", "utc_ms", "bound_us")
VARIABLES = (
    *("gateway", "stream", "device", "link", "driver", "boot", "boot_us", "epoch", "seq", "digest"),
    *("source_us", "historical", *TIMES),
)
READING = ("point", "unit", "kind", "value", "status", "good")
FRAME = ("points", "values")
MAX_TOPIC = 65_535
REASON = "template"
_US = 1000
_SHOWN = 80

Variables = dict[str, object]


class Telling(NamedTuple):
    """A frame, or a change: what one rendering, or a series of them, is about. `cells` are column, value, status."""

    layout: Layout
    t_boot_ns: int
    cells: Sequence[tuple[int, Value, int]]
    source_ns: int | None = None
    historical: bool = False


def make(station: Station, uplink: Uplink) -> "Templated":
    """Make the format. Raises FormatMisconfigured."""
    assert uplink.template is not None, "the configuration was judged"
    sandbox = Sandbox(station.timezone)
    topic = _read(sandbox, uplink.template, "topic", uplink.template.topic)
    payload = _read(sandbox, uplink.template, "payload", uplink.template.payload)
    return Templated(station, uplink.template, topic, payload)


def _read(sandbox: Sandbox, settings: Settings, key: str, source: str) -> Template:
    try:
        template = sandbox.read(source)
    except TemplateFault as fault:
        raise FormatMisconfigured(
            "format.template-unreadable", ("template", key), reason=fault.reason, line=max(fault.line, 1)
        ) from fault
    known = {*VARIABLES, *(READING if settings.each == "reading" else FRAME)}
    if unknown := sorted(template.names - known):
        raise FormatMisconfigured(
            "format.template-unknown-name", ("template", key), name=unknown[0], known=", ".join(sorted(known))
        )
    return template


@dataclass(frozen=True, slots=True)
class Templated:
    """The format, and its own conversation: it remembers nothing."""

    station: Station
    settings: Settings
    topic: Template
    payload: Template
    house: bool = False

    def converse(self) -> Conversation:
        """Begin a session."""
        return self

    def messages(self, opened: Opened) -> Answer:
        """Give what the templates make of a block."""
        if not (opened.payload.frames or opened.payload.changes):
            return iter(())
        timed = not (self.topic.names | self.payload.names).isdisjoint(TIMES)
        return (opened.untimed() if timed else None) or self._tell(opened)

    def forget(self) -> None:
        """Do nothing."""

    def try_on(self, layout: Layout, stream: str) -> None:
        """Render a frame of a layout, all good and all Bad. Raises FormatMisconfigured."""
        common: Variables = dict.fromkeys(VARIABLES)
        common |= {"gateway": self.station.gateway, "stream": stream, **dict.fromkeys(("boot", "epoch", "digest"), "")}
        common |= {"seq": 1, "boot_us": 0, "historical": False, **dict.fromkeys(TIMES, 0)}
        good = [(at, _ZERO.get(column.kind, 0), GOOD) for at, column in enumerate(layout.columns)]
        bad = [(at, None, BAD) for at in range(len(layout.columns))]
        for cells in (good, bad):
            for variables in self._variables(Telling(layout, 0, cells), common):
                self._try("payload", self.payload, variables)
                topic = self._try("topic", self.topic, variables)
                if not _is_topic(topic):
                    raise FormatMisconfigured("format.template-topic", ("template", "topic"), topic=topic[:_SHOWN])

    def _try(self, key: str, template: Template, variables: Variables) -> str:
        try:
            return template.render(variables, Budget())
        except TemplateFault as fault:
            where = ("template", key)
            device = str(variables["device"])
            raise FormatMisconfigured("format.template-fails", where, reason=fault.reason, device=device) from fault

    def _tell(self, opened: Opened) -> Iterator[Message]:
        budget = Budget()
        for told in _tellings(opened):
            common = _common(self.station, opened, told)
            for variables in self._variables(told, common):
                if message := self._message(variables, budget):
                    yield message

    def _variables(self, told: Telling, common: Mapping[str, object]) -> Iterator[Variables]:
        """Give the variables of each rendering."""
        layout = told.layout
        place = {"device": layout.device, "link": layout.link, "driver": layout.driver}
        readings = [_reading(layout, *cell) for cell in told.cells]
        if self.settings.each == "reading":
            for reading in readings:
                yield {**common, **place, **reading}
            return
        points = [{**reading, "name": reading["point"]} for reading in readings]
        values = {str(one["point"]): one["value"] for one in readings if one["value"] is not None}
        yield {**common, **place, "points": points, "values": values}

    def _message(self, variables: Variables, budget: Budget) -> Message | None:
        try:
            payload = self.payload.render(variables, budget)
            if not payload.strip():
                return None
            topic = self.topic.render(variables, budget)
        except TemplateFault as fault:
            raise CannotTell(REASON, fault.reason) from fault
        if not _is_topic(topic):
            raise CannotTell(REASON, f"not a topic: {topic[:_SHOWN]!r}")
        return Message(topic, payload.encode(), content_type=self.settings.content_type)


_ZERO: dict[str, Value] = {"bool": False, "text": "", "bytes": b"", "float16": 0.0, "float32": 0.0, "float64": 0.0}


def _is_topic(text: str) -> bool:
    """Judge by MQTT 5, section 4.7."""
    return 0 < len(text.encode()) <= MAX_TOPIC and not any(mark in text for mark in "+#\x00\n")


def _tellings(opened: Opened) -> Iterator[Telling]:
    for index, frames in opened.payload.frames:
        layout = opened.layouts[index]
        columns = range(len(layout.columns))
        for frame in frames:
            statuses = frame.statuses or (GOOD,) * len(columns)
            yield Telling(layout, frame.t_boot_ns, list(zip(columns, frame.values, statuses, strict=True)))
    for index, changes in opened.payload.changes:
        for change in changes:
            cells = [(change.point, change.value, change.status)]
            yield Telling(opened.layouts[index], change.t_boot_ns, cells, change.source_ns, change.historical)


def _common(station: Station, opened: Opened, told: Telling) -> Variables:
    header, instant = opened.header, opened.place(told.t_boot_ns)
    return {
        "gateway": station.gateway,
        "stream": header.stream,
        "boot": header.boot_id.hex(),
        "boot_us": told.t_boot_ns // _US,
        "epoch": header.epoch.hex(),
        "seq": header.seq,
        "digest": opened.digest.hex(),
        "source_us": None if told.source_ns is None else told.source_ns // _US,
        "historical": told.historical,
        "utc_us": None if instant is None else instant.utc_ns // _US,
        "utc_ms": None if instant is None else instant.utc_ns // (_US * _US),
        "bound_us": None if instant is None else -(-instant.bound_ns // _US),
    }


def _reading(layout: Layout, at: int, raw: Value, status: int) -> Variables:
    column = layout.columns[at]
    value = scalings(layout)[at](raw)
    number = not isinstance(value, str) or column.kind in ("text", "bytes")
    return {
        "point": column.name,
        "unit": column.unit,
        "kind": column.kind,
        "value": value if number and not is_bad(status) else None,
        "status": name(status),
        "good": is_good(status),
    }
