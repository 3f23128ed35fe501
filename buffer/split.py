"""Dividing a payload that is too large for one block, without losing its order.

What is always true here:

- An *entry* is one frame, one change or one event. The parts together hold every entry once; within a group, and among
  the events, they keep their order. The first event and the definitions are in the first part. Each part has an entry.

The packer enters.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from buffer.columnar import Payload

T = TypeVar("T")
Groups = tuple[tuple[int, tuple[T, ...]], ...]


def entries(payload: Payload) -> int:
    """Count frames, changes and events."""
    return payload.count_frames() + sum(len(changes) for _, changes in payload.changes) + len(payload.events)


def divide(payload: Payload, parts: int) -> list[Payload]:
    """Divide into at most `parts` payloads (at least 2) of about equally many entries. There must be two entries."""
    slices = [
        Payload(
            frames=_slice(payload.frames, part, parts),
            changes=_slice(payload.changes, part, parts),
            events=_part(payload.events, part, parts),
        )
        for part in range(parts)
    ]
    found = [part for part in slices if entries(part)]
    if len(found) < 2:
        found = _halves(payload)
    return [replace(found[0], definitions=payload.definitions), *found[1:]]


def _slice(groups: Groups[T], part: int, parts: int) -> Groups[T]:
    """Give one part in time of every group."""
    cut = ((index, _part(members, part, parts)) for index, members in groups)
    return tuple((index, members) for index, members in cut if members)


def _part(members: tuple[T, ...], part: int, parts: int) -> tuple[T, ...]:
    """Give one of `parts` slices; what is fewer than the parts is in the first ones."""
    count = len(members)
    return members[-(-part * count // parts) : -(-(part + 1) * count // parts)]


def _halves(payload: Payload) -> list[Payload]:
    """Divide where every group has a single entry: half of the entries each."""
    singles = [
        *(Payload(events=(event,)) for event in payload.events),
        *(Payload(frames=(group,)) for group in payload.frames),
        *(Payload(changes=(group,)) for group in payload.changes),
    ]
    middle = len(singles) // 2
    return [_together(singles[:middle]), _together(singles[middle:])]


def _together(payloads: Sequence[Payload]) -> Payload:
    return Payload(
        frames=tuple(chain.from_iterable(payload.frames for payload in payloads)),
        changes=tuple(chain.from_iterable(payload.changes for payload in payloads)),
        events=tuple(chain.from_iterable(payload.events for payload in payloads)),
    )
