"""Dividing a payload that is too large for one block, without losing its order.

What is always true here:

- An *entry* is one frame or one change. The parts together hold every entry once; within a group they keep their order.
- Events and definitions stay with the first part. Every part has an entry.

The sealer enters.
"""

from typing import TypeVar

from buffer.columnar import Payload

T = TypeVar("T")
Groups = tuple[tuple[int, tuple[T, ...]], ...]


def entries(payload: Payload) -> int:
    """Count frames and changes."""
    return payload.count_frames() + sum(len(changes) for _, changes in payload.changes)


def divide(payload: Payload, parts: int) -> list[Payload]:
    """Divide into at most `parts` payloads (at least 2) of about equally many entries. There must be two entries."""
    slices = [
        Payload(frames=_slice(payload.frames, part, parts), changes=_slice(payload.changes, part, parts))
        for part in range(parts)
    ]
    found = [part for part in slices if entries(part)]
    if len(found) < 2:
        found = _divide_groups(payload)
    return [Payload(found[0].frames, found[0].changes, payload.events, payload.definitions), *found[1:]]


def _slice(groups: Groups[T], part: int, parts: int) -> Groups[T]:
    """Give one part in time of every group."""
    cut = ((index, _part(members, part, parts)) for index, members in groups)
    return tuple((index, members) for index, members in cut if members)


def _part(members: tuple[T, ...], part: int, parts: int) -> tuple[T, ...]:
    count = len(members)
    return members[part * count // parts : (part + 1) * count // parts]


def _divide_groups(payload: Payload) -> list[Payload]:
    """Divide where every group has a single entry: half of the groups each."""
    half = (len(payload.frames) + len(payload.changes)) // 2
    rest = max(0, half - len(payload.frames))
    return [
        Payload(frames=payload.frames[:half], changes=payload.changes[:rest]),
        Payload(frames=payload.frames[half:], changes=payload.changes[rest:]),
    ]
