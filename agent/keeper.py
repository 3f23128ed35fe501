"""The keeper: seals batches and commits them, inside the one thread that owns SQLite and signing.

What is always true here:

- One commit holds the blocks of all streams that had something to seal, and what was acknowledged since the last one.
- A block exists for the rest of the house once its commit has returned, never before (B3).
- What housekeeping planned is done in the next commit, in the blocks of which its events are sealed.
- SQLite's word that the content is corrupt is not believed the first time: close, open, ask again. Then the file is set
  aside and salvaged (`agent.opener`), and every stream goes on from the last block that is known.
- After any failed commit the store is closed; the next call opens it again, which begins a new epoch whose first
  block in every stream says so (B2). What was being sealed is still the caller's.

Only `agent.recorder` enters, through the owner's thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from agent.health import Document, StreamHealth, Trouble
from agent.housekeeping import Housekeeping, Rules
from agent.log import Log
from agent.opener import Opened, open_store, warn_of_library, write_highest
from buffer.block import Block
from buffer.changes import DAMAGED, LOST, Account, Aged, Change, Damage, Thinned
from buffer.errors import BufferCorrupt, BufferLocked, BufferUnreadable, CommitFailed, StoreFull
from buffer.frame import Event, Layout
from buffer.intervals import Intervals
from buffer.keys import Signer
from buffer.layout import decode_catalogue, encode_catalogue, encode_layout, layout_id
from buffer.salvage import holes
from buffer.scrub import NO_ROW
from buffer.seal import Batch, Head, Moment, Opening, Sealed, Sealer
from buffer.store import Store

_log = Log("keeper")
T = TypeVar("T")

PROVE_LAST = 1000
"""Blocks of a stream that are proven before polling begins; the scrub proves the rest."""
_SLICE = 64
NOTE_HIGHEST_NS = 60 * 10**9

AckKey = tuple[str, str]
"""An uplink's name and a stream's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who seals, and what the `start` events of its epochs state. Digests are SHA-256."""

    gateway: str
    signer: Signer
    software: str
    hardware: bytes
    config: bytes


class Kept(NamedTuple):
    """A committed block, its position in its stream, and the digest of the catalogue it needs."""

    stream: str
    position: int
    block: Block
    catalogue: bytes


class Reading(NamedTuple):
    """Blocks read back, in order, and the positions found damaged."""

    blocks: tuple[Kept, ...]
    damaged: tuple[int, ...]
    gone: tuple[int, ...] = ()
    """Positions that were pruned or never written: a signed event says so, and there is nothing to carry."""


class Definition(NamedTuple):
    """A catalogue as it was signed, and its layouts by id."""

    catalogue: bytes
    layouts: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """What a keeper is told: the file, who seals, the keys believed, and what each stream's positions mean."""

    path: Path
    identity: Identity
    keys: tuple[bytes, ...]
    catalogues: Mapping[str, tuple[Layout, ...]]
    max_block: int
    rules: Rules = field(default_factory=Rules)


class Keeper:
    """The store, the sealer and the ledgers. Every method but the constructor runs in the owner's thread."""

    def __init__(self, site: Site, moment: Callable[[], Moment], new_event_id: Callable[[], bytes]) -> None:
        self._site = site
        self._moment = moment
        self._new_event_id = new_event_id
        self._store: Store | None = None
        self._sealer: Sealer | None = None
        self._heads: dict[str, Head] | None = None
        self._doubtful: tuple[Mapping[str, Batch], list[Sealed]] | None = None
        self._housekeeping: Housekeeping | None = None
        self._planned: tuple[Change, ...] = ()
        self._settled: dict[AckKey, Intervals] = {}
        self._cramped = False
        self._doubts = 0
        self._noted_ns = -NOTE_HIGHEST_NS
        self.epoch = b""
        self.ledgers: dict[str, StreamHealth] = {}
        """By stream; replaced as a whole after every commit, so that any thread may read it."""
        self.clock: Document = {}
        self.buffer: Document = {}
        self.alarm: Trouble | None = None
        """What housekeeping has to complain of."""

    def open(self, uplinks: Iterable[str]) -> dict[AckKey, Intervals]:
        """Open the store and prove its end; give what each uplink has acknowledged of each stream.

        Raises BufferLocked, BufferNewer, or BufferUnreadable where it is another program's or the medium is not well.
        """
        warn_of_library()
        settled = self._believed(lambda store: self._prove_end(store, tuple(uplinks)))
        self._settled = {key: intervals.copy() for key, intervals in settled.items()}
        return settled

    def _prove_end(self, store: Store, uplinks: tuple[str, ...]) -> dict[AckKey, Intervals]:
        streams = dict.fromkeys((*self._site.catalogues, *store.streams()))
        found: list[Damage] = []
        for stream in store.streams():
            end = store.last_position(stream)
            first = max(1, end - PROVE_LAST + 1)
            while first <= end:
                done = store.scrub(stream, first, _SLICE)
                found += done.damages
                first = done.last + 1
        if found:
            self._plan((*self._planned, *(one for one in found if not _within(one, self._planned))))
        self._heads = store.heads()
        self.ledgers = {stream: self._ledger(store, stream) for stream in streams}
        settled = {(uplink, stream): store.acknowledged(uplink, stream) for uplink in uplinks for stream in streams}
        for (_, stream), intervals in settled.items():
            intervals.cut(store.last_position(stream))  # what was acknowledged beyond a lost end will be other blocks
        return settled

    def seal(self, batches: Mapping[str, Batch], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Seal and commit. Raises CommitFailed; the batches are unharmed and may be given again."""
        try:
            store, sealer = self._opened()
            if (kept := self._came_through(store, batches)) is not None:
                return kept
            moment = self._moment()
            changes = self._due()
            told = self._with_events(batches, changes, moment)
            heads = store.heads()
        except (BufferUnreadable, BufferLocked) as error:  # after a failed commit: the medium is not back yet
            self._doubts += isinstance(error, BufferCorrupt)
            self.close()
            raise CommitFailed(path=str(self._site.path), reason=str(error)) from error
        self.clock = {"quality": moment.clock.quality, "max_error_ns": moment.clock.max_error_ns}
        sealed = [
            sealer.seal(stream, heads.get(stream), batch, self._site.catalogues.get(stream, ()), moment)
            for stream, batch in told.items()
        ]
        try:
            positions = store.append(sealed, acknowledged, changes)
        except CommitFailed as error:
            self._cramped = isinstance(error, StoreFull)
            self._doubts += store.corrupt
            self._doubtful = (batches, sealed)
            self.close()
            raise
        self._planned, self._cramped, self._doubts = (), False, 0
        self._settled.update({key: intervals.copy() for key, intervals in acknowledged.items()})
        return self._committed(sealed, positions, store)

    def tidy(self) -> None:
        """Plan what is due of housekeeping, a slice of it. Raises what the store raises where it cannot be read."""
        store, _ = self._opened()
        boot_ns = self._moment().boot_ns
        if not self._planned:
            self._plan(self._believed(lambda _: self._house.plan(self._settled, boot_ns)))
            self.alarm, self.buffer = self._house.alarm(self._site.path), self._house.document()
        if boot_ns - self._noted_ns >= NOTE_HIGHEST_NS:
            self._noted_ns = boot_ns
            write_highest(self._site.path, {stream: head.seq for stream, head in store.heads().items()})

    @property
    def _house(self) -> Housekeeping:
        """The housekeeping of the store as it is open."""
        assert self._housekeeping is not None
        return self._housekeeping

    def _plan(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change, Damage):
                account = change.account
                _log.error(
                    "blocks-damaged",
                    stream=account.stream,
                    first=account.first,
                    last=account.last,
                    reason=change.reason,
                )
        self._planned = changes

    def _due(self) -> tuple[Change, ...]:
        """Give what was planned, and what makes room where the last commit had none."""
        if self._cramped and not self._planned:
            self._planned = self._house.urgent(self._settled)
        return self._planned

    def _with_events(self, batches: Mapping[str, Batch], changes: Iterable[Change], moment: Moment) -> dict[str, Batch]:
        """Add the events that tell of changes. The caller's batches stay as they are."""
        told = dict(batches)
        for change in (*changes, *self._told_again(changes)):
            if isinstance(change, Thinned | Aged):
                continue
            stream, (kind, data) = change.account.stream, change.told()
            event = Event(kind, moment.boot_ns, self._new_event_id(), data)
            batch = told.get(stream) or Batch()
            told[stream] = replace(batch, events=[*batch.events, event])
        return told

    def _told_again(self, changes: Iterable[Change]) -> list[Damage]:
        """Tell again of older holes where a block is set aside that may have held the word of them."""
        store, _ = self._opened()
        whole = {one.account.stream for one in changes if isinstance(one, Damage) and not one.envelope_good}
        return [
            _hole(stream, *span)
            for stream in sorted(whole)
            for span in store.absent(stream, 1, store.last_position(stream), DAMAGED, LOST)
        ]

    def _believed(self, act: Callable[[Store], T]) -> T:
        """Do something with the store. That it is corrupt is believed the third time, of a file opened anew."""
        for _ in range(2):
            try:
                result = act(self._opened()[0])
            except BufferCorrupt as error:
                _log.error("buffer-doubtful", error=error)
                self._doubts += 1
                self.close()
            else:
                self._doubts = 0
                return result
        return act(self._opened()[0])

    def _came_through(self, store: Store, batches: Mapping[str, Batch]) -> tuple[Kept, ...] | None:
        """Give the blocks of the commit that failed if the store has them after all: its sync may have failed alone."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is None or doubtful[0] is not batches or not doubtful[1]:
            return None
        heads = store.heads()
        if any(heads.get(one.stream) != one.head for one in doubtful[1]):
            return None
        ends = {one.stream: store.last_position(one.stream) for one in doubtful[1]}
        positions = {
            one.stream: range(ends[one.stream] - len(one.blocks) + 1, ends[one.stream] + 1) for one in doubtful[1]
        }
        return self._committed(doubtful[1], positions, store)

    def _committed(self, sealed: Sequence[Sealed], positions: Mapping[str, range], store: Store) -> tuple[Kept, ...]:
        self._heads = store.heads()
        self.ledgers = {**self.ledgers, **{one.stream: self._ledger(store, one.stream) for one in sealed}}
        return tuple(
            Kept(one.stream, position, block, one.head.catalogue)
            for one in sealed
            for position, block in zip(positions[one.stream], one.blocks, strict=True)
        )

    def read(self, stream: str, first: int, last: int, max_bytes: int) -> Reading:
        """Read committed blocks, each proven again."""
        window = self._believed(lambda store: store.read(stream, first, last, max_bytes))
        for position in window.damaged:
            self._house.suspect(stream, position)
        blocks = tuple(Kept(stream, position, block, header.catalogue) for position, block, header in window.blocks)
        return Reading(blocks, window.damaged, window.gone)

    def definition(self, digest: bytes) -> Definition:
        """Give a catalogue that is signed in the store, and its layouts. Raises BufferUnreadable where one is damaged.

        Each must have the hash it is named by; what the store lacks or has wrongly is taken from the present settings.
        """
        store, _ = self._opened()
        catalogue = self._true(digest, store.catalogue(digest))
        return Definition(
            catalogue,
            {identity: self._true(identity, store.layout(identity)) for identity in decode_catalogue(catalogue)},
        )

    def _true(self, digest: bytes, stored: bytes | None) -> bytes:
        if stored is not None and sha256(stored).digest() == digest:
            return stored
        for layouts in self._site.catalogues.values():
            known = [*map(encode_layout, layouts), encode_catalogue(tuple(map(layout_id, layouts)))]
            for encoded in known:
                if sha256(encoded).digest() == digest:
                    return encoded
        raise BufferUnreadable(path=str(self._site.path), reason=f"definition {digest.hex()[:16]} is damaged")

    def close(self) -> None:
        """Close the store; the lock is free then."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _open_ours(self) -> Opened:
        """Open the store; after the first time, only the very one that we had: another medium is not written to."""
        path, heads = self._site.path, self._heads or {}
        if self._heads is not None and not path.exists():
            raise BufferUnreadable(path=str(path), reason="the file is gone")
        opened = open_store(path, self._site.keys, heads, condemned=self._doubts > 1)
        store = opened.store
        expected = [heads, {one.stream: one.head for one in self._doubtful[1]} if self._doubtful else {}]
        if self._heads is not None and store.heads() not in (expected[0], {**expected[0], **expected[1]}):
            store.close()
            raise BufferUnreadable(path=str(path), reason="another file stands in its place")
        return opened

    def _opened(self) -> tuple[Store, Sealer]:
        """Give the store as it is open; after a failed commit, open it again in a new epoch."""
        if self._store is None or self._sealer is None:
            opened = self._open_ours()
            store = self._store = opened.store
            identity = self._site.identity
            opening = Opening(self._new_event_id(), identity.software, identity.hardware, identity.config)
            if opened.aside is not None:
                opening = opening._replace(predecessor="lost", aside=opened.aside, highest=opened.highest)
            self.epoch = store.epoch
            self._sealer = Sealer(identity.gateway, identity.signer, store.epoch, self._site.max_block, opening)
            self._housekeeping = Housekeeping(self._site.rules, store, self._moment().boot_ns)
            self._planned = ()
            self._doubts = 0 if opened.aside else self._doubts
            if opened.aside:
                self._plan(tuple(_hole(stream, *run) for stream in store.streams() for run in holes(store, stream)))
        return self._store, self._sealer

    def _ledger(self, store: Store, stream: str) -> StreamHealth:
        counts, head = store.counts(stream), store.heads().get(stream)
        ledger = StreamHealth(
            counts.sealed,
            held=counts.held,
            evicted=counts.evicted,
            damaged=counts.damaged,
            lost=counts.lost,
            pruned=counts.pruned,
            reasons=dict(counts.reasons),
        )
        return ledger if head is None else _at(ledger, head)


def _hole(stream: str, first: int, last: int) -> Damage:
    return Damage(Account(stream, first, last, last - first + 1, None), NO_ROW)


def _within(damage: Damage, planned: Iterable[Change]) -> bool:
    """Say whether what was found is planned for already."""
    return any(
        one.account.stream == damage.account.stream and one.account.first <= damage.account.first <= one.account.last
        for one in planned
        if isinstance(one, Damage)
    )


def _at(ledger: StreamHealth, head: Head) -> StreamHealth:
    readings, missed, dropped = head.totals
    return replace(
        ledger, seq=head.seq, digest=head.digest.hex(), readings=readings, ticks_missed=missed, dropped=dropped
    )
