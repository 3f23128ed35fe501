"""What came in and is not sealed yet: batches by stream, and behind them, in order, those that wait for a commit.

What is always true here:

- Adding a frame is one dictionary look-up and one append.
- What could not be committed waits in order. While too much waits `roomy` is not set, and pollers wait too.
- An event of priority, the first frame after the start, and very many readings ask by `urgent` to be sealed at once. A
  stream has a batch at least every five minutes, empty if need be.
- Repeats of one event and subject merge to one a minute, and are entered in the order of their last occurrence: the
  last word in the logbook is true.

Only the recorder enters, from the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from buffer.frame import Change, Event, EventData, Frame
from buffer.seal import Batch
from drivers.api import Clock, Group

NS_PER_S = 10**9
SEAL_AT_READINGS = 50_000
"""So many unsealed readings seal early: a commit stays short, memory small."""
ROOM_READINGS = 400_000
"""So many readings may wait for a commit before pollers must wait."""
EMPTY_SEAL_NS = 300 * NS_PER_S
MERGE_NS = 60 * NS_PER_S


@dataclass(slots=True)
class _Merged:
    """An event that was entered, and the repeats of it that were not yet."""

    first_ns: int
    last_ns: int
    data: Mapping[str, EventData]
    streams: tuple[str, ...]
    repeats: int = 0


class Gathering:
    """Batches of every stream, until they are sealed."""

    def __init__(self, clock: Clock, streams: Iterable[str], new_event_id: Callable[[], bytes]) -> None:
        self._clock = clock
        self._streams = tuple(streams)
        self._new_event_id = new_event_id
        self._batches: dict[str, Batch] = {}
        self._readings = 0
        self._waiting: deque[tuple[dict[str, Batch], int]] = deque()
        self._unsealed = 0
        self._fresh_start = True
        self._sealed_ns = dict.fromkeys(self._streams, clock.boot_ns())
        self.merged: dict[tuple[str, str], _Merged] = {}
        """By kind and subject: what was entered lately."""
        self.urgent = asyncio.Event()
        self.roomy = asyncio.Event()
        self.roomy.set()

    def begin(self) -> None:
        """Have every stream sealed once, whatever comes in."""
        self._batches = {stream: Batch() for stream in self._streams}

    def turn(self, streams: Iterable[str]) -> None:
        """Gather for these streams from now on."""
        self._streams = tuple(streams)
        self._sealed_ns = {**dict.fromkeys(self._streams, self._clock.boot_ns()), **self._sealed_ns}

    # -- the way in ------------------------------------------------------------------------------------------------

    def add(self, group: Group, frame: Frame) -> None:
        """Take one frame of a group."""
        self._batch(group.stream).add_frame(group.layout, frame)
        self._count(len(frame.values))

    def add_changes(self, group: Group, changes: Sequence[Change]) -> None:
        """Take changes of a group, in order of arrival."""
        self._batch(group.stream).add_changes(group.layout, changes)
        self._count(len(changes))

    def missed(self, stream: str, ticks: int) -> None:
        """Count ticks that could not be served."""
        self._batch(stream).ticks_missed += ticks

    def event(self, kind: str, data: Mapping[str, EventData], streams: Iterable[str] | None, *, urgent: bool) -> None:
        """Enter an event, or merge it with the one like it that was entered lately. By default in all streams."""
        now_ns = self._clock.boot_ns()
        key = (kind, str(next(iter(data.values()), "")))
        where = tuple(self._streams if streams is None else streams)
        merged = self.merged.get(key)
        if merged is not None and not urgent:
            merged.repeats += 1
            merged.last_ns, merged.data, merged.streams = now_ns, data, where
            return
        self.merged[key] = _Merged(now_ns, now_ns, data, where)
        self._enter(kind, now_ns, data, where)
        if urgent:
            self.urgent.set()

    def _enter(self, kind: str, t_ns: int, data: Mapping[str, EventData], streams: Iterable[str]) -> None:
        event = Event(kind, t_ns, self._new_event_id(), tuple(data.items()))
        for stream in streams:
            self._batch(stream).events.append(event)

    def _batch(self, stream: str) -> Batch:
        batch = self._batches.get(stream)
        if batch is None:
            batch = self._batches[stream] = Batch()
        return batch

    def _count(self, readings: int) -> None:
        self._readings += readings
        self._unsealed += readings
        if self._fresh_start or self._unsealed >= SEAL_AT_READINGS:
            self._fresh_start = False
            self.urgent.set()
        if self._unsealed >= ROOM_READINGS:
            self.roomy.clear()

    # -- the way out -----------------------------------------------------------------------------------------------

    @property
    def oldest(self) -> dict[str, Batch] | None:
        """The batches that wait longest, the same until they are done with; None where nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def unsealed(self) -> int:
        """Readings that are not sealed yet."""
        return self._unsealed

    def tell_merged(self) -> None:
        """Enter what was merged for a minute."""
        self._tell_merged(MERGE_NS)

    def tell_all_merged(self) -> None:
        """Enter what was merged, however lately."""
        self._tell_merged(0)

    def close_batches(self) -> None:
        """Have what was gathered wait for a commit, with an empty batch of a stream that had none for long."""
        now_ns = self._clock.boot_ns()
        for stream in self._streams:
            if now_ns - self._sealed_ns[stream] >= EMPTY_SEAL_NS:
                self._batch(stream)
        if self._batches:
            self._sealed_ns.update(dict.fromkeys(self._batches, now_ns))
            self._waiting.append((self._batches, self._readings))
            self._batches, self._readings = {}, 0

    def done_with_oldest(self) -> None:
        """Let go of the batches that waited longest: they are sealed."""
        self._unsealed -= self._waiting.popleft()[1]
        if self._unsealed < ROOM_READINGS:
            self.roomy.set()

    def _tell_merged(self, age_ns: int) -> None:
        now_ns = self._clock.boot_ns()
        ended = [(key, merged) for key, merged in self.merged.items() if now_ns - merged.first_ns >= age_ns]
        for (kind, subject), merged in sorted(ended, key=lambda item: item[1].last_ns):
            del self.merged[kind, subject]
            if merged.repeats:
                self._enter(kind, merged.last_ns, {**merged.data, "repeats": merged.repeats}, merged.streams)
