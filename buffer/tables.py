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
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from buffer.block import Block
from buffer.cbor import loads
from buffer.errors import BlockInvalid, BufferLocked, BufferNewer, BufferUnreadable
from buffer.intervals import Intervals
from buffer.schema import APPLICATION_ID, SCHEMA, migrate

CACHE_KIB = 512
"""What SQLite may keep of the file. Commits touch the end of a tree, readers go in order: more changes no figure."""
_MAGIC = b"SQLite format 3\0"


class Counts(NamedTuple):
    """A stream's ledger: sealed = held + evicted + damaged + lost. `sealed` is its last position too."""

    sealed: int
    held: int
    evicted: int
    damaged: int
    lost: int = 0


class Tables:
    """What can be asked of an open buffer file. Each question is one short transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._known: dict[str, int] = {}
        self.path = path

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
        rows = self._rows(f"SELECT max(position) FROM block_{number:d}") if number else []  # noqa: S608
        return rows[0][0] or 0 if rows else 0

    def rows(self, stream: str, first: int, last: int, limit: int = -1) -> list[tuple[int, Block]]:
        """Give the blocks from position `first` to `last`, unverified, at most `limit` of them."""
        number = self.number(stream)
        if number is None:
            return []
        select = f"SELECT position, envelope, payload FROM block_{number:d}"  # noqa: S608
        found = self._rows(f"{select} WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?", first, last, limit)
        return [(position, Block(envelope, payload)) for position, envelope, payload in found]

    def acknowledged(self, uplink: str, stream: str) -> Intervals:
        """Give the positions of a stream that an uplink has acknowledged. What cannot be read is sent again."""
        query = "SELECT intervals FROM acknowledged WHERE uplink = ? AND stream = ?"
        for (encoded,) in self._rows(query, uplink, self.number(stream)):
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
        rows = self._rows("SELECT evicted, damaged, lost FROM stream WHERE name = ?", stream)
        evicted, damaged, lost = rows[0] if rows else (0, 0, 0)
        return Counts(sealed, sealed - evicted - damaged - lost, evicted, damaged, lost)

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
        raise BufferUnreadable(path=str(path), reason="not an SQLite file")
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    _judge(path, version, application)


def _judge(path: Path, version: int, application: int) -> None:
    if (application, version) != (0, 0) and application != APPLICATION_ID:
        raise BufferUnreadable(path=str(path), reason="another program's database")
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
