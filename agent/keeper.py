"""The keeper: seals batches and commits them, inside the one thread that owns SQLite and signing.

What is always true here:

- One commit holds the blocks of all streams that had something to seal, and what was acknowledged since the last one.
- A block exists for the rest of the house once its commit has returned, never before (B3).
- After any failed commit the store is closed; the next call opens it again, which begins a new epoch whose first
  block in every stream says so (B2). What was being sealed is still the caller's.
- A rotation is one commit of `key-rotated` in every stream of the store, signed with the old key; then the store is
  opened again, and the new epoch is signed with the new one. Where the commit's end is not known, the heads found at
  the next opening say which key is in force.
- A commit whose synchronisation alone failed may be in the file. Whatever is opened again must end as one of our
  commits would have left it, and is made sure of before it is believed.
- While the store cannot commit, blocks are sealed onto a branch in memory; it is adopted as a whole, or not at all.

Only `agent.recorder` enters, through the owner's thread.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from agent.branch import Branch, numbered
from agent.health import Document, StreamHealth
from agent.log import Log
from buffer.accounts import events_of
from buffer.block import Block
from buffer.custody import Custody
from buffer.errors import (
    BlockInvalid,
    BufferLocked,
    BufferNewer,
    BufferUnreadable,
    ChainBroken,
    CommitFailed,
    KeyFixed,
    StoreFull,
)
from buffer.frame import Event, Layout
from buffer.intervals import Intervals
from buffer.keys import Signer
from buffer.layout import decode_catalogue, decode_layout, encode_catalogue, encode_layout, layout_id
from buffer.seal import Batch, Head, Moment, Opening, Sealed, Sealer
from buffer.store import Counts, Store

_log = Log("keeper")

ROOM_BYTES = 256 << 10
"""So much must be free before the file is opened again after a failed commit: less is not enough for one. And where
blocks on the disk are smaller than pages of memory, SQLite's index, mapped with holes, would kill the process (SIGBUS).
"""

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
    """Blocks read back, in order, the positions found damaged, and those that were sealed in memory and had no room."""

    blocks: tuple[Kept, ...]
    damaged: tuple[int, ...]
    lost: tuple[int, ...] = ()


class Definition(NamedTuple):
    """A catalogue as it was signed, and its layouts by id."""

    catalogue: bytes
    layouts: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """What a keeper is told: the file, who seals, the keys believed, and what each stream's positions mean.

    `custody` is None where the signer is not a key of ours to rotate.
    """

    path: Path
    identity: Identity
    keys: tuple[bytes, ...]
    catalogues: Mapping[str, tuple[Layout, ...]]
    max_block: int
    custody: Custody | None = None


class Keeper:
    """The store, the sealer and the ledgers. All but the constructor and `moment` run in the owner's thread."""

    def __init__(self, site: Site, moment: Callable[[], Moment], new_event_id: Callable[[], bytes]) -> None:
        self._site = site
        self._moment = moment
        self._new_event_id = new_event_id
        self._store: Store | None = None
        self._sealer: Sealer | None = None
        self._heads: dict[str, Head] | None = None
        self._doubtful: tuple[Mapping[str, Batch], list[Sealed]] | None = None
        self._keys = site.keys
        self._late: tuple[Kept, ...] = ()
        self._may_be: dict[str, Head] | None = None
        self._branch: Branch | None = None
        self._known: dict[str, str] = {}
        self.epoch = b""
        self.ledgers: dict[str, StreamHealth] = {}
        """By stream; replaced as a whole after every commit, so that any thread may read it."""
        self.clock: Document = {}

    def moment(self) -> Moment:
        """Take all clocks at once."""
        return self._moment()

    def open(self, uplinks: Iterable[str]) -> dict[AckKey, Intervals]:
        """Open the store and prove its end; give what each uplink has acknowledged of each stream.

        Raises BufferLocked, BufferNewer, BufferUnreadable or ChainBroken.
        """
        store, _ = self._opened()
        self._heads = store.heads()
        report = store.prove()
        if report.faults:
            _log.error("buffer-damaged", faults=report.fault_count, first=report.faults[0].reason)
        streams = dict.fromkeys((*self._site.catalogues, *store.streams()))
        self.ledgers = {stream: _ledger(store.counts(stream), store.heads().get(stream)) for stream in streams}
        return {(uplink, stream): store.acknowledged(uplink, stream) for uplink in uplinks for stream in streams}

    def seal(self, batches: Mapping[str, Batch], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Seal and commit. Raises CommitFailed; the batches are unharmed and may be given again."""
        assert self._branch is None
        store, sealer = self._reached()
        if (kept := self._came_through(store, batches)) is not None:
            return kept
        sealed = self._seal_all(sealer, store.heads(), batches)
        return self._with_late(self._commit(batches, sealed, acknowledged, store))

    def _commit(
        self,
        batches: Mapping[str, Batch],
        sealed: list[Sealed],
        acknowledged: Mapping[AckKey, Intervals],
        store: Store,
    ) -> tuple[Kept, ...]:
        try:
            positions = store.append(sealed, acknowledged)
        except CommitFailed:
            self._doubtful = (batches, sealed)
            self._may_be = {**store.heads(), **{one.stream: one.head for one in sealed}}
            self.close()
            raise
        return self._committed(sealed, positions, store)

    @property
    def rotation_in_doubt(self) -> bool:
        """Say whether it is not known which key is in force: nothing can be sealed before that, in memory neither."""
        return self._doubtful is not None and not self._doubtful[0]

    def seal_volatile(self, batches: Mapping[str, Batch]) -> tuple[Kept, ...]:
        """Seal onto the branch, which the first call begins; give the blocks, which are in memory only.

        The batches whose commit has just failed are on the branch already, as doubtful blocks, which are not given.
        """
        assert not self.rotation_in_doubt
        doubtful, self._doubtful = self._doubtful, None
        if self._branch is None:
            self._branch = self._new_branch(doubtful[1] if doubtful else ())
        if doubtful and doubtful[0] is batches:
            return ()
        branch = self._branch
        sealed = self._seal_all(branch.sealer, branch.heads, batches, volatile=True)
        return tuple(
            Kept(one.stream, position, block, one.head.catalogue)
            for one in sealed
            for position, block in branch.grow(one)
        )

    def reach(self) -> dict[str, int]:
        """Open the store if it is not open, and make sure of it; give its last positions. Raises CommitFailed."""
        return {stream: head.seq for stream, head in self._reached()[0].heads().items()}

    def adopt(self, held: Mapping[str, Sequence[Kept]], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Write the branch behind what the store has; `held` is what the memory had room for.

        Gives the doubtful blocks, which may be shown now. Raises CommitFailed; the branch is unharmed then.
        """
        branch = self._branch
        assert branch is not None
        store, _ = self._reached()
        found = store.heads()
        parts = [
            branch.beyond(stream, found.get(stream), [(one.position, one.block) for one in held.get(stream, ())])
            for stream in branch.heads
        ]
        try:
            store.adopt([part for part in parts if part is not None], acknowledged)
        except CommitFailed:
            self._may_be = dict(branch.heads)
            self.close()
            raise
        return self._adopted(branch, store)

    def _adopted(self, branch: Branch, store: Store) -> tuple[Kept, ...]:
        heads = self._heads = store.heads()
        self._branch = None
        self._known = {stream: "volatile" for stream, head in heads.items() if head.epoch == branch.sealer.epoch}
        self.ledgers = {**self.ledgers, **{stream: _ledger(store.counts(stream), heads[stream]) for stream in heads}}
        return tuple(
            Kept(one.stream, position, block, one.head.catalogue)
            for one in branch.doubtful
            for position, block in numbered(one)
        )

    def _new_branch(self, doubtful: Sequence[Sealed]) -> Branch:
        """Go on from the last block sealed, in an epoch of its own: eight random bytes, as an event's id."""
        self._known = {one.stream: "volatile" for one in doubtful}
        return Branch(self._sealer_of(self._new_event_id()), dict(self._heads or {}), tuple(doubtful))

    def _seal_all(
        self, sealer: Sealer, heads: Mapping[str, Head], batches: Mapping[str, Batch], *, volatile: bool = False
    ) -> list[Sealed]:
        moment = self._moment()
        self.clock = moment.clock._asdict()
        catalogues = self._site.catalogues
        return [
            self._knowing(sealer, stream).seal(
                stream, heads.get(stream), batch, catalogues[stream], moment, volatile=volatile
            )
            for stream, batch in batches.items()
        ]

    def _knowing(self, sealer: Sealer, stream: str) -> Sealer:
        """Give the sealer that says in a `start` how the block before it is known."""
        known = self._known.get(stream)
        if known is None or sealer.opening is None:
            return sealer
        return replace(sealer, opening=sealer.opening._replace(predecessor=known))

    @property
    def signer(self) -> Signer:
        """The key in force."""
        custody = self._site.custody
        return self._site.identity.signer if custody is None else custody.signer

    def rotate(self) -> tuple[Kept, ...]:
        """Put a new key in force; give the blocks that say so.

        Raises CommitFailed, where it is not known before the next opening; KeyFixed, EnrolFirst or BufferUnreadable,
        where nothing was changed.
        """
        custody = self._site.custody
        if custody is None:
            raise KeyFixed(path=str(self._site.path))
        if self._branch is not None:
            raise CommitFailed(path=str(self._site.path), reason="blocks are sealed in memory")
        if self._doubtful is not None:
            raise CommitFailed(path=str(self._site.path), reason="the last commit is in doubt")
        store, sealer = self._opened()
        moment, gateway = self._moment(), self._site.identity.gateway
        statement = custody.begin(gateway)
        data = (("key", custody.pending), ("statement", statement))
        batch = Batch(events=[Event("key-rotated", moment.boot_ns, self._new_event_id(), data)])
        heads = store.heads()
        streams = dict.fromkeys((*self._site.catalogues, *heads))
        sealed = [sealer.seal(one, heads.get(one), batch, self._layouts(one, store), moment) for one in streams]
        kept = self._commit({}, sealed, {}, store)
        self._switch(custody)
        self.close()
        return kept

    def _switch(self, custody: Custody) -> None:
        try:
            custody.switch(self._site.identity.gateway)
        except BufferUnreadable as error:  # the next key is durable, and the next start ends what is left
            _log.error("key-switch-unfinished", reason=error)
        self._keys = (custody.signer.public_key, *self._keys)
        _log.info("key-rotated", key=custody.signer.kid)

    def _settle(self, store: Store) -> None:
        """End a rotation that was cut short, by what the heads say."""
        custody = self._site.custody
        if custody is None or custody.pending is None:
            return
        if any(_brings(store, stream, custody.pending) for stream in store.heads()):
            self._switch(custody)
        else:
            custody.undo()

    def _layouts(self, stream: str, store: Store) -> tuple[Layout, ...]:
        """Give what a stream's positions mean: of one that is not configured any more, as it was last signed."""
        if stream in self._site.catalogues:
            return self._site.catalogues[stream]
        try:
            known = self.definition(store.heads()[stream].catalogue)
            return tuple(decode_layout(known.layouts[one]) for one in decode_catalogue(known.catalogue))
        except (BufferUnreadable, BlockInvalid):
            return ()

    def _came_through(self, store: Store, batches: Mapping[str, Batch]) -> tuple[Kept, ...] | None:
        """Give the blocks of the commit that failed if the store has them after all: its sync may have failed alone."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is None or not doubtful[1]:
            return None
        heads = store.heads()
        if any(heads.get(one.stream) != one.head for one in doubtful[1]):
            return None
        ends = {one.stream: store.last_position(one.stream) for one in doubtful[1]}
        positions = {
            one.stream: range(ends[one.stream] - len(one.blocks) + 1, ends[one.stream] + 1) for one in doubtful[1]
        }
        kept = self._committed(doubtful[1], positions, store)
        if doubtful[0] is batches:
            return self._with_late(kept)
        self._late = (*self._late, *kept)  # a rotation: told with what is sealed next
        return None

    def _with_late(self, kept: tuple[Kept, ...]) -> tuple[Kept, ...]:
        late, self._late = self._late, ()
        return (*late, *kept)

    def _committed(self, sealed: Sequence[Sealed], positions: Mapping[str, range], store: Store) -> tuple[Kept, ...]:
        self._heads = store.heads()
        for one in sealed:
            self._known.pop(one.stream, None)
        self.ledgers = {**self.ledgers, **{one.stream: _grown(self.ledgers[one.stream], one) for one in sealed}}
        return tuple(
            Kept(one.stream, position, block, one.head.catalogue)
            for one in sealed
            for position, block in zip(positions[one.stream], one.blocks, strict=True)
        )

    def read(self, stream: str, first: int, last: int, max_bytes: int) -> Reading:
        """Read committed blocks, each proven again."""
        window = self._opened()[0].read(stream, first, last, max_bytes)
        blocks = tuple(Kept(stream, position, block, header.catalogue) for position, block, header in window.blocks)
        return Reading(blocks, window.damaged)

    def definition(self, digest: bytes) -> Definition:
        """Give a catalogue that is signed in the store, and its layouts. Raises BufferUnreadable where one is damaged.

        Each must have the hash it is named by; what the store lacks or has wrongly is taken from the present settings.
        """
        catalogue = self._true(digest, self._stored(lambda store: store.catalogue(digest)))
        layouts = {
            identity: self._true(identity, self._stored(lambda store, name=identity: store.layout(name)))  # type: ignore[misc]
            for identity in decode_catalogue(catalogue)
        }
        return Definition(catalogue, layouts)

    def _stored(self, find: Callable[[Store], bytes | None]) -> bytes | None:
        """Look something up; a store that cannot be read now has nothing."""
        try:
            return find(self._opened()[0])
        except (BufferUnreadable, BufferLocked, CommitFailed):
            return None

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

    def _reached(self) -> tuple[Store, Sealer]:
        """Give the store, opened if need be. Raises CommitFailed: whatever is wrong, nothing can be committed now."""
        try:
            return self._opened()
        except (BufferUnreadable, BufferLocked, BufferNewer, ChainBroken) as error:  # the medium is not back yet
            raise CommitFailed(path=str(self._site.path), reason=str(error)) from error

    def _open_ours(self) -> Store:
        """Open the store; after the first time, only the very one that we had: another medium is not written to."""
        path = self._site.path
        if self._heads is not None and not path.exists():
            raise BufferUnreadable(path=str(path), reason="the file is gone")
        if self._heads is not None and _free_bytes(path.parent) < ROOM_BYTES:
            raise StoreFull(path=str(path), reason="no space left on the disk")
        store = Store.open(path, self._keys)
        try:
            if self._heads is not None:
                found = self._recognised(store)
                if found == self._heads:  # what failed is not there, and may be sealed again
                    self._doubtful = None
                self._heads, self._may_be = found, None
            self._settle(store)
        except BaseException:
            store.close()
            raise
        return store

    def _recognised(self, store: Store) -> dict[str, Head]:
        """Give the heads of a file that is ours for certain, and on the disk for certain."""
        found = store.heads()
        if found not in (self._heads, self._may_be):
            raise BufferUnreadable(path=str(self._site.path), reason="another file stands in its place")
        store.make_sure()
        return found

    def _opened(self) -> tuple[Store, Sealer]:
        """Give the store as it is open; after a failed commit, open it again in a new epoch."""
        if self._store is None or self._sealer is None:
            store = self._store = self._open_ours()
            self.epoch = store.epoch
            self._sealer = self._sealer_of(store.epoch)
        return self._store, self._sealer

    def _sealer_of(self, epoch: bytes) -> Sealer:
        identity, custody = self._site.identity, self._site.custody
        keys = () if custody is None else custody.statements
        opening = Opening(self._new_event_id(), identity.software, identity.hardware, identity.config, keys=keys)
        return Sealer(identity.gateway, self.signer, epoch, self._site.max_block, opening)


def _brings(store: Store, stream: str, kid: bytes) -> bool:
    """Say whether a stream's last block is signed by a key, or is the one that says it follows."""
    last = store.last_position(stream)
    for _, block, header in store.read(stream, last, last).blocks:
        events = events_of(block, header)
        return header.kid == kid or any(one.type == "key-rotated" and ("key", kid) in one.data for one in events)
    return False


def _free_bytes(folder: Path) -> int:
    """Give the space that this process may take on the file system of a folder, all of it where that is not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return sys.maxsize
    return (found.f_bavail if os.geteuid() else found.f_bfree) * found.f_frsize


def _ledger(counts: Counts, head: Head | None) -> StreamHealth:
    sealed, held, evicted, damaged, lost = counts
    ledger = StreamHealth(sealed, held=held, evicted=evicted, damaged=damaged, lost=lost)
    return ledger if head is None else _at(ledger, head)


def _grown(ledger: StreamHealth, sealed: Sealed) -> StreamHealth:
    more = len(sealed.blocks)
    return _at(replace(ledger, head=ledger.head + more, held=ledger.held + more), sealed.head)


def _at(ledger: StreamHealth, head: Head) -> StreamHealth:
    readings, missed, dropped = head.totals
    return replace(
        ledger, seq=head.seq, digest=head.digest.hex(), readings=readings, ticks_missed=missed, dropped=dropped
    )
