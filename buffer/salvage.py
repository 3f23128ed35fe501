"""A file that cannot be believed: set aside, kept, and carried block by block into a new one.

What is always true here:

- The broken file and its log are only read, then renamed `NAME.broken-N`, never deleted. The log goes first: beside a
  new file it would be taken for that file's own.
- The new file is built under a name of its own and takes the old one's place when it is whole.
- Nothing is set aside while the medium itself cannot be read to the end: a dead disk makes a healthy file look broken.
- Only proven blocks are carried over, each to its own position. Nothing of the old file is believed but signatures, the
  copies of heads by their checksums, and what signed events say of holes. Definitions come from their blocks.
- Of a row that is left with and without payload the one without is the later: payloads go and never come back.
- Every hole that no signed event explains is the caller's to tell; the ledger does not count it before.

The agent's keeper enters.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from buffer.block import (
    KIND_DATA,
    KIND_DEFINITIONS,
    KIND_EVENTS,
    Block,
    Header,
    check_payload,
    open_envelope,
    payload_bytes,
    trust,
)
from buffer.carve import Row, carve
from buffer.changes import DAMAGED, EVICTED, GONE, LOST, PRUNED
from buffer.columnar import decode_payload
from buffer.errors import BlockInvalid, BufferUnreadable, StoreFull
from buffer.holes import count, keep_standing, note_absent
from buffer.intervals import Intervals
from buffer.layout import catalogue_digest
from buffer.schema import HEAD
from buffer.seal import Head
from buffer.store import Store
from buffer.tables import decode_head, encode_head, take_lock

_PARTS = ("-wal", "-shm", "-journal", "")
_CHUNK = 1 << 20
_MANY = 256
"""Rows a commit."""
_ABSENT = "SELECT first, last FROM absent WHERE stream = ?"
_BUILDING, _BUILT = ".salvage", ".salvaged"


def recover(path: Path, keys: Iterable[bytes], heads: Mapping[str, Head]) -> str:
    """Put a salvaged file in the place of a broken one; give the name under which that is kept.

    `heads` are last blocks known otherwise. Raises BufferLocked, BufferUnreadable where the medium is not well, or
    StoreFull where a second file has no room. Cut off at any instant it begins again, or is ended by `finish`.
    """
    lock = take_lock(path)
    try:
        _read_through(path)
        _build(path, tuple(keys), heads)
        return _swap(path).name
    except OSError as error:
        raise BufferUnreadable(path=str(path), reason=error.strerror) from error
    except sqlite3.Error as error:
        raise StoreFull(path=str(path), reason=str(error)) from error
    finally:
        os.close(lock)


def finish(path: Path) -> str | None:
    """End a salvage that was cut off between two renames; give the name of what was set aside by it."""
    return _swap(path).name if path.with_name(path.name + _BUILT).exists() else None


def is_ours(path: Path, keys: Iterable[bytes]) -> bool:
    """Say whether a file that is not marked as ours has a block of ours."""
    trusted = trust(tuple(keys))
    return any(_block(trusted, row) is not None for row in carve(path))


def holes(store: Store, stream: str) -> list[tuple[int, int]]:
    """Give the runs of positions that have no row and no word."""
    end = store.last_position(stream)
    return store.absent(stream, 1, end, DAMAGED, LOST, PRUNED).union(store.present(stream)).gaps(1, end)


def bare(store: Store, stream: str) -> list[int]:
    """Give the positions whose payload is gone without a word."""
    select = f"SELECT position FROM block_{store.number_of(stream):d} WHERE payload IS NULL AND gone IS NULL"  # noqa: S608
    return [position for (position,) in store.connection.execute(select)]


def _read_through(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(_CHUNK):
            pass


def _build(path: Path, keys: tuple[bytes, ...], heads: Mapping[str, Head]) -> None:
    building = path.with_name(path.name + _BUILDING)
    for part in (*_PARTS, ".lock"):
        building.with_name(building.name + part).unlink(missing_ok=True)
    with Store.open(building, keys) as store:
        _Salvage(store, heads).carry(path)
    building.with_name(f"{building.name}.lock").unlink()
    building.rename(path.with_name(path.name + _BUILT))
    _sync_folder(path)


def _swap(path: Path) -> Path:
    kept = _free_name(path)
    for part in _PARTS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + part).rename(kept.with_name(kept.name + part))
    path.with_name(path.name + _BUILT).rename(path)
    _sync_folder(path)
    return kept


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _free_name(path: Path) -> Path:
    """Give a name that no broken file has; one of which only the log was renamed is gone on with."""
    number = 1
    while path.with_name(f"{path.name}.broken-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}.broken-{number}")


def _block(trusted: Mapping[bytes, bytes], row: Row) -> tuple[Header, Block, int | None] | None:
    """Give the proven block of a carved row: its payload None where it is gone or not the signed one."""
    match row.columns:
        case (None, bytes(envelope), bytes() | None as payload, *rest) if len(rest) <= 1:
            pass
        case _:
            return None
    try:
        header = open_envelope(envelope, trusted)
    except BlockInvalid:
        return None
    if header.seq != row.rowid:
        return None
    block = Block(envelope, payload)
    if payload is None:
        known = rest[0] if rest and rest[0] in GONE.values() else None
        return header, block, known if isinstance(known, int) else None
    try:
        check_payload(block, header)
    except BlockInvalid:
        return header, Block(envelope, None), None
    return header, block, None


class _Salvage:
    def __init__(self, store: Store, heads: Mapping[str, Head]) -> None:
        self._store = store
        self._db = store.connection
        self._heads = dict(heads)
        self._copies: dict[str, Head] = {}

    def carry(self, kept: Path) -> None:
        for chunk in _chunks(carve(kept), _MANY):
            self._db.execute("BEGIN IMMEDIATE")
            for row in chunk:
                self._take(row)
            self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        for stream in self._store.streams():
            self._explain(stream)
        for stream in self._heads:  # a copy is believed where a block of the stream is proven: it is not signed
            if stream in self._copies:
                _raise(self._heads, stream, self._copies[stream])
        for stream, head in self._heads.items():
            keep_standing(self._db, HEAD, self._store.number_of(stream), encode_head(stream, head))
        self._db.execute("COMMIT")

    def _take(self, row: Row) -> None:
        match row.columns:
            case (bytes(), int(), bytes(encoded)):
                copy = decode_head(encoded)
                if copy is not None:
                    _raise(self._copies, *copy)
                return
        found = _block(self._store.trusted, row)
        if found is None:
            return
        header, block, gone = found
        head = Head(header.epoch, header.seq, block.digest, header.totals, header.catalogue)
        _raise(self._heads, header.stream, head)
        if block.payload is None and gone is None and header.kind != KIND_DATA:
            return
        self._put(header, block, gone)

    def _put(self, header: Header, block: Block, gone: int | None) -> None:
        """Keep the better row: gone for a reason, else with its payload, else bare."""
        number = self._store.number_of(header.stream)
        self._db.execute(
            f"INSERT INTO block_{number:d} (position, envelope, payload, gone) VALUES (?, ?, ?, ?) "  # noqa: S608
            "ON CONFLICT (position) DO UPDATE SET payload = CASE WHEN gone IS NULL AND excluded.gone IS NULL "
            "THEN coalesce(payload, excluded.payload) END, gone = coalesce(gone, excluded.gone) "
            "WHERE envelope = excluded.envelope",
            (header.seq, block.envelope, block.payload, gone),
        )
        if header.kind == KIND_DEFINITIONS and block.payload is not None:
            self._define(block, header)

    def _define(self, block: Block, header: Header) -> None:
        with suppress(BlockInvalid):
            definitions = decode_payload(payload_bytes(block, header), ()).definitions
            if definitions is not None:
                layouts = [(sha256(layout).digest(), layout) for layout in definitions.layouts]
                self._db.executemany("INSERT OR IGNORE INTO layout (id, encoded) VALUES (?, ?)", layouts)
                self._db.execute(
                    "INSERT OR IGNORE INTO catalogue (digest, encoded) VALUES (?, ?)",
                    (catalogue_digest(definitions.catalogue), definitions.catalogue),
                )

    def _explain(self, stream: str) -> None:
        """Count what is gone, and take from the events of the stream why positions have no row."""
        number = self._store.number_of(stream)
        for kind, data in list(self._told(number)):
            self._explain_one(number, kind, data)
        counted = self._db.execute(
            f"SELECT gone, count(*) FROM block_{number:d} WHERE payload IS NULL AND gone IS NOT NULL "  # noqa: S608
            "GROUP BY gone"
        ).fetchall()
        for gone, blocks in counted:
            count(self._db, number, (*EVICTED, DAMAGED)[gone - 1], blocks)

    def _told(self, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
        select = f"SELECT envelope, payload FROM block_{number:d} WHERE payload IS NOT NULL ORDER BY position"  # noqa: S608
        for envelope, payload in self._db.execute(select):
            header = open_envelope(envelope, self._store.trusted)
            if header.kind == KIND_EVENTS:
                with suppress(BlockInvalid):
                    for event in decode_payload(payload_bytes(Block(envelope, payload), header), ()).events:
                        yield event.type, dict(event.data)

    def _explain_one(self, number: int, kind: str, data: Mapping[str, Any]) -> None:
        """Let a signed event hold: what it says is gone has no row, or no payload."""
        first, last = data.get("first"), data.get("last")
        if not isinstance(first, int) or not isinstance(last, int):
            return
        between = f"FROM block_{number:d} WHERE position BETWEEN ? AND ?"
        if kind == PRUNED:
            self._db.execute(f"DELETE {between}", (first, last))
        if kind not in (PRUNED, DAMAGED, LOST):
            return
        there = Intervals((at, at) for (at,) in self._db.execute(f"SELECT position {between}", (first, last)))
        known = Intervals(self._db.execute(_ABSENT, (number,)))
        for a, b in there.union(known).gaps(first, last):
            note_absent(self._db, number, a, b, kind)
            count(self._db, number, kind, b - a + 1)


def _raise(heads: dict[str, Head], stream: str, head: Head) -> None:
    """Keep the later head of a stream."""
    known = heads.get(stream)
    if known is None or known.seq < head.seq:
        heads[stream] = head


def _chunks(found: Iterable[Row], size: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in found:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk
