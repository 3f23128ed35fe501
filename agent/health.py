"""What is alive, late, full or refused: the figures behind `status`, `state` and the watchdog.

What is always true here:

- Every figure is written by the one task that knows it and read by anyone; this file decides nothing.
- Lateness is kept of the last `RING` ticks of a device; its percentiles are computed when asked.
- A document made for an uplink tells only of devices whose stream that uplink carries, and of none where that uplink is
  given some points only.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.link_quality import LinkQuality
from agent.standing import Standing
from drivers.api import Figures, Parked, Tally

RING = 256
"""Ticks of a device whose lateness is remembered."""

NS_PER_MS = 10**6

Document = dict[str, Any]
"""JSON to be."""

Trouble = tuple[str, Mapping[str, object]]
"""A message code and its fields; `agent.words` renders it."""


@dataclass(slots=True)
class DeviceHealth:
    """One instrument. `alive` is None until it was heard or given up."""

    stream: str
    alive: bool | None = None
    good: int = 0
    faults: int = 0
    missed: int = 0
    last_ns: int | None = None
    error: Trouble | None = None
    every_ns: int | None = None
    """The shortest configured interval of its groups; None where it pushes."""
    lateness_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RING))
    """How long after they were due the last ticks were begun."""
    achieved_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RING))
    """How long after the tick before of the same group the last ticks were begun."""

    def answered(self, t_boot_ns: int) -> None:
        """Note a frame."""
        self.alive, self.last_ns, self.error = True, t_boot_ns, None
        self.good += 1

    heard = answered

    def late_ns(self) -> dict[int, int | None]:
        """Give the percentiles 50, 95 and 99 of the lateness of the last ticks, by nearest rank."""
        return _percentiles(self.lateness_ns)

    def document(self) -> Document:
        """Render as JSON."""
        return {
            "stream": self.stream,
            "alive": self.alive,
            "good": self.good,
            "faults": self.faults,
            "missed": self.missed,
            "last_boot_ns": self.last_ns,
            "every_ms": None if self.every_ns is None else self.every_ns / NS_PER_MS,
            "achieved_ms": _in_ms(_percentiles(self.achieved_ns)),
            "late_ms": _in_ms(self.late_ns()),
            "error": trouble_document(self.error),
        }


@dataclass(slots=True)
class LinkHealth:
    """One wire and its instruments. `up` is None until the first attempt to open it has ended."""

    driver: str
    devices: dict[str, DeviceHealth]
    up: bool | None = None
    since_ns: int = 0
    error: Trouble | None = None
    parked: Callable[[], Sequence[Parked]] = tuple
    """What its devices refuse and is not asked for now."""
    figures: Callable[[], Figures] = Figures
    """What it carried."""

    def open(self, now_ns: int) -> bool:
        """Note that the link is up; say whether that is news."""
        news = self.up is not True
        self.up, self.since_ns, self.error = True, now_ns if news else self.since_ns, None
        return news

    def fail(self, now_ns: int, code: str, fields: Mapping[str, object]) -> bool:
        """Note that the link is down and why; say whether that is news."""
        news = self.up is not False
        self.up, self.since_ns, self.error = False, now_ns if news else self.since_ns, (code, fields)
        return news

    def document(self, streams: Collection[str]) -> Document:
        """Render as JSON, with the devices of the named streams only."""
        return {
            "driver": self.driver,
            "up": self.up,
            "since_boot_ns": self.since_ns,
            "error": trouble_document(self.error),
            "devices": {name: device.document() for name, device in self.devices.items() if device.stream in streams},
            "wire": self._wire(streams),
            "parked": [asdict(parked) for parked in self.parked() if self.devices[parked.device].stream in streams],
        }

    def _wire(self, streams: Collection[str]) -> Document:
        """Render what the wire carried; sums over all devices only where all of them may be seen."""
        figures = self.figures()
        tallies = {name: _tally(tally) for name, tally in figures.devices if self.devices[name].stream in streams}
        document: Document = {"devices": tallies}
        if all(device.stream in streams for device in self.devices.values()):
            load = figures.load
            document |= {"load": load and round(load, 4), "held": round(figures.held, 4), "link": _tally(figures.link)}
        return document


def _percentiles(figures: Iterable[int]) -> dict[int, int | None]:
    known = sorted(figures)
    return {q: known[math.ceil(len(known) * q / 100) - 1] if known else None for q in (50, 95, 99)}


def _in_ms(percentiles: Mapping[int, int | None]) -> Document:
    return {f"p{q}": figure and round(figure / NS_PER_MS, 3) for q, figure in percentiles.items()}


def _tally(tally: Tally) -> Document:
    trips = tally.round_trip_s
    return {
        "questions": tally.questions,
        "answers": tally.answers,
        "bytes_out": tally.bytes_out,
        "bytes_in": tally.bytes_in,
        "errors": dict(tally.errors),
        "round_trip_ms": trips
        and dict(zip(("p50", "p95", "p99"), (round(trip * 1e3, 3) for trip in trips), strict=True)),
    }


@dataclass(slots=True)
class UplinkHealth:
    """One platform. `acknowledged` (since the start) and `pending` count blocks by stream, `lost` by reason."""

    streams: tuple[str, ...]
    connected: bool = False
    since_ns: int = 0
    sessions: int = 0
    acknowledged: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    bytes_sent: int = 0
    quality: LinkQuality = field(default_factory=LinkQuality)
    standing: Standing = field(default_factory=Standing)
    """Replaced as a whole by the uplink's lookout."""
    error: Trouble | None = None
    """Why there is no connection."""
    refusal: Trouble | None = None
    """What the broker last refused; the next acknowledged block ends it."""
    restricted: bool = False
    """Whether it is given some points only: then its state tells nothing of links and devices."""

    def commit(self, stream: str) -> None:
        """Note a block to be carried."""
        self.pending[stream] = self.pending.get(stream, 0) + 1

    def acknowledge(self, stream: str) -> None:
        """Note an acknowledged block; whatever was refused before is over."""
        self.acknowledged[stream] = self.acknowledged.get(stream, 0) + 1
        self.pending[stream] -= 1
        self.refusal = None

    def lose(self, stream: str, reason: str) -> None:
        """Note a block that cannot be carried any more."""
        self.lost[reason] = self.lost.get(reason, 0) + 1
        self.pending[stream] -= 1

    def regain(self, stream: str, reason: str, blocks: int) -> None:
        """Note blocks that can be carried again."""
        self.lost[reason] -= blocks
        self.pending[stream] += blocks

    def document(self) -> Document:
        """Render as JSON."""
        return {
            "connected": self.connected,
            "since_boot_ns": self.since_ns,
            "sessions": self.sessions,
            "streams": list(self.streams),
            "acknowledged": self.acknowledged,
            "pending": self.pending,
            "lost": self.lost,
            "bytes_sent": self.bytes_sent,
            **self.standing.document(),
            "error": trouble_document(self.error),
            "refusal": trouble_document(self.refusal),
        }


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One chain: what was sealed, what is held, and the cumulative totals of its last header."""

    head: int = 0
    seq: int = -1
    digest: str = ""
    held: int = 0
    evicted: int = 0
    damaged: int = 0
    lost: int = 0
    pruned: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Blocks evicted, by reason."""
    readings: int = 0
    ticks_missed: int = 0
    dropped: int = 0

    def document(self) -> Document:
        """Render as JSON; `sealed` = held + evicted + damaged + lost + pruned."""
        return {
            "sealed": self.head,
            "held": self.held,
            "evicted": self.evicted,
            "damaged": self.damaged,
            "lost": self.lost,
            "pruned": self.pruned,
            "evicted_by": dict(self.reasons),
            "seq": self.seq,
            "digest": self.digest,
            "readings": self.readings,
            "ticks_missed": self.ticks_missed,
            "dropped": self.dropped,
        }


