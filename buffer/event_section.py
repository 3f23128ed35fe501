"""The events of a payload: `[[type, boot time, id, [key, value, ...]], ...]`, in the order they happened.

What is always true here:

- A type is at most `MAX_TYPE` characters, an id 8 bytes. Data are text keys with plain values: null, booleans,
  integers of 64 bits, floats, text, bytes, and arrays of those. An event of an unknown type is kept as it is.

The columnar codec enters.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from buffer.cbor import expect, instant
from buffer.errors import BlockInvalid
from buffer.frame import Event, EventData

ID_BYTES = 8
MAX_TYPE = 64
_PLAIN = (type(None), bool, int, float, str, bytes)


def write_events(events: Sequence[Event]) -> list[object]:
    """Give the section. Raises ValueError for what the format cannot carry."""
    if any(len(event.id) != ID_BYTES or len(event.type) > MAX_TYPE for event in events):
        raise ValueError("an event's id is not 8 bytes, or its type too long")
    for event in events:
        _check([value for _, value in event.data])
    return [[event.type, event.t_boot_ns, event.id, list(chain.from_iterable(event.data))] for event in events]


def _check(value: object) -> None:
    """Refuse what CBOR would need a tag for, or what is not plain."""
    if isinstance(value, list | tuple):
        for member in value:
            _check(member)
    elif type(value) not in _PLAIN or (isinstance(value, int) and not -(1 << 64) <= value < 1 << 64):
        raise ValueError(f"an event cannot carry {type(value).__name__} {str(value)[:40]}")


def read_events(section: object) -> tuple[Event, ...]:
    """Undo `write_events`."""
    return tuple(_event(entry) for entry in expect(section, list, "events"))


def _event(entry: Any) -> Event:
    if len(expect(entry, list, "events")) < 4:
        raise BlockInvalid("events")
    identity, flat = expect(entry[2], bytes, "events"), expect(entry[3], list, "events")
    if len(identity) != ID_BYTES or len(flat) % 2:
        raise BlockInvalid("events")
    keys = [expect(key, str, "events") for key in flat[::2]]
    data = tuple(zip(keys, map(_plain, flat[1::2]), strict=True))
    return Event(expect(entry[0], str, "events"), instant(entry[1], "events"), identity, data)


def _plain(value: Any) -> EventData:
    if type(value) is list:
        return tuple(_plain(member) for member in value)
    if type(value) not in _PLAIN:
        raise BlockInvalid("events")
    plain: EventData = value
    return plain
