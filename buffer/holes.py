"""Holes in a stream: the SQL that makes them, and the ledger that counts them.

What is always true here:

- The caller has begun the transaction; a hole, its count and the block that tells of it are one commit.
- `ledger` grows and shrinks with the rows alone: a block counts for one reason, the last that befell it. So what is
  held is what was sealed less the sum of the ledger, without looking at a single block.
- What is damaged is copied to `aside` before it goes.

`buffer.store` enters.
"""

import sqlite3
from collections.abc import Callable

from buffer.changes import (
    DAMAGED,
    GONE,
    LOST,
    PRUNED,
    REASON,
    Again,
    Aged,
    Change,
    Damage,
    Eviction,
    Loss,
    Owed,
    Pruning,
    Thinned,
)

THIN_EVERY, THIN_UPTO, RUNNING = "thin-every", "thin-upto", "running"
AGAIN_FIRST, AGAIN_UPTO = "again-first", "again-upto"
"""Names of notes; those of a stream are followed by its number."""


def apply(database: sqlite3.Connection, number_of: Callable[[str], int], change: Change) -> None:
    """Make a change. Raises sqlite3.Error."""
    match change:
        case Eviction():
            _evict(database, number_of(change.account.stream), change)
        case Damage(envelope_good=True):
            _bare(database, number_of(change.account.stream), change)
        case Damage() | Loss() | Pruning():
            _take_away(database, number_of(change.account.stream), change)
        case Thinned():
            number = number_of(change.stream)
            note(database, f"{THIN_EVERY}-{number}", change.every)
            note(database, f"{THIN_UPTO}-{number}", change.upto)
        case Owed():
            number = number_of(change.stream)
            note(database, f"{AGAIN_FIRST}-{number}", change.first)
            note(database, f"{AGAIN_UPTO}-{number}", change.upto)
        case Again():
            pass  # it was done when it was said first
        case _:
            _age(database, number_of, change)


def keep_standing(database: sqlite3.Connection, uplink: str, number: int, encoded: bytes) -> None:
    """Keep what an uplink has acknowledged of a stream, or, under `HEAD`, the copy of the stream's head."""
    database.execute(
        "INSERT INTO acknowledged (uplink, stream, intervals) VALUES (?, ?, ?) "
        "ON CONFLICT (uplink, stream) DO UPDATE SET intervals = excluded.intervals",
        (uplink, number, encoded),
    )


def note(database: sqlite3.Connection, name: str, value: int) -> None:
    """Keep a number by name."""
    database.execute("INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)", (name, value))


def count(database: sqlite3.Connection, number: int, reason: str, blocks: int) -> None:
    """Add to a stream's ledger."""
    database.execute(
        "INSERT INTO ledger (stream, reason, blocks) VALUES (?, ?, ?) "
        "ON CONFLICT (stream, reason) DO UPDATE SET blocks = blocks + excluded.blocks",
        (number, reason, blocks),
    )


def note_absent(database: sqlite3.Connection, number: int, first: int, last: int, reason: str) -> None:
    """Remember why positions have no row; a span that goes on with its neighbour becomes one with it."""
    begun = database.execute(
        "UPDATE absent SET last = ? WHERE stream = ? AND last = ? AND reason = ?", (last, number, first - 1, reason)
    )
    if not begun.rowcount:
        database.execute(
            "INSERT INTO absent (stream, first, last, reason) VALUES (?, ?, ?, ?)", (number, first, last, reason)
        )


def _evict(database: sqlite3.Connection, number: int, change: Eviction) -> None:
    """Let payloads go. The rows are written anew, so that their headers share pages: one alone would keep its page."""
    rows = [
        row
        for position in change.positions
        for row in database.execute(
            f"DELETE FROM block_{number:d} WHERE position = ? AND payload IS NOT NULL "  # noqa: S608
            "RETURNING position, envelope",
            (position,),
        ).fetchall()
    ]
    database.executemany(
        f"INSERT INTO block_{number:d} (position, envelope, gone) VALUES (?, ?, ?)",  # noqa: S608
        ((position, envelope, GONE[change.reason]) for position, envelope in rows),
    )
    count(database, number, change.reason, len(rows))


def _bare(database: sqlite3.Connection, number: int, change: Damage) -> None:
    """Set a payload aside and leave the envelope."""
    position = change.account.first
    _set_aside(database, number, change)
    database.execute(
        f"UPDATE block_{number:d} SET payload = NULL, gone = ? WHERE position = ?",  # noqa: S608
        (GONE[DAMAGED], position),
    )
    count(database, number, DAMAGED, 1)


def _take_away(database: sqlite3.Connection, number: int, change: Damage | Loss | Pruning) -> None:
    """Delete the rows of a run, each counted from now on for what befell it last."""
    first, last = change.account.first, change.account.last
    reason = LOST if isinstance(change, Loss) else PRUNED if isinstance(change, Pruning) else DAMAGED
    if isinstance(change, Damage):
        _set_aside(database, number, change)
    select = f"SELECT gone, count(*) FROM block_{number:d} WHERE position BETWEEN ? AND ?"  # noqa: S608
    counted = database.execute(f"{select} AND payload IS NULL GROUP BY gone", (first, last)).fetchall()
    for gone, blocks in counted:
        if isinstance(gone, int):  # what damage has made another type was never counted
            count(database, number, REASON.get(gone, DAMAGED), -blocks)
    database.execute(f"DELETE FROM block_{number:d} WHERE position BETWEEN ? AND ?", (first, last))  # noqa: S608
    count(database, number, reason, change.account.blocks)
    note_absent(database, number, first, last, reason)


def _set_aside(database: sqlite3.Connection, number: int, change: Damage) -> None:
    database.execute(
        "INSERT INTO aside (stream, position, reason, envelope, payload) "  # noqa: S608
        f"SELECT ?, position, ?, envelope, payload FROM block_{number:d} WHERE position BETWEEN ? AND ?",
        (number, change.reason, change.account.first, change.account.last),
    )


def _age(database: sqlite3.Connection, number_of: Callable[[str], int], change: Aged) -> None:
    note(database, RUNNING, change.running_ns)
    for stream in change.streams:
        number = number_of(stream)
        database.execute(
            "DELETE FROM age WHERE stream = ? AND running_ns < "
            "(SELECT max(running_ns) FROM age WHERE stream = ? AND running_ns <= ?)",
            (number, number, change.forget_ns),
        )
        database.execute(
            "INSERT OR IGNORE INTO age (stream, position, running_ns) "  # noqa: S608
            f"SELECT ?, max(position), ? FROM block_{number:d} HAVING max(position) IS NOT NULL",
            (number, change.running_ns),
        )
