"""The buffer file: blocks in SQLite, the only SQL of the project.

What is always true here:

- One process owns the file (an flock on `PATH.lock`), with one connection, used from the thread that opened it. That
  connection alone writes and checkpoints: SQLite 3.7.0 to 3.51.2 can lose commits otherwise.
- WAL and `synchronous=FULL`: what `append` returned for is on the disk; nothing else is visible (B3).
- One `append` is one transaction for any number of streams. It takes only blocks of this opening's epoch that
  name the stream's last block as their predecessor. After a failed one the store takes no more: close it, open it
  again, and a new epoch begins (B2).
- A stored block is never rewritten (B1); its payload alone may go, and the hole stays signed.
- Every opening draws a random epoch of 8 bytes.
- SQLite is not relied upon to notice damage: every block is verified when it is read.
- A file of a newer schema, or that is not ours, is refused and not touched.

The agent's store thread enters with `Store`; tools enter with `Reader`, read-only and in short transactions.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, NoReturn, Self
from urllib.parse import quote

from buffer.block import Block, Header, check_payload, open_envelope, trust
from buffer.cbor import dumps, loads
from buffer.errors import (
    BlockInvalid,
    BufferLocked,
    BufferNewer,
    BufferUnreadable,
    ChainBroken,
    CommitFailed,
    StoreFull,
)
from buffer.intervals import Intervals
from buffer.layout import catalogue_digest
from buffer.schema import APPLICATION_ID, POSITION_BITS, SCHEMA, migrate
from buffer.seal import Head, Sealed
from buffer.verify import Report, Verifier

PAGE_SIZE = 1024
CACHE_KIB = 2048
EPOCH_BYTES = 8
MAX_READ_BYTES = 4 << 20
_MAGIC = b"SQLite format 3\0"
_POSITIONS = (1 << POSITION_BITS) - 1
_CHUNK = 64


class Window(NamedTuple):
    """Blocks read in order of position, and the positions between `first` and `last` that cannot be given.

    `last` is how far the reading went: the next one begins behind it. It is one before `first` where nothing is there.
    """

    blocks: tuple[tuple[int, Block, Header], ...]
    damaged: tuple[int, ...]
    last: int


class Counts(NamedTuple):
    """A stream's ledger: sealed = held + evicted + damaged. `sealed` is its last position too."""

    sealed: int
    held: int
    evicted: int
    damaged: int


