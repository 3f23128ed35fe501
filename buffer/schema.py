"""The tables of a buffer file, as numbered migrations.

What is always true here:

- `PRAGMA application_id` marks the file as ours, `PRAGMA user_version` counts the migrations it has had. A migration is
  never edited once released; a file with more of them than we know is refused and not touched.
- Each migration and its number are committed together.
- Each stream has a table of blocks of its own, `block_NUMBER`, keyed by position as the rowid: appending goes to the
  end of a tree, there is no second index to write, and the blocks of a stream lie side by side in order. A position is
  the block's seq, always. `gone` says why a row has no payload (`buffer.changes`), null where it has one.
- `acknowledged` has, under no uplink's name (`HEAD`), a copy of what a stream's next block must know of the last one,
  with its own checksum: a damaged last row ends no chain. It stands there because that page is written with most
  commits anyway: a table of its own costs a page a commit. `ledger` counts the blocks of a stream that are not
  held, by reason; `absent` has the positions that have no row, and why; `aside` the bytes of what was found damaged.
  They change in the commit that changes the blocks.
- `age` says at which accumulated running time a stream had reached a position; `note` has single numbers by name.
- `stream.evicted` and `stream.damaged` belong to schema 1 and stay 0.

sqlite-utils makes the schema; it is imported only where there is something to migrate, because it draws a command-line
library in. Only `buffer.store` enters.
"""

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlite_utils import Database

APPLICATION_ID = 0x54724269
"""`TrBi`, in the header of the file."""


def migrate(connection: sqlite3.Connection, found: int) -> None:
    """Bring a database from schema `found` to `SCHEMA`. Nothing is imported where there is nothing to do."""
    if found == SCHEMA:
        return
    from sqlite_utils import Database  # noqa: PLC0415  drags a command-line library in

    for number, migration in enumerate(_MIGRATIONS[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migration(Database(connection, execute_plugins=False))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def add_stream(connection: sqlite3.Connection, name: str) -> int:
    """Give a new stream its number and its table, inside the caller's transaction."""
    number = connection.execute("INSERT INTO stream (name) VALUES (?) RETURNING number", (name,)).fetchone()[0]
    connection.execute(
        f"CREATE TABLE block_{number:d} (position INTEGER PRIMARY KEY, envelope BLOB NOT NULL, payload BLOB, "
        "gone INTEGER) STRICT"
    )
    return int(number)


def _first(database: "Database") -> None:
    database["stream"].create(
        {"number": int, "name": str, "evicted": int, "damaged": int},
        pk="number",
        not_null={"name", "evicted", "damaged"},
        defaults={"evicted": 0, "damaged": 0},
        strict=True,
    )
    database["layout"].create({"id": bytes, "encoded": bytes}, pk="id", not_null={"encoded"}, strict=True)
    database["catalogue"].create({"digest": bytes, "encoded": bytes}, pk="digest", not_null={"encoded"}, strict=True)
    database["acknowledged"].create(
        {"uplink": str, "stream": int, "intervals": bytes},
        pk=("uplink", "stream"),
        not_null={"intervals"},
        strict=True,
    )


def _second(database: "Database") -> None:
    for (number,) in database.execute("SELECT number FROM stream").fetchall():
        database.execute(f"ALTER TABLE block_{number:d} ADD COLUMN gone INTEGER")
    database["ledger"].create(
        {"stream": int, "reason": str, "blocks": int}, pk=("stream", "reason"), not_null={"blocks"}, strict=True
    )
    database["absent"].create(
        {"stream": int, "first": int, "last": int, "reason": str},
        pk=("stream", "first"),
        not_null={"last", "reason"},
        strict=True,
    )
    database["aside"].create(
        {"number": int, "stream": int, "position": int, "reason": str, "envelope": bytes, "payload": bytes},
        pk="number",
        not_null={"stream", "position", "reason"},
        strict=True,
    )
    database["age"].create(
        {"stream": int, "position": int, "running_ns": int},
        pk=("stream", "position"),
        not_null={"running_ns"},
        strict=True,
    )
    database["note"].create({"name": str, "value": int}, pk="name", not_null={"value"}, strict=True)


_MIGRATIONS: "tuple[Callable[[Database], None], ...]" = (_first, _second)
SCHEMA = len(_MIGRATIONS)
"""The schema this version writes."""

WITH_LEDGER = 2
"""The first schema that keeps heads, ledgers and what is absent."""
HEAD = ""
"""The name in `acknowledged` of the copies of heads; no uplink has it."""
