"""The keeper: seals batches and commits them, inside the one thread that owns SQLite and signing.

What is always true here:

- One commit holds the blocks of all streams that had something to seal, and what was acknowledged since the last one.
- A block exists for the rest of the house once its commit has returned, never before (B3).
- What housekeeping planned is done in the next commit, in the blocks of which its events are sealed.
- Where the file had to be set aside (`agent.holding`), each stream's next `start` says so, in whichever commit that is.
- After any failed commit the store is closed; the next call opens it again, which begins a new epoch whose first
  block in every stream says so (B2). What was being sealed is still the caller's.
- A rotation is one commit of `key-rotated` in every stream of the store, signed with the old key; then the store is
  opened again, and the new epoch is signed with the new one. Where the commit's end is not known, the heads found at
  the next opening say which key is in force.
- A commit whose synchronisation alone failed may be in the file. If it is, its blocks are not sealed again.
- While the store cannot commit, blocks are sealed onto a branch in memory; it is adopted as a whole, or not at all.

Only `agent.recorder` enters, through the owner's thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from agent import rotating, telling
from agent.branch import Branch, Doubt, kept_of
from agent.definitions import Definitions
from agent.health import Document, StreamHealth, Trouble
from agent.holding import Finds, Holding
from agent.housekeeping import Housekeeping, damaged_ends
from agent.kept import VOLATILE, AckKey, Definition, Identity, Kept, Reading, Site, Turn
from agent.opener import warn_of_library, write_highest
from buffer.changes import LOST, Change, Damage
from buffer.errors import CommitFailed, KeyFixed, StoreFull
from buffer.frame import Layout
from buffer.intervals import Intervals
from buffer.keys import Signer
from buffer.seal import Batch, Head, Moment, Opening, Sealed, Sealer
from buffer.store import Store

__all__ = ["Identity", "Keeper", "Site"]

NOTE_HIGHEST_NS = 60 * 10**9


class Keeper:
    """The store, the sealer and the ledgers. All but the constructor and `moment` run in the owner's thread."""

    def __init__(self, site: Site, moment: Callable[[], Moment], new_event_id: Callable[[], bytes]) -> None:
        self._site = site
        self._moment = moment
        self._new_event_id = new_event_id
        self._file = Holding(lambda: self._site, Finds(self._salvaged, self._absent, self._there))
        self._sealer: Sealer | None = None
        self._doubtful: Doubt | None = None
        self._late: tuple[Kept, ...] = ()
        self._branch: Branch | None = None
        self._definitions = Definitions(lambda: self._site, lambda: self._opened()[0])
        self._housekeeping: Housekeeping | None = None
        self._planned: tuple[Change, ...] = ()
        self._settled: dict[AckKey, Intervals] = {}
        self._cramped = False
        self._noted_ns = -NOTE_HIGHEST_NS
        self.epoch = b""
        self.ledgers: dict[str, StreamHealth] = {}
        """By stream; replaced as a whole after every commit, so that any thread may read it."""
        self.clock: Document = {}
        self.buffer: Document = {}
        self.restless = False
        """Whether housekeeping has more to do than fits into one commit."""
        self.alarm: Trouble | None = None
        """What housekeeping has to complain of."""

    def moment(self) -> Moment:
        """Take all clocks at once."""
        return self._moment()

    def open(self, uplinks: Iterable[str]) -> dict[AckKey, Intervals]:
        """Open the store and prove its end; give what each uplink has acknowledged of each stream.

        Raises BufferLocked, BufferNewer, or BufferUnreadable where it is another program's or the medium is not well.
        """
        warn_of_library()
        settled = self._file.believed(lambda: self._prove_end(self._opened()[0], tuple(uplinks)))
        self._settled = {key: intervals.copy() for key, intervals in settled.items()}
        return settled

    def _prove_end(self, store: Store, uplinks: tuple[str, ...]) -> dict[AckKey, Intervals]:
        streams = dict.fromkeys((*self._site.catalogues, *store.streams()))
        found = damaged_ends(store)
        self._plan(tuple(one for one in found if not telling.is_planned(one, self._planned)), self._planned)
        self._file.heads = store.heads()
        self.ledgers = {stream: telling.ledger_of(store, stream) for stream in streams}
        settled = {(uplink, stream): store.acknowledged(uplink, stream) for uplink in uplinks for stream in streams}
        for (_, stream), intervals in settled.items():
            intervals.cut(store.last_position(stream))  # what was acknowledged beyond a lost end will be other blocks
        return settled

    def carriers_of(self, stream: str) -> list[str]:
        """Give the configured uplinks that carry a stream."""
        return self._site.rules.carriers_of(stream)

    # -- sealing ---------------------------------------------------------------------------------------------------

    def acknowledged(self, uplinks: Iterable[str], streams: Iterable[str]) -> dict[AckKey, Intervals]:
        """Give what uplinks have acknowledged of streams, known before or not. Raises what `open` raises."""
        store, _ = self._opened()
        known = tuple(dict.fromkeys((*streams, *self.ledgers)))
        found = {(uplink, stream): store.acknowledged(uplink, stream) for uplink in uplinks for stream in known}
        self._settled = {**{key: intervals.copy() for key, intervals in found.items()}, **self._settled}
        return found

    def turn(self, turn: Turn) -> None:
        """Change what positions mean, what counts as delivered, and the configuration's digest, from the next block on.

        A stream that goes keeps its catalogue, so that what is still to be said of it can be.
        """
        site = self._site
        self._site = replace(
            site,
            catalogues={**site.catalogues, **turn.catalogues},
            identity=replace(site.identity, config=turn.config),
            rules=replace(site.rules, carriers=turn.carriers),
        )
        self._planned = tuple(one for one in self._planned if isinstance(one, Damage))  # the rest by the new rules
        self.ledgers = {**dict.fromkeys(turn.catalogues, StreamHealth()), **self.ledgers}
        if self._housekeeping is not None:
            self._housekeeping.rules = self._site.rules
        if self._sealer is not None and self._sealer.opening is not None:
            self._sealer = replace(self._sealer, opening=self._sealer.opening._replace(config=turn.config))

    def seal(self, batches: Mapping[str, Batch], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Seal and commit. Raises CommitFailed; the batches are unharmed and may be given again."""
        assert self._branch is None
        with self._file.committing():
            store, sealer = self._opened()
            if (kept := self._came_through(store, batches)) is not None:
                return kept
            moment, changes = self._moment(), self._due()
            changes += telling.told_again(store, changes)
            told = telling.with_events(batches, changes, moment.boot_ns, self._new_event_id)
            sealed = self._seal_all(sealer, store.heads(), told, moment)
        return self._with_late(self._commit(Doubt(batches, sealed, changes), acknowledged, store))

    def _commit(self, doubt: Doubt, acknowledged: Mapping[AckKey, Intervals], store: Store) -> tuple[Kept, ...]:
        try:
            store.append(doubt.sealed, acknowledged, doubt.changes)
        except CommitFailed as error:
            self._failed(error, store, {**store.heads(), **{one.stream: one.head for one in doubt.sealed}})
            self._doubtful = doubt
            self._planned = telling.holes_of(self._planned)
            raise
        if doubt.changes:
            self._planned = ()
        self._wrote(acknowledged)
        return self._committed(doubt.sealed, store)

    def _failed(self, error: CommitFailed, store: Store, may_be: dict[str, Head]) -> None:
        self._cramped = isinstance(error, StoreFull)
        self._file.failed(store, may_be)

    def _wrote(self, acknowledged: Mapping[AckKey, Intervals]) -> None:
        self._cramped = False
        self._file.wrote()
        self._settled.update({key: intervals.copy() for key, intervals in acknowledged.items()})

    def _seal_all(
        self,
        sealer: Sealer,
        heads: Mapping[str, Head],
        batches: Mapping[str, Batch],
        moment: Moment,
        *,
        volatile: bool = False,
    ) -> tuple[Sealed, ...]:
        self.clock = moment.clock._asdict()
        return tuple(
            telling.knowing(sealer, self._file.known.get(stream), self._file.broken).seal(
                stream, heads.get(stream), batch, self._layouts(stream, heads), moment, volatile=volatile
            )
            for stream, batch in batches.items()
        )

    def _layouts(self, stream: str, heads: Mapping[str, Head]) -> tuple[Layout, ...]:
        head = heads.get(stream)
        return self._definitions.of_stream(stream, b"" if head is None else head.catalogue)

    def _came_through(self, store: Store, batches: Mapping[str, Batch]) -> tuple[Kept, ...] | None:
        """Give the blocks of the commit that failed if the store has them after all: its sync may have failed alone."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is None or not doubtful.sealed:
            return None
        heads = store.heads()
        if any(heads.get(one.stream) != one.head for one in doubtful.sealed):
            return None
        kept = self._committed(doubtful.sealed, store)
        if doubtful.batches is batches:
            return self._with_late(kept)
        self._late = (*self._late, *kept)  # a rotation: told with what is sealed next
        return None

    def _with_late(self, kept: tuple[Kept, ...]) -> tuple[Kept, ...]:
        late, self._late = self._late, ()
        return (*late, *kept)

    def _committed(self, sealed: Sequence[Sealed], store: Store) -> tuple[Kept, ...]:
        self._file.heads = store.heads()
        for one in sealed:
            self._file.known.pop(one.stream, None)
        self.ledgers = {**self.ledgers, **{one.stream: telling.ledger_of(store, one.stream) for one in sealed}}
        return kept_of(sealed)

    # -- housekeeping ----------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Plan what is due of housekeeping, a slice of it. Raises what the store raises where it cannot be read."""
        if self._branch is not None:  # nothing can be done before it is adopted
            return
        store, _ = self._opened()
        boot_ns = self._moment().boot_ns
        if not self._planned:
            self._plan(self._file.believed(lambda: self._slice(boot_ns)))
        else:  # it waits for the next commit, and the alarm must not
            self._house.bound()
        self.restless = bool(self._planned) or self._house.behind
        self.alarm, self.buffer = self._house.alarm(self._site.path), self._house.document()
        if boot_ns - self._noted_ns >= NOTE_HIGHEST_NS:
            self._noted_ns = boot_ns
            write_highest(self._site.path, {stream: head.seq for stream, head in store.heads().items()})

    def _slice(self, boot_ns: int) -> tuple[Change, ...]:
        self._opened()
        return self._house.plan(self._settled, boot_ns)

    @property
    def _house(self) -> Housekeeping:
        """The housekeeping of the store as it is open."""
        assert self._housekeeping is not None
        return self._housekeeping

    def _plan(self, changes: tuple[Change, ...], before: tuple[Change, ...] = ()) -> None:
        telling.complain(changes)
        self._planned = (*before, *changes)

    def _due(self) -> tuple[Change, ...]:
        """Give what was planned, and what makes room where the last commit had none."""
        if self._cramped:
            self._planned = (*telling.holes_of(self._planned), *self._house.urgent(self._settled))
        return self._planned

    # -- without a disk --------------------------------------------------------------------------------------------

    @property
    def rotation_in_doubt(self) -> bool:
        """Say whether it is not known which key is in force: nothing can be sealed before that, in memory neither."""
        return self._doubtful is not None and not self._doubtful.batches

    def seal_volatile(self, batches: Mapping[str, Batch]) -> tuple[Kept, ...]:
        """Seal onto the branch, which the first call begins; give the blocks, which are in memory only.

        The batches whose commit has just failed are on the branch already, as doubtful blocks, which are not given.
        """
        assert not self.rotation_in_doubt
        doubtful, self._doubtful = self._doubtful, None
        if self._branch is None:
            self._branch = self._new_branch(doubtful)
        if doubtful and doubtful.batches is batches:
            return ()
        branch = self._branch
        sealed = self._seal_all(branch.sealer, branch.heads, batches, self._moment(), volatile=True)
        for stream in filter(branch.begins, batches):
            self._file.known.pop(stream, None)
        return branch.grow(sealed)

    def _new_branch(self, doubtful: Doubt | None) -> Branch:
        """Go on from the last block sealed, in an epoch of its own: eight random bytes, as an event's id."""
        sealer, heads = self._sealer_of(self._new_event_id()), dict(self._file.heads or {})
        if doubtful is None:
            return Branch(sealer, heads)
        self._file.known.update({one.stream: "volatile" for one in doubtful.sealed})
        self._planned = ()
        return Branch(sealer, heads, doubtful.sealed, doubtful.changes)

    def reach(self) -> dict[str, int]:
        """Open the store if it is not open, and make sure of it; give its last positions. Raises CommitFailed."""
        with self._file.committing():
            return {stream: head.seq for stream, head in self._opened()[0].heads().items()}

    def adopt(self, held: Mapping[str, Sequence[Kept]], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Write the branch behind what the store has; `held` is what the memory had room for.

        Gives the doubtful blocks, which may be shown now. Raises CommitFailed; the branch is unharmed then.
        """
        branch = self._branch
        assert branch is not None
        with self._file.committing():
            store, _ = self._opened()
            found = store.heads()
        try:
            store.adopt(branch.beyond(found, held), acknowledged, branch.owed(found))
        except CommitFailed as error:
            self._failed(error, store, dict(branch.heads))
            raise
        self._wrote(acknowledged)
        return self._adopted(branch, store)

    def _adopted(self, branch: Branch, store: Store) -> tuple[Kept, ...]:
        heads = self._file.heads = store.heads()
        self._branch = None
        lost = {stream: known for stream, known in self._file.known.items() if known == "lost"}
        self._file.known = {one: "volatile" for one, head in heads.items() if head.epoch == branch.sealer.epoch} | lost
        self.ledgers = {**self.ledgers, **{stream: telling.ledger_of(store, stream) for stream in heads}}
        return kept_of(branch.doubtful)

    # -- the key ---------------------------------------------------------------------------------------------------

    @property
    def signer(self) -> Signer:
        """The key in force."""
        return self._file.signer

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
        batch = rotating.begin(custody, gateway, moment.boot_ns, self._new_event_id())
        heads = store.heads()
        streams = dict.fromkeys((*self._site.catalogues, *heads), batch)
        sealed = self._seal_all(sealer, heads, streams, moment)
        kept = self._commit(Doubt({}, sealed, ()), {}, store)
        rotating.switch(custody, gateway)
        self._file.trust()
        self.close()
        return kept

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, stream: str, first: int, last: int, max_bytes: int) -> Reading:
        """Read committed blocks, each proven again."""
        window = self._file.believed(lambda: self._opened()[0].read(stream, first, last, max_bytes))
        for position in window.damaged:
            self._house.suspect(stream, position)
        blocks = tuple(Kept(stream, position, block, header.catalogue) for position, block, header in window.blocks)
        gone = tuple(one._replace(reason=VOLATILE) if one.reason == LOST else one for one in window.gone)
        return Reading(blocks, window.damaged, gone)

    def definition(self, digest: bytes) -> Definition:
        """Give a catalogue that was signed, and its layouts. Raises BufferUnreadable where one is damaged."""
        return self._definitions.get(digest)

    # -- opening ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store; the lock is free then."""
        self._file.close()

    def _opened(self) -> tuple[Store, Sealer]:
        """Give the store as it is open; after a failed commit, open it again in a new epoch."""
        if self._file.store is None or self._sealer is None:
            store = self._file.open()
            try:
                self._housekeeping = Housekeeping(self._site.rules, store, self._moment().boot_ns)
                self._sealer = self._sealer_of(store.epoch)
            except BaseException:  # what it notes may be damaged too, and the lock must not outlive the store
                store.close()
                raise
            self._file.store, self.epoch = store, store.epoch
        return self._file.store, self._sealer

    def _salvaged(self, found: tuple[Change, ...]) -> None:
        """Tell of what a salvage found gone, instead of what was planned for the file before."""
        self._plan(found)
        if self._branch is not None:
            self._branch.changes = ()

    def _absent(self) -> None:
        """What failed is not in the file, and may be sealed again."""
        self._doubtful = None

    def _there(self) -> None:
        """What failed is in the file, and all that was planned with it is done."""
        self._planned = ()

    def _sealer_of(self, epoch: bytes) -> Sealer:
        identity, custody = self._site.identity, self._site.custody
        keys = () if custody is None else custody.statements
        opening = Opening(self._new_event_id(), identity.software, identity.hardware, identity.config, keys=keys)
        return Sealer(identity.gateway, self.signer, epoch, self._site.max_block, opening)