class _Tables:
    """What can be asked of an open buffer file. Each question is one short transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path

    def streams(self) -> dict[str, int]:
        """Give the number of every stream."""
        return dict(self._rows("SELECT name, number FROM stream ORDER BY number"))

    def last_position(self, stream: str) -> int:
        """Give the position of a stream's last block, 0 where it has none."""
        base = self._base(stream)
        rows = self._rows("SELECT max(id) FROM block WHERE id BETWEEN ? AND ?", base, base + _POSITIONS)
        return (rows[0][0] or base) - base

    def rows(self, stream: str, first: int, last: int, limit: int = -1) -> list[tuple[int, Block]]:
        """Give the blocks from position `first` to `last`, unverified, at most `limit` of them."""
        base = self._base(stream)
        query = "SELECT id, envelope, payload FROM block WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        found = self._rows(query, base + first, base + min(last, _POSITIONS), limit)
        return [(number - base, Block(envelope, payload)) for number, envelope, payload in found]

    def acknowledged(self, uplink: str, stream: str) -> Intervals:
        """Give the positions of a stream that an uplink has acknowledged. What cannot be read is sent again."""
        query = "SELECT intervals FROM acknowledged WHERE uplink = ? AND stream = ?"
        for (encoded,) in self._rows(query, uplink, self.streams().get(stream)):
            with suppress(BlockInvalid, ValueError, TypeError):
                return Intervals.from_list(loads(encoded, "acknowledged"))
        return Intervals()

    def catalogue(self, digest: bytes) -> bytes | None:
        """Give an encoded catalogue by its digest."""
        return self._one("SELECT encoded FROM catalogue WHERE digest = ?", digest)

    def layout(self, identity: bytes) -> bytes | None:
        """Give an encoded layout by its id."""
        return self._one("SELECT encoded FROM layout WHERE id = ?", identity)

    def counts(self, stream: str) -> Counts:
        """Give a stream's ledger."""
        sealed = self.last_position(stream)
        rows = self._rows("SELECT evicted, damaged FROM stream WHERE name = ?", stream)
        evicted, damaged = rows[0] if rows else (0, 0)
        return Counts(sealed, sealed - evicted - damaged, evicted, damaged)

    def close(self) -> None:
        """Close the file. Safe twice."""
        self._db.close()

    def __enter__(self) -> Self:
        """Stay open until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _base(self, stream: str) -> int:
        return self.streams().get(stream, 0) << POSITION_BITS

    def _one(self, query: str, key: bytes) -> bytes | None:
        for (encoded,) in self._rows(query, key):
            found: bytes = encoded
            return found
        return None

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise BufferUnreadable(path=str(self.path), reason=str(error)) from error


class Store(_Tables):
    """The buffer file, open for writing. Everything is called from the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int, keys: tuple[bytes, ...]) -> None:
        super().__init__(connection, path)
        self.epoch = os.urandom(EPOCH_BYTES)
        self.failed = False
        self._lock = lock
        self._keys = keys
        self._trusted = trust(keys)
        self._heads: dict[str, Head] | None = None
        self._numbers = self.streams()

    @classmethod
    def open(cls, path: Path, keys: Iterable[bytes], *, page_size: int = PAGE_SIZE) -> "Store":
        """Open, or make, the buffer at `path`. `keys` are the raw public keys whose blocks are believed.

        Raises BufferLocked, BufferNewer or BufferUnreadable, and has then changed nothing.
        """
        lock = _take_lock(path)
        try:
            _refuse_foreign(path)
            return cls(_connect(path, page_size), path, lock, tuple(keys))
        except BaseException:
            os.close(lock)
            raise

    def reopen(self) -> "Store":
        """Close, and open again in a new epoch: what must follow a failed commit."""
        self.close()
        return Store.open(self.path, self._keys)

    def heads(self) -> dict[str, Head]:
        """Give the last block of every stream that has one. Raises ChainBroken where it cannot be proven."""
        if self._heads is None:
            found = {stream: self._read_head(stream) for stream in self._numbers}
            self._heads = {stream: head for stream, head in found.items() if head is not None}
        return dict(self._heads)

    def prove(self, last: int = 1000) -> Report:
        """Prove the last blocks of every stream."""
        verifier = Verifier(self._keys, whole=False)
        for stream in self._numbers:
            end = self.last_position(stream)
            for position, block in self.rows(stream, max(1, end - last + 1), end):
                verifier.feed(block.envelope, block.payload, at=(stream, position))
        return verifier.report()

    def append(
        self, sealed: Iterable[Sealed], acknowledged: Mapping[tuple[str, str], Intervals] = MappingProxyType({})
    ) -> dict[str, range]:
        """Commit blocks of any number of streams, and what (uplink, stream) have acknowledged; give the positions.

        Returns once it is on the disk. Raises CommitFailed, or StoreFull which is one, and then takes no more.
        """
        if self.failed:
            raise CommitFailed(path=str(self.path), reason="closed after a failed commit")
        group = tuple(sealed)
        heads = self._follow(group)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            positions = {one.stream: self._insert(one) for one in group}
            for (uplink, stream), intervals in acknowledged.items():
                self._acknowledge(uplink, stream, intervals)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)
        self._heads = heads
        return positions

    def read(self, stream: str, first: int, last: int, max_bytes: int = MAX_READ_BYTES) -> Window:
        """Give proven blocks from position `first` to `last`: at least one row, then up to about `max_bytes`.

        A block whose payload was evicted is given with its payload None.
        """
        good: list[tuple[int, Block, Header]] = []
        damaged: list[int] = []
        room = max_bytes
        upto = first - 1
        for position, block in self._stream_rows(stream, first, last):
            room -= block.size
            if room < 0 and upto >= first:
                break
            damaged += range(upto + 1, position)
            upto = position
            header = self._proven(stream, block)
            if header is None:
                damaged.append(position)
            else:
                good.append((position, block, header))
        return Window(tuple(good), tuple(damaged), upto)

    def close(self) -> None:
        """Close the file and let go of the lock. Safe twice."""
        super().close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _stream_rows(self, stream: str, first: int, last: int) -> Iterator[tuple[int, Block]]:
        """Give rows a few at a time, so that a long range does not stand in memory."""
        while first <= last and (rows := self.rows(stream, first, last, limit=_CHUNK)):
            yield from rows
            first = rows[-1][0] + 1

    def _proven(self, stream: str, block: Block) -> Header | None:
        try:
            header = open_envelope(block.envelope, self._trusted)
            if block.payload is not None:
                check_payload(block, header)
        except BlockInvalid:
            return None
        return header if header.stream == stream else None

    def _read_head(self, stream: str) -> Head | None:
        position = self.last_position(stream)
        for _, block in self.rows(stream, position, position):
            try:
                header = open_envelope(block.envelope, self._trusted)
            except BlockInvalid as error:
                raise ChainBroken(path=str(self.path), stream=stream, position=position, reason=error.reason) from error
            return Head(header.epoch, header.seq, block.digest, header.totals, header.catalogue)
        return None

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
        number = self._numbers.get(sealed.stream) or self._new_stream(sealed.stream)
        first = self.last_position(sealed.stream) + 1
        base = number << POSITION_BITS
        self._db.executemany(
            "INSERT INTO block (id, envelope, payload) VALUES (?, ?, ?)",
            ((base + first + at, block.envelope, block.payload) for at, block in enumerate(sealed.blocks)),
        )
        if sealed.definitions is not None:
            catalogue = sealed.definitions.catalogue
            layouts = [(sha256(layout).digest(), layout) for layout in sealed.definitions.layouts]
            self._db.executemany("INSERT OR IGNORE INTO layout (id, encoded) VALUES (?, ?)", layouts)
            self._db.execute(
                "INSERT OR IGNORE INTO catalogue (digest, encoded) VALUES (?, ?)",
                (catalogue_digest(catalogue), catalogue),
            )
        return range(first, first + len(sealed.blocks))

    def _new_stream(self, stream: str) -> int:
        number = self._db.execute("INSERT INTO stream (name) VALUES (?) RETURNING number", (stream,)).fetchone()[0]
        self._numbers = self.streams()
        return int(number)

    def _acknowledge(self, uplink: str, stream: str, intervals: Intervals) -> None:
        number = self._numbers.get(stream) or self._new_stream(stream)
        self._db.execute(
            "INSERT INTO acknowledged (uplink, stream, intervals) VALUES (?, ?, ?) "
            "ON CONFLICT (uplink, stream) DO UPDATE SET intervals = excluded.intervals",
            (uplink, number, dumps(intervals.as_list())),
        )

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        self.failed = True
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(path=str(self.path), reason=str(error)) from error
        raise CommitFailed(path=str(self.path), reason=str(error)) from error


