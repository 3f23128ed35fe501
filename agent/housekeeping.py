"""Housekeeping: what must go of the buffer and when, and the scrub that proves the whole store within a day.

What is always true here:

- It only plans, in slices of some ten milliseconds between two seals; the keeper makes the changes with the next
  commit, in which their events are sealed. What is planned for a commit that fails is forgotten, and planned again.
- Delivered payloads go first: those older than `keep`, and, when room is needed, the oldest of them. Then the
  undelivered go as `when_full` says. Headers and events go when they take more than a tenth of `limit`.
- Delivered means acknowledged to every configured uplink that carries the stream. Of a stream that none carries
  nothing is delivered: its payloads go when they are older than `keep`, as `oldest`, or by policy when room is needed.
- What is damaged in a stream is taken away before anything else is done to it.
- What was sealed in memory is adopted before the bound of the file is set again: it may grow beyond it by that much.
- Age is running time: it stands still while the station is off, and no clock can make it jump.

The keeper enters, in the owner's thread.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.health import Document, Trouble
from buffer import again
from buffer.changes import DELIVERED, Aged, Change, Damage, Thinned
from buffer.evict import BATCH, Evictor
from buffer.holes import RUNNING
from buffer.intervals import Intervals
from buffer.prune import Pruner
from buffer.quota import Quota
from buffer.store import Space, Store

NS_PER_S = 10**9
_MB = 10**6
NOTE_RUNNING_NS = 300 * NS_PER_S
"""A crash loses at most so much of the running time: things are kept that much longer."""
AGE_MARKS = 256
"""So many marks of age over `keep`."""
SCRUB_WITHIN_NS = 20 * 3600 * NS_PER_S
PROVE_LAST = 1000
"""Blocks of a stream that are proven before polling begins; the scrub proves the rest."""
SCRUB_ROWS = 64
"""Rows a slice: some ten milliseconds of proving."""
PRUNE_AGAIN_NS = 60 * NS_PER_S
URGENT_BATCHES = 8
"""Slices that make room where a commit had none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the technician's file says: the quota, and the streams that each uplink carries (None: all)."""

    quota: Quota | None = None
    carriers: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)

    def carriers_of(self, stream: str) -> list[str]:
        """Give the uplinks that carry a stream."""
        return [name for name, streams in self.carriers.items() if streams is None or stream in streams]


@dataclass(slots=True)
class Scrubbing:
    """How far the proof of one stream has come: up to `upto` in this round, and rounds completed since the start."""

    upto: int = 0
    rounds: int = 0
    owed: float = 0.0


def damaged_ends(store: Store) -> list[Damage]:
    """Prove the last blocks of every stream; give what is damaged."""
    found: list[Damage] = []
    for stream in store.streams():
        end = store.last_position(stream)
        first = max(1, end - PROVE_LAST + 1)
        while first <= end:
            done = store.scrub(stream, first, SCRUB_ROWS)
            found += done.damages
            first = done.last + 1
    return found


class Housekeeping:
    """The plans for one opening of the store."""

    def __init__(self, rules: Rules, store: Store, boot_ns: int) -> None:
        self.rules = rules
        self._store = store
        self._evictor = Evictor(store, store.trusted)
        self._pruner = Pruner(store, store.trusted)
        self._running_ns = self._noted_ns = store.note(RUNNING)
        self._boot_ns = self._scrubbed_ns = boot_ns
        self._prune_ns = 0
        self._suspects: set[tuple[str, int]] = set()
        self.scrubbing: dict[str, Scrubbing] = {}
        self.disk_free = -1
        self.space: Space = store.space()

    def plan(self, settled: Mapping[tuple[str, str], Intervals], boot_ns: int) -> tuple[Change, ...]:
        """Say what is due: a slice of it."""
        self._running_ns += max(0, boot_ns - self._boot_ns)
        self._boot_ns = boot_ns
        damages = self._scrub(boot_ns)
        hurt = {damage.account.stream for damage in damages}
        streams = [stream for stream in self._store.streams() if stream not in hurt]
        return (*self._age(), *damages, *self._again(streams), *self._make_room(streams, settled, boot_ns))

    def urgent(self, settled: Mapping[tuple[str, str], Intervals]) -> tuple[Change, ...]:
        """Say what goes where a commit found no room."""
        self.bound()
        streams, found = list(self._store.streams()), list[Change]()
        for _ in range(URGENT_BATCHES):
            found += self._shrink(streams, settled)
            if any(isinstance(change, Thinned) for change in found):  # it goes on from what the commit has written
                break
        return tuple(found)

    @property
    def behind(self) -> bool:
        """Say whether the proof of a stream owes another slice already."""
        return any(one.owed >= SCRUB_ROWS for one in self.scrubbing.values())

    def suspect(self, stream: str, position: int) -> None:
        """Have a row proven at once: whoever read it found it damaged."""
        self._suspects.add((stream, position))

    def alarm(self, path: Path) -> Trouble | None:
        """Say what a person must look at: the disk has less left than the buffer must not take."""
        quota = self.rules.quota
        if quota is None or self.disk_free < 0 or self.disk_free >= quota.reserve:
            return None
        return "buffer.reserve", {"path": path, "free": self.disk_free // _MB, "reserve": quota.reserve // _MB}

    def document(self) -> Document:
        """Render as JSON: room, and how far each stream is proven."""
        room = self.space.room * self.space.page_size
        return {
            "bytes": (self.space.pages - self.space.free) * self.space.page_size,
            "room": room,
            "running_s": self._running_ns // NS_PER_S,
            "scrub": {stream: {"upto": one.upto, "rounds": one.rounds} for stream, one in self.scrubbing.items()},
        }

    # -- age -------------------------------------------------------------------------------------------------------

    def _age(self) -> tuple[Change, ...]:
        if self._running_ns - self._noted_ns < NOTE_RUNNING_NS:
            return ()
        self._noted_ns = self._running_ns
        quota = self.rules.quota
        if quota is None:
            return (Aged(self._running_ns),)
        step_ns = quota.keep_ns // AGE_MARKS
        due = tuple(
            stream
            for stream in self._store.streams()
            if not (ages := self._store.ages(stream)) or self._running_ns - ages[-1][1] >= step_ns
        )
        return (Aged(self._running_ns, due, self._running_ns - quota.keep_ns),)

    # -- words -----------------------------------------------------------------------------------------------------

    def _again(self, streams: list[str]) -> tuple[Change, ...]:
        """Go on saying again what damaged blocks may have said; in the damage's own commit it began."""
        return tuple(
            one for stream in streams for one in again.due(self._store, stream, *again.owed(self._store, stream))
        )

    # -- room ------------------------------------------------------------------------------------------------------

    def _make_room(
        self, streams: list[str], settled: Mapping[tuple[str, str], Intervals], boot_ns: int
    ) -> tuple[Change, ...]:
        quota = self.rules.quota
        if quota is None:
            return ()
        self.bound()
        if quota.short(self.space) and (changes := self._shrink(streams, settled)):
            return changes
        return (*self._expire(quota, streams, settled), *self._prune(quota, streams, settled, boot_ns))

    def bound(self) -> None:
        """Renew the bound of the file from `limit` and from what the file system has left."""
        quota = self.rules.quota
        if quota is None:
            return
        try:
            found = os.statvfs(self._store.path.parent)
        except OSError:  # a medium that cannot be asked: what is tried next will say so
            return
        self.disk_free = found.f_bavail * found.f_frsize
        space = self._store.space()
        pages = quota.pages(space, self.disk_free)
        if pages != space.most:
            self._store.bound(pages)
            space = self._store.space()
        self.space = space

    def _delivered(self, stream: str, settled: Mapping[tuple[str, str], Intervals]) -> Intervals:
        carriers = self.rules.carriers_of(stream)
        end = self._store.last_position(stream)
        found = Intervals([(1, end)] if carriers and end else [])
        for uplink in carriers:
            found = found.overlap(settled.get((uplink, stream), Intervals()))
        return found

    def _shrink(self, streams: list[str], settled: Mapping[tuple[str, str], Intervals]) -> tuple[Change, ...]:
        """Make room: delivered payloads, else undelivered ones by policy, of every stream in turn; else headers."""
        delivered = {stream: self._delivered(stream, settled) for stream in streams}
        for stream in self._by_age(streams, delivered):
            if (eviction := self._evictor.oldest(stream, delivered[stream], DELIVERED)) is not None:
                return (eviction,)
        quota = self.rules.quota
        policy = "oldest" if quota is None else quota.when_full
        found: list[Change] = []
        for stream in streams:
            found += self._by_policy(stream, policy, _rest(delivered[stream], self._store.last_position(stream)))
        if found:
            return tuple(found)
        prunings = (self._pruner.oldest(stream, _all(self._store.last_position(stream))) for stream in streams)
        return tuple(pruning for pruning in prunings if pruning is not None)

    def _by_age(self, streams: list[str], delivered: Mapping[str, Intervals]) -> list[str]:
        """Put the stream first whose oldest delivered payload is the oldest."""

        def born_ns(stream: str) -> int:
            first = self._evictor.oldest_candidate(stream, delivered[stream])
            return max((at for position, at in self._store.ages(stream) if position < first), default=0)

        return sorted(streams, key=born_ns) if len(streams) > 1 else streams

    def _by_policy(self, stream: str, policy: str, undelivered: Intervals) -> tuple[Change, ...]:
        if policy == "thin" and (changes := self._evictor.thin(stream, undelivered)):
            return changes
        eviction = (
            self._evictor.newest(stream, undelivered)
            if policy == "newest"
            else self._evictor.oldest(stream, undelivered, policy)
        )
        return () if eviction is None else (eviction,)

    def _expire(
        self, quota: Quota, streams: list[str], settled: Mapping[tuple[str, str], Intervals]
    ) -> tuple[Change, ...]:
        """Let go what was kept as long as was asked."""
        found = []
        for stream in streams:
            upto = quota.expired(self._store.ages(stream), self._running_ns)
            if not upto:
                continue
            carried = bool(self.rules.carriers_of(stream))
            within = self._delivered(stream, settled).overlap(_all(upto)) if carried else _all(upto)
            reason = DELIVERED if carried else "oldest"
            if (eviction := self._evictor.oldest(stream, within, reason, least=BATCH)) is not None:
                found.append(eviction)
        return tuple(found)

    def _prune(
        self, quota: Quota, streams: list[str], settled: Mapping[tuple[str, str], Intervals], boot_ns: int
    ) -> tuple[Change, ...]:
        """Let headers go that are more than a tenth of the limit: those that every uplink has, if any carries them."""
        bare = sum(self._store.counts(stream).evicted for stream in streams)
        if not quota.too_many_headers(bare) or boot_ns < self._prune_ns:
            return ()
        for stream in streams:
            carried = self.rules.carriers_of(stream)
            within = self._delivered(stream, settled) if carried else _all(self._store.last_position(stream))
            if (pruning := self._pruner.oldest(stream, within)) is not None:
                return (pruning,)
        self._prune_ns = boot_ns + PRUNE_AGAIN_NS
        return ()

    # -- scrub -----------------------------------------------------------------------------------------------------

    def _scrub(self, boot_ns: int) -> tuple[Damage, ...]:
        """Prove as many rows as the time since the last slice owes, at most a slice of each stream."""
        elapsed_ns, self._scrubbed_ns = boot_ns - self._scrubbed_ns, boot_ns
        damages: list[Damage] = []
        for stream, position in sorted(self._suspects)[:SCRUB_ROWS]:
            self._suspects.discard((stream, position))
            if not any(_covers(one, stream, position) for one in damages):  # a run is found by its first
                damages += self._store.scrub(stream, position, 1).damages
        if damages:
            return tuple(dict.fromkeys(damages))
        for stream in self._store.streams():
            one = self.scrubbing.setdefault(stream, Scrubbing())
            end = self._store.last_position(stream)
            one.owed = min(one.owed + end * elapsed_ns / SCRUB_WITHIN_NS, end)
            if one.owed < 1 or not end:
                continue
            rows = min(int(one.owed), SCRUB_ROWS)
            done = self._store.scrub(stream, one.upto + 1, rows)
            one.owed -= rows
            one.upto = done.last
            if one.upto >= end:
                one.upto, one.rounds = 0, one.rounds + 1
            damages += done.damages
        return tuple(damages)


def _covers(damage: Damage, stream: str, position: int) -> bool:
    account = damage.account
    return account.stream == stream and account.first <= position <= account.last


def _all(last: int) -> Intervals:
    return Intervals([(1, last)] if last else [])


def _rest(taken: Intervals, last: int) -> Intervals:
    return Intervals(taken.gaps(1, last))
