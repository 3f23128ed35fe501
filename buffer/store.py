"""The buffer file: blocks in SQLite, the only SQL of the project.

What is always true here:

- One process owns the file (an flock on `PATH.lock`), with one connection, used from the thread that opened it. That
  connection alone writes and checkpoints: SQLite 3.7.0 to 3.51.2 can lose commits otherwise.
- WAL and `synchronous=FULL`: what `append` returned for is on the disk; nothing else is visible (B3).
- One `append` is one transaction for any number of streams. It takes only blocks of this opening's epoch that
  name the stream's last block as their predecessor. After a failed one the store takes and gives no more: close it,
  open it again, and a new epoch begins (B2).
- A stored block is never rewritten (B1); its payload may go, later its header, and the hole stays signed: what
  `append` is given as changes goes in the commit that holds the event of it.
- A block's position is its seq. Of the last block a copy is kept of what its successor must know, so that a damaged
  last row is a hole like any other.
- Blocks that were sealed in memory while the file could not be written are adopted under the numbers they have, all in
  one transaction; they go on from the stream's last block, and what is missing among them is lost in the ledger.
- What is written as acknowledged never reaches beyond the blocks that the same commit leaves in the file: numbers that
  a power cut takes back are used again, by blocks that nobody has.
- Every opening draws a random epoch of 8 bytes.
- SQLite is not relied upon to notice damage: every block is verified when it is read.
- A file of a newer schema, or that is not ours, is refused and not touched.

The agent's store thread enters with `Store`; tools enter with `Reader` (`buffer.reader`), read-only.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from buffer.adopt import place
from buffer.block import Block, Header, check_payload, open_envelope, trust
from buffer.cbor import dumps
from buffer.changes import LOST, PRUNED, Account, Change, Loss
from buffer.errors import BlockInvalid, BufferCorrupt, ChainBroken, CommitFailed, StoreFull
from buffer.holes import apply, keep_standing
from buffer.intervals import Intervals
from buffer.layout import catalogue_digest
from buffer.reader import Reader
from buffer.schema import HEAD, add_stream
from buffer.scrub import Scrubbed, scrub
from buffer.seal import Head, Sealed
from buffer.tables import (
    Counts,
    Space,
    Tables,
    connect,
    encode_head,
    refuse_foreign,
    take_lock,
    unreadable,
)
from buffer.verify import Report, Verifier

__all__ = ["Absence", "Counts", "Reader", "Space", "Store", "Window"]

PAGE_SIZE = 512
"""Chosen by measurement: a block a commit writes least with small pages. Files of earlier versions have 1,024."""
SAFE_SQLITE = (3, 51, 3)
"""Older libraries can lose commits where two connections write or checkpoint."""
EPOCH_BYTES = 8
MAX_READ_BYTES = 4 << 20
_CHUNK = 64


def sqlite_version() -> tuple[int, ...]:
    """Give the version of the library."""
    return sqlite3.sqlite_version_info


class Absence(NamedTuple):
    """Positions, both ends included, that have no row, as a signed event says: `PRUNED` or `LOST`."""

    first: int
    last: int
    reason: str


class Window(NamedTuple):
    """Blocks read in order of position, and the positions between `first` and `last` that cannot be given.

    `last` is how far the reading went: the next one begins behind it. It is one before `first` where nothing is there.
    """

    blocks: tuple[tuple[int, Block, Header], ...]
    damaged: tuple[int, ...]
    last: int
    gone: tuple[Absence, ...] = ()


class Store(Tables):
    """The buffer file, open for writing. Everything is called from the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int, keys: tuple[bytes, ...]) -> None:
        super().__init__(connection, path)
        self.epoch = os.urandom(EPOCH_BYTES)
        self.failed = False
        self.corrupt = False
        """Whether a commit failed because SQLite could not make sense of the content."""
        self._lock = lock
        self._keys = keys
        self._trusted = trust(keys)
        self._heads: dict[str, Head] | None = None

    @classmethod
    def open(cls, path: Path, keys: Iterable[bytes], *, page_size: int = PAGE_SIZE) -> "Store":
        """Open, or make, the buffer at `path`. `keys` are the raw public keys whose blocks are believed.

        Raises BufferLocked, BufferNewer or BufferUnreadable, and has then changed nothing.
        """
        lock = take_lock(path)
        try:
            refuse_foreign(path)
            return cls(connect(path, page_size), path, lock, tuple(keys))
        except BaseException:
            os.close(lock)
            raise

    def reopen(self) -> "Store":
        """Close, and open again in a new epoch: what must follow a failed commit."""
        self.close()
        return Store.open(self.path, self._keys)

    @property
    def trusted(self) -> Mapping[bytes, bytes]:
        """The raw public keys that are believed, by thumbprint."""
        return self._trusted

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection that writes, for whoever builds a new file."""
        return self._db

    def last_position(self, stream: str) -> int:
        """Give the position of a stream's last block, 0 where it has none: without a look at the file once proven."""
        if self._heads is not None:
            return self._heads[stream].seq if stream in self._heads else 0
        return super().last_position(stream)

    def scrub(self, stream: str, first: int, most: int) -> Scrubbed:
        """Prove at most so many rows from a position on. What is damaged is the caller's to tell and take away."""
        return scrub(self, self._trusted, stream, first, most)

    def bound(self, pages: int) -> None:
        """Let the file grow to so many pages; what it has already it keeps."""
        self._rows(f"PRAGMA max_page_count = {max(1, pages):d}")

    def heads(self) -> dict[str, Head]:
        """Give the last block of every stream that has one. Raises ChainBroken where it cannot be proven."""
        if self._heads is None:
            found = {stream: self._read_head(stream) for stream in self.streams()}
            self._heads = {stream: head for stream, head in found.items() if head is not None}
        return dict(self._heads)

    def prove(self, last: int = 1000) -> Report:
        """Prove the last blocks of every stream."""
        verifier = Verifier(self._keys, whole=False)
        for stream in self.streams():
            end = self.last_position(stream)
            for position, block in self.rows(stream, max(1, end - last + 1), end):
                verifier.feed(block.envelope, block.payload, at=(stream, position))
        return verifier.report()

    def append(
        self,
        sealed: Iterable[Sealed],
        acknowledged: Mapping[tuple[str, str], Intervals] = MappingProxyType({}),
        changes: Iterable[Change] = (),
    ) -> dict[str, range]:
        """Commit blocks of any number of streams, and what (uplink, stream) have acknowledged; give the positions.

        `changes` are made in the same commit, before the blocks need their room. The events of them must be in the
        blocks. Returns once it is on the disk. Raises CommitFailed, or StoreFull which is one, and then takes no more.
        """
        if self.failed:
            raise CommitFailed(path=str(self.path), reason="closed after a failed commit")
        group = tuple(sealed)
        heads = self._follow(group)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for change in changes:
                apply(self._db, self.number_of, change)
            positions = {one.stream: self._insert(one) for one in group}
            for (uplink, stream), intervals in acknowledged.items():
                self._acknowledge(uplink, stream, intervals, heads)
            self._db.execute("COMMIT")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(error)
        self._heads = heads
        return positions

    def adopt(
        self,
        branches: Iterable[Sealed],
        acknowledged: Mapping[tuple[str, str], Intervals] = MappingProxyType({}),
        changes: Iterable[Change] = (),
    ) -> None:
        """Commit blocks that were sealed while the file could not be written, each under the number it has.

        A branch goes on from the stream's last block, in whatever epochs. The numbers that are missing in it are
        counted as lost; that an event of the branch names them is the caller's, and so are the events of `changes`.
        Raises ValueError where a branch does not follow, else what `append` raises, and takes no more then.
        """
        if self.failed:
            raise CommitFailed(path=str(self.path), reason="closed after a failed commit")
        found = self.heads()
        placed = [(one, place(found.get(one.stream), one)) for one in branches]
        heads = {**found, **{one.stream: one.head for one, _ in placed}}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for change in changes:
                apply(self._db, self.number_of, change)
            for one, blocks in placed:
                self._insert_branch(one, found.get(one.stream), blocks)
            for (uplink, stream), intervals in acknowledged.items():
                self._acknowledge(uplink, stream, intervals, heads)
            self._db.execute("COMMIT")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(error)
        self._heads = heads

    def make_sure(self) -> None:
        """Have all that the log holds written into the file, and the file synchronised. Raises CommitFailed.

        After a failed commit this must come first: its blocks may stand in the log, and in the memory of the operating
        system, and yet not on the disk; the error of a synchronisation is told once only. What is found afterwards is
        on the disk, what is not found will not turn up.
        """
        try:
            busy, log, written = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._fail(error)
        if busy and log != written:
            raise CommitFailed(path=str(self.path), reason="a reader holds the log")

    def read(self, stream: str, first: int, last: int, max_bytes: int = MAX_READ_BYTES) -> Window:
        """Give proven blocks from position `first` to `last`: at least one row, then up to about `max_bytes`.

        A block whose payload was evicted is given with its payload None. Raises CommitFailed after a failed commit.
        """
        if self.failed:
            raise CommitFailed(path=str(self.path), reason="closed after a failed commit")
        good: list[tuple[int, Block, Header]] = []
        damaged: list[int] = []
        missing: list[tuple[int, int]] = []
        room = max_bytes
        upto = first - 1
        for position, block in self._stream_rows(stream, first, last):
            room -= block.size
            if room < 0 and upto >= first:
                last = upto
                break
            missing += [(upto + 1, position - 1)] if position > upto + 1 else []
            upto = position
            header = self._proven(stream, position, block)
            if header is None:
                damaged.append(position)
            else:
                good.append((position, block, header))
        end = min(last, self.last_position(stream))
        missing += [(upto + 1, end)] if end > upto else []
        told = self._told(stream, missing)
        known = Intervals((one.first, one.last) for one in told)
        damaged += [at for span in missing for first, last in known.gaps(*span) for at in range(first, last + 1)]
        return Window(tuple(good), tuple(sorted(damaged)), max(upto, end), told)

    def number_of(self, stream: str) -> int:
        """Give a stream's number, a new one where it has none; the caller has begun a transaction."""
        number = self.number(stream)
        if number is None:
            number = self._known[stream] = add_stream(self._db, stream)
        return number

    def close(self) -> None:
        """Close the file and let go of the lock. Safe twice."""
        super().close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _told(self, stream: str, missing: list[tuple[int, int]]) -> tuple[Absence, ...]:
        """Say which positions have no row because they were pruned or never written."""
        return tuple(
            sorted(
                Absence(*found, reason)
                for span in missing
                for reason in (PRUNED, LOST)
                for found in self.absent(stream, *span, reason)
            )
        )

    def _stream_rows(self, stream: str, first: int, last: int) -> Iterator[tuple[int, Block]]:
        """Give rows a few at a time, so that a long range does not stand in memory."""
        while first <= last and (rows := self.rows(stream, first, last, limit=_CHUNK)):
            yield from rows
            first = rows[-1][0] + 1

    def _proven(self, stream: str, position: int, block: Block) -> Header | None:
        try:
            header = open_envelope(block.envelope, self._trusted)
            if block.payload is not None:
                check_payload(block, header)
        except BlockInvalid:
            return None
        return header if (header.stream, header.seq) == (stream, position) else None

    def _read_head(self, stream: str) -> Head | None:
        """Give the last block, if it is proven; where its row is damaged or gone, the copy that was kept of it."""
        position, copy, reason = self.last_position(stream), self.head_copy(stream), "no row"
        for _, block in self.rows(stream, position, position):
            try:
                header = open_envelope(block.envelope, self._trusted)
            except BlockInvalid as error:
                reason = error.reason
            else:
                if (header.stream, header.seq) == (stream, position):
                    return Head(header.epoch, header.seq, block.digest, header.totals, header.catalogue)
                reason = "misnumbered"
        stranger = reason == "foreign-key" and self._foreign(stream, position - 1)
        if position and (copy is None or copy.seq < position or stranger):
            raise ChainBroken(path=str(self.path), stream=stream, position=position, reason=reason)
        return copy

    def _foreign(self, stream: str, position: int) -> bool:
        """Say whether a block was signed by a key that is not ours, or is not there at all."""
        for _, block in self.rows(stream, position, position):
            try:
                open_envelope(block.envelope, self._trusted)
            except BlockInvalid as error:
                return error.reason == "foreign-key"
            return False
        return True

    def _follow(self, group: tuple[Sealed, ...]) -> dict[str, Head]:
        """Give the heads after a group. Raises ValueError where its blocks are not the successors of ours."""
        heads = self.heads()
        for one in group:
            head = heads.get(one.stream)
            if one.head.epoch != self.epoch or one.prev != (head and head.digest):
                raise ValueError(f"blocks of stream {one.stream} do not follow this store's last one")
            heads[one.stream] = one.head
        if len({one.stream for one in group}) != len(group):
            raise ValueError("a stream stands twice in one append")
        return heads

    def _insert(self, sealed: Sealed) -> range:
        first = sealed.head.seq - len(sealed.blocks) + 1
        self._insert_blocks(sealed, enumerate(sealed.blocks, start=first))
        return range(first, first + len(sealed.blocks))

    def _insert_branch(self, branch: Sealed, head: Head | None, blocks: Sequence[tuple[int, Block]]) -> None:
        before = 0 if head is None else head.seq
        for position, _ in blocks:
            if position > before + 1:
                count = position - before - 1
                lost = Loss(Account(branch.stream, before + 1, position - 1, count, None))
                apply(self._db, self.number_of, lost)
            before = position
        self._insert_blocks(branch, blocks)

    def _insert_blocks(self, sealed: Sealed, blocks: Iterable[tuple[int, Block]]) -> None:
        number = self.number_of(sealed.stream)
        self._db.executemany(
            f"INSERT INTO block_{number:d} (position, envelope, payload) VALUES (?, ?, ?)",  # noqa: S608
            ((position, block.envelope, block.payload) for position, block in blocks),
        )
        keep_standing(self._db, HEAD, number, encode_head(sealed.stream, sealed.head))
        if sealed.definitions is not None:
            catalogue = sealed.definitions.catalogue
            layouts = [(sha256(layout).digest(), layout) for layout in sealed.definitions.layouts]
            self._db.executemany("INSERT OR IGNORE INTO layout (id, encoded) VALUES (?, ?)", layouts)
            self._db.execute(
                "INSERT OR IGNORE INTO catalogue (digest, encoded) VALUES (?, ?)",
                (catalogue_digest(catalogue), catalogue),
            )

    def _acknowledge(self, uplink: str, stream: str, intervals: Intervals, heads: Mapping[str, Head]) -> None:
        number = self.number_of(stream)
        stored = intervals.upto(heads[stream].seq if stream in heads else 0)
        keep_standing(self._db, uplink, number, dumps(stored.as_list()))

    def _fail(self, error: sqlite3.Error | UnicodeDecodeError) -> NoReturn:
        self.failed = True
        self.corrupt = isinstance(unreadable(self.path, error), BufferCorrupt)
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(path=str(self.path), reason=str(error)) from error
        raise CommitFailed(path=str(self.path), reason=str(error)) from error
