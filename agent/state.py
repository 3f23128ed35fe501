"""What a platform is told of a station in `state`: less than `status` shows, since every byte of it is paid for.

What is always true here:

- Whatever stands here stands in `status` too, under the same names and with the same meaning. What is nothing there (no
  fault, no error, none missed) is left out here, and when a device was last heard where it is alive.
- It is made from a document that concerns one uplink's streams already; nothing is added to it.
- What is worth telling at once is what runs, is up, alive, parked, in trouble, lost, or no longer to be believed; not a
  figure that moves: a platform counts blocks by itself.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from agent.health import Document, Health, LinkHealth

_WHOLE = ("gateway", "version", "key", "config", "uptime_s", "boot_ns", "clock")
_LEDGER = ("seq", "digest", "sealed", "held", "readings")
"""Of a stream, even where they are zero; other figures of its ledger only where they are not."""
_ALARMS = ("error", "alarm", "volatile")


@dataclass(frozen=True, slots=True)
class State:
    """What one uplink is told, whenever it is asked for. `now_ns` gives boot time."""

    health: Health
    uplink: str
    now_ns: Callable[[], int]

    def document(self) -> Document:
        """Render it."""
        return compact(self.health.document(self.now_ns(), self.uplink))

    def essence(self) -> object:
        """Give what of it is worth telling at once, to be compared."""
        return essence(self.health, self.uplink)


def compact(status: Document) -> Document:
    """Give what a platform is told of a document that was made for its uplink."""
    return {name: status[name] for name in _WHOLE} | _told(
        {
            "key_error": status["key_error"],
            "config_error": status["config_error"],
            "links": {name: _link(link) for name, link in status["links"].items()},
            "streams": {name: _stream(stream) for name, stream in status["streams"].items()},
            "uplinks": {name: _told(uplink) for name, uplink in status["uplinks"].items()},
            "buffer": alarms(status["buffer"]),
            "ring": status["ring"] if status["ring"].get("blocks") or status["ring"].get("lost") else None,
        }
    )


def essence(health: Health, uplink: str) -> object:
    """Give what is worth telling an uplink at once, to be compared with what it was told; nothing is rendered."""
    mine = health.uplinks[uplink]
    links = () if mine.restricted else health.links.items()
    return (
        tuple((name, told) for name, link in links if (told := _essence_of(link, mine.streams))),
        tuple(mine.lost),
        (health.key_id, health.key_error, health.config_digest, health.config_error),
        (health.buffer_error, health.buffer_alarm, health.volatile, health.clock.get("quality")),
    )


def _essence_of(link: LinkHealth, streams: Collection[str]) -> object:
    """Give of a link what is worth telling at once; nothing where none of its devices is the uplink's concern."""
    alive = [(name, device.alive) for name, device in link.devices.items() if device.stream in streams]
    parked = [one for one in link.parked() if link.devices[one.device].stream in streams]
    return (link.up, alive, parked) if alive else ()


def alarms(buffer: Document) -> Document:
    """Leave of the buffer's figures what is wrong."""
    return _told({name: buffer.get(name) for name in _ALARMS})


def _link(link: Document) -> Document:
    devices = {name: _device(device) for name, device in link["devices"].items()}
    parked = _told({"parked": _kept(link["parked"])})
    return {"up": link["up"], **_told({"error": link["error"]}), "devices": devices, **parked}


def _kept(parked: Iterable[Document]) -> list[Document]:
    return [{name: one[name] for name in ("device", "reason", "points")} for one in parked]


def _device(device: Document) -> Document:
    told = {name: device[name] for name in ("faults", "missed", "error")}
    if not device["alive"]:
        told["last_boot_ns"] = device["last_boot_ns"]
    late = device["late_ms"]["p99"]
    return {"alive": device["alive"], **_told({**told, "late_ms": late and {"p99": late}})}


def _stream(stream: Document) -> Document:
    return {name: figure for name, figure in stream.items() if name in _LEDGER or figure}


def _told(facts: Document) -> Document:
    """Leave out what is nothing."""
    return {name: fact for name, fact in facts.items() if fact not in (None, {}, [], 0, "")}
