"""What can be asked of a buffer file, and how one is opened, for writing or only for reading.

What is always true here:

- Each question is one short transaction: a long read would pin the write-ahead log.
- A file of a newer schema, or that is not ours, is refused and not touched: it is judged by its first hundred bytes
  before SQLite may open it.
- Nothing read here is verified; whoever asks verifies.

With `buffer.schema` and `buffer.store` the only SQL of the project. `buffer.store` enters.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from buffer.block import Block, Totals
from buffer.cbor import dumps, loads
from buffer.changes import DAMAGED, EVICTED, LOST, PRUNED
from buffer.errors import BlockInvalid, BufferCorrupt, BufferForeign, BufferLocked, BufferNewer, BufferUnreadable
from buffer.intervals import Intervals
from buffer.schema import APPLICATION_ID, HEAD, SCHEMA, WITH_LEDGER, migrate
from buffer.seal import Head

CACHE_KIB = 512
"""What SQLite may keep of the file. Commits touch the end of a tree, readers go in order: more changes no figure."""
LOG_BYTES = 1 << 20
"""How long the log gets before it is carried into the file: a page written often goes there once for all of it."""
_SPACE = ("page_size", "page_count", "freelist_count", "max_page_count")
_ACKNOWLEDGED = "SELECT intervals FROM acknowledged WHERE uplink = ? AND stream = ?"
_CHECK = 8
"""Bytes of SHA-256 behind the copy of a head."""
_MEDIUM = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_MISUSE,
    }
)
"""What SQLite says of the medium or of us; all else it says of the content."""
_MAGIC = b"SQLite format 3\0"


class Counts(NamedTuple):
    """A stream's ledger: sealed = held + evicted + damaged + lost + pruned. `sealed` is its last position too.

    `reasons` are the blocks evicted, by reason.
    """

    sealed: int = 0
    held: int = 0
    evicted: int = 0
    damaged: int = 0
    lost: int = 0
    pruned: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


class Space(NamedTuple):
    """Pages of the file: how large one is, how many there are, how many of them are free, how many there may be."""

    page_size: int
    pages: int
    free: int
    most: int

    @property
    def room(self) -> int:
        """Pages that may still be written."""
        return max(0, self.most - self.pages) + self.free


class Tables:
    """What can be asked of an open buffer file. Each question is one short transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._known: dict[str, int] = {}
        self.path = path
        self.schema: int = self._rows("PRAGMA user_version")[0][0]
        """Older than ours only where the file is open read-only."""

    def streams(self) -> dict[str, int]:
        """Give the number of every stream."""
        return dict(self._rows("SELECT name, number FROM stream ORDER BY number"))

    def number(self, stream: str) -> int | None:
        """Give the number of a stream, None where it has none yet."""
        if stream not in self._known:
            self._known = self.streams()
        return self._known.get(stream)

    def last_position(self, stream: str) -> int:
        """Give the position of a stream's last block, 0 where it has none."""
        number = self.number(stream)
        if number is None:
            return 0
        rows = self._rows(f"SELECT max(position) FROM block_{number:d}")  # noqa: S608
        copy = self.head_copy(stream)
        return max(rows[0][0] or 0, 0 if copy is None else copy.seq)

    def head_copy(self, stream: str) -> Head | None:
        """Give the copy that is kept of a stream's head, None where there is none or it is damaged."""
        if self.schema < WITH_LEDGER:
            return None
        for (encoded,) in self._rows(_ACKNOWLEDGED, HEAD, self.number(stream)):
            found = decode_head(_blob(encoded))
            return found[1] if found is not None and found[0] == stream else None
        return None

    def rows(self, stream: str, first: int, last: int, limit: int = -1) -> list[tuple[int, Block]]:
        """Give the blocks from position `first` to `last`, unverified, at most `limit` of them."""
        found = self._span(stream, "position, envelope, payload", first, last, limit)
        return [(position, _block(envelope, payload)) for position, envelope, payload in found]

    def marked_rows(self, stream: str, first: int, last: int, limit: int) -> list[tuple[int, Block, int | None]]:
        """Give rows as `rows` does, each with the number of the reason why its payload is gone."""
        found = self._span(stream, "position, envelope, payload, gone", first, last, limit)
        return [(position, _block(envelope, payload), gone) for position, envelope, payload, gone in found]

    def gone(self, stream: str, first: int, last: int, limit: int) -> list[tuple[Any, ...]]:
        """Give position and `gone` of rows, as they stand there, at most `limit` of them."""
        return self._span(stream, "position, gone", first, last, limit)

    def payloads(
        self, stream: str, first: int, last: int, limit: int, *, newest: bool = False, keep_every: int = 0
    ) -> list[tuple[int, bytes]]:
        """Give position and envelope, ascending, of the first or the newest rows that have a payload.

        With `keep_every` those whose position is a multiple of it are left out.
        """
        number = self.number(stream)
        skip = f"AND position % {keep_every:d} != 0" if keep_every else ""
        found = self._rows(
            f"SELECT position, envelope FROM block_{number:d} "  # noqa: S608
            f"WHERE position BETWEEN ? AND ? AND payload IS NOT NULL {skip} "
            f"ORDER BY position {'DESC' if newest else ''} LIMIT ?",
            first,
            last,
            limit,
        )
        proper = [(position, _blob(envelope)) for position, envelope in found]
        return proper[::-1] if newest else proper

    def acknowledged(self, uplink: str, stream: str) -> Intervals:
        """Give the positions of a stream that an uplink has acknowledged. What cannot be read is sent again."""
        for (encoded,) in self._rows(_ACKNOWLEDGED, uplink, self.number(stream)):
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
        if self.schema < WITH_LEDGER:
            return Counts(sealed, sealed)
        gone = dict(self._rows("SELECT reason, blocks FROM ledger WHERE stream = ? AND blocks", self.number(stream)))
        reasons = tuple((reason, gone[reason]) for reason in EVICTED if reason in gone)
        evicted, held = sum(blocks for _, blocks in reasons), sealed - sum(gone.values())
        return Counts(sealed, held, evicted, gone.get(DAMAGED, 0), gone.get(LOST, 0), gone.get(PRUNED, 0), reasons)

    def absent(self, stream: str, first: int, last: int, *reasons: str) -> Intervals:
        """Give the positions from `first` to `last` that have no row for one of these reasons."""
        if self.schema < WITH_LEDGER:
            return Intervals()
        spans = self._rows(
            "SELECT first, last, reason FROM absent WHERE stream = ? AND last >= ? AND first <= ?",
            self.number(stream),
            first,
            last,
        )
        return Intervals((max(a, first), min(b, last)) for a, b, reason in spans if reason in reasons)

    def present(self, stream: str) -> Intervals:
        """Give the positions that have a row. It walks over all of them."""
        number = self.number(stream)
        found = Intervals()
        first, last = 1, 0
        for (position,) in self._walk(f"SELECT position FROM block_{number:d} ORDER BY position"):  # noqa: S608
            if position != last + 1:
                if last:
                    found.add_range(first, last)
                first = position
            last = position
        if last:
            found.add_range(first, last)
        return found

    def ages(self, stream: str) -> list[tuple[int, int]]:
        """Give `(position, running time in ns)` of a stream, ascending: when it had come so far."""
        query = "SELECT position, running_ns FROM age WHERE stream = ? ORDER BY position"
        return [(position, running_ns) for position, running_ns in self._rows(query, self.number(stream))]

    def note(self, name: str, default: int = 0) -> int:
        """Give a number that is kept by name."""
        return next((int(value) for (value,) in self._rows("SELECT value FROM note WHERE name = ?", name)), default)

    def space(self) -> Space:
        """Say how much of the file is in use."""
        return Space(*(self._rows(f"PRAGMA {name}")[0][0] for name in _SPACE))

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

    def _span(self, stream: str, columns: str, first: int, last: int, limit: int) -> list[tuple[Any, ...]]:
        number = self.number(stream)
        if number is None:
            return []
        select = f"SELECT {columns} FROM block_{number:d} WHERE position BETWEEN ? AND ?"  # noqa: S608
        found = self._rows(f"{select} ORDER BY position LIMIT ?", first, last, limit)
        self._ascend(found, first, last)
        return found

    def _ascend(self, rows: list[tuple[Any, ...]], first: int, last: int) -> None:
        """Raise BufferCorrupt where a row's number is out of order: no question would find it to take it away."""
        places = [first - 1, *(row[0] for row in rows), last + 1]
        if any(after <= before for before, after in pairwise(places)) and rows:
            raise BufferCorrupt(path=str(self.path), reason="rows out of order")

    def _walk(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise unreadable(self.path, error) from error

    def _one(self, query: str, key: bytes) -> bytes | None:
        return next((_blob(encoded) for (encoded,) in self._rows(query, key)), None)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise unreadable(self.path, error) from error


def _block(envelope: object, payload: object) -> Block:
    return Block(_blob(envelope), None if payload is None else _blob(payload))


def _blob(value: object) -> bytes:
    """Give what should be bytes. Damage can make any type of it, and SQLite does not mind: then it is none."""
    return value if isinstance(value, bytes) else b""


def unreadable(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> BufferUnreadable:
    """Say whether it is the content that SQLite cannot read, its own words of it among that, or the medium."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
    content = isinstance(error, UnicodeDecodeError) or code not in _MEDIUM
    kind = BufferCorrupt if content else BufferUnreadable
    return kind(path=str(path), reason=str(error))


def encode_head(stream: str, head: Head) -> bytes:
    """Encode what the next block must know of the last one, with its checksum."""
    encoded = dumps([stream, head.epoch, head.seq, head.digest, list(head.totals), head.catalogue])
    return sha256(encoded).digest()[:_CHECK] + encoded


def decode_head(data: bytes) -> tuple[str, Head] | None:
    """Undo `encode_head`: give the stream and its head; None where it is not as it was written."""
    encoded = data[_CHECK:]
    if sha256(encoded).digest()[:_CHECK] != data[:_CHECK]:
        return None
    stream, epoch, seq, digest, totals, catalogue = loads(encoded, "head")
    return stream, Head(epoch, seq, digest, Totals(*totals), catalogue)


def take_lock(path: Path) -> int:
    """Own the file: give the descriptor that holds the lock. Raises BufferLocked or BufferUnreadable."""
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


def refuse_foreign(path: Path) -> None:
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
        raise BufferCorrupt(path=str(path), reason="not an SQLite file")
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    _judge(path, version, application)


def _judge(path: Path, version: int, application: int) -> None:
    if (application, version) != (0, 0) and application != APPLICATION_ID:
        raise BufferForeign(path=str(path), reason="another program's database")
    if version > SCHEMA:
        raise BufferNewer(path=str(path), found=version, known=SCHEMA)


def connect(path: Path, page_size: int) -> sqlite3.Connection:
    """Open for writing, making or migrating what is needed. Raises BufferNewer or BufferUnreadable."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    except sqlite3.Error as error:
        raise BufferUnreadable(path=str(path), reason=str(error)) from error
    try:
        _judge(path, *_marks(connection))
        _set_up(connection, page_size)
        migrate(connection, _marks(connection)[0])
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise unreadable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, page_size: int) -> None:
    """Set what a connection does. A file that is there keeps its page size.

    Some systems build SQLite so that it writes zeros over every page that becomes free, which is a third of all that
    a full buffer writes.
    """
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // page_size}")


def connect_readonly(path: Path) -> sqlite3.Connection:
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