class Reader(_Tables):
    """The buffer file for tools: read-only, beside a running service or without one. Nothing read is verified."""

    def __init__(self, path: Path) -> None:
        """Open. Raises BufferUnreadable or BufferNewer."""
        if not path.exists():
            raise BufferUnreadable(path=str(path), reason="no such file")
        _refuse_foreign(path)
        super().__init__(_connect_readonly(path), path)

    def blocks(self, stream: str, first: int = 1, last: int = _POSITIONS) -> Iterator[tuple[int, Block]]:
        """Go over a stream's blocks in order of position, a few a transaction: the writer is never held up."""
        while first <= last and (rows := self.rows(stream, first, last, limit=_CHUNK)):
            yield from rows
            first = rows[-1][0] + 1

    def digest_at_head(self, stream: str) -> bytes | None:
        """Give the digest of a stream's last block."""
        position = self.last_position(stream)
        return next((block.digest for _, block in self.rows(stream, position, position)), None)


def _take_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise BufferUnreadable(path=str(path), reason=error.strerror) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BufferLocked(path=str(path)) from error
    return lock


def _refuse_foreign(path: Path) -> None:
    """Judge a file by its first hundred bytes, before SQLite may touch it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BufferUnreadable(path=str(path), reason=error.strerror) from error
    if not head:
        return
    if len(head) < 100 or head[:16] != _MAGIC:
        raise BufferUnreadable(path=str(path), reason="not an SQLite file")
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    _judge(path, version, application)


def _judge(path: Path, version: int, application: int) -> None:
    if (application, version) != (0, 0) and application != APPLICATION_ID:
        raise BufferUnreadable(path=str(path), reason="another program's database")
    if version > SCHEMA:
        raise BufferNewer(path=str(path), found=version, known=SCHEMA)


def _connect(path: Path, page_size: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        _judge(path, *_marks(connection))
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        migrate(connection, _marks(connection)[0])
    except sqlite3.Error as error:
        connection.close()
        raise BufferUnreadable(path=str(path), reason=str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Open read-only; where the folder cannot take SQLite's index files and no log is there, as unchanging."""
    options = ["mode=ro"]
    if not path.with_name(f"{path.name}-wal").exists():
        options.append("mode=ro&immutable=1")
    reason = ""
    for option in options:
        connection = sqlite3.connect(f"file:{quote(str(path))}?{option}", uri=True, isolation_level=None, timeout=5.0)
        try:
            version, application = _marks(connection)
            connection.execute("SELECT count(*) FROM stream").fetchone()
            _judge(path, version, application)
        except sqlite3.Error as error:
            connection.close()
            reason = str(error)
        else:
            return connection
    raise BufferUnreadable(path=str(path), reason=reason)


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return version, connection.execute("PRAGMA application_id").fetchone()[0]