@dataclass(slots=True)
class Health:
    """The whole station."""

    gateway: str
    version: str
    key_id: str
    config_digest: str
    started_ns: int
    links: dict[str, LinkHealth] = field(default_factory=dict)
    uplinks: dict[str, UplinkHealth] = field(default_factory=dict)
    streams: dict[str, StreamHealth] = field(default_factory=dict)
    clock: Document = field(default_factory=dict)
    buffer_error: Trouble | None = None
    buffer_alarm: Trouble | None = None
    """What does not keep it from working, and will."""
    buffer: Document = field(default_factory=dict)
    """Room, running time, and how far each stream is proven."""
    volatile: bool = False
    """Blocks are sealed in memory, because the buffer cannot be written."""
    ring: Document = field(default_factory=dict)
    """What is in memory only."""
    key_error: Trouble | None = None
    """Why the platform cannot know the key."""
    config_error: Trouble | None = None
    """Why the last reload was refused; the configuration before it runs on."""

    def document(self, now_ns: int, uplink: str | None = None) -> Document:
        """Render the state as JSON: of the whole station, or of what concerns one uplink's streams."""
        streams = self.uplinks[uplink].streams if uplink else tuple(self.streams)
        restricted = uplink is not None and self.uplinks[uplink].restricted
        links = {} if restricted else {name: link.document(streams) for name, link in self.links.items()}
        return {
            "gateway": self.gateway,
            "version": self.version,
            "key": self.key_id,
            "key_error": trouble_document(self.key_error),
            "config": self.config_digest,
            "config_error": trouble_document(self.config_error),
            "uptime_s": round((now_ns - self.started_ns) / 1e9, 3),
            "boot_ns": now_ns,
            "clock": self.clock,
            "links": {name: link for name, link in links.items() if link["devices"]},
            "streams": {name: self.streams[name].document() for name in streams if name in self.streams},
            "uplinks": {name: self.uplinks[name].document() for name in self.uplinks if uplink in (None, name)},
            "buffer": {
                "error": trouble_document(self.buffer_error),
                "alarm": trouble_document(self.buffer_alarm),
                "volatile": self.volatile,
                **self._buffer_of(streams),
            },
            "ring": self.ring,
        }

    def _buffer_of(self, streams: Collection[str]) -> Document:
        scrub = {name: done for name, done in self.buffer.get("scrub", {}).items() if name in streams}
        return {**self.buffer, "scrub": scrub} if self.buffer else {}


def trouble_document(trouble: Trouble | None) -> Document | None:
    """Render a message code and its fields as JSON."""
    if trouble is None:
        return None
    code, fields = trouble
    return {"code": code, **{name: str(value) for name, value in fields.items()}}
