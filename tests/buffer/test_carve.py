"""Carving finds every row of a SQLite file from its pages alone, in every version, and trips over nothing."""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from buffer.carve import PAGE_SIZES, Pages, carve, rows

SIZE = 1024
LENGTHS = (0, 1, 100, *range(660, 840, 7), 1000, 1100, *range(1690, 1860, 7), 5000, 30_000)
"""Around what a leaf of a thousand bytes holds whole, with a part left in it, and with the least left in it."""


@pytest.fixture
def file(tmp_path):
    """Give where the file will be."""
    return tmp_path / "any.db"


def table(file, size=SIZE):
    """Make a database with one table; give the connection."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute(f"PRAGMA page_size = {size}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (position INTEGER PRIMARY KEY, envelope BLOB, payload BLOB, gone INTEGER)")
    return db


def carved(file):
    """Give what is found of rows that look like ours."""
    return {(row.rowid, row.columns) for row in rows(Pages(file, SIZE)) if len(row.columns) == 4}


def leaf(*cells, claimed=None):
    """Give a page with these cells, which says that it has so many."""
    page = bytearray(SIZE)
    page[0] = 0x0D
    page[3:5] = (len(cells) if claimed is None else claimed).to_bytes(2, "big")
    end = SIZE
    for number, cell in enumerate(cells):
        end -= len(cell)
        page[end : end + len(cell)] = cell
        page[8 + 2 * number : 10 + 2 * number] = end.to_bytes(2, "big")
    return bytes(page)


def record(*types, body=b"", rowid=7):
    """Give a cell."""
    whole = bytes([len(types) + 1, *types]) + body
    return bytes([len(whole), rowid]) + whole


def found_in(file, *cells, **options):
    """Give the rows of a file whose second page has these cells."""
    file.write_bytes(bytes(SIZE) + leaf(*cells, **options))
    return list(rows(Pages(file, SIZE)))


def test_every_row_of_a_file_is_found_whatever_its_length(file):
    """In one leaf, or with any part of it in overflow pages."""
    rng = random.Random(1)
    wanted = [(at, rng.randbytes(300), rng.randbytes(length), at % 3) for at, length in enumerate(LENGTHS, start=1)]
    with closing(table(file)) as db:
        db.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", wanted)
        db.execute("INSERT INTO t VALUES (900, x'', NULL, 5)")
    assert carved(file) == {(at, (None, one, two, gone)) for at, one, two, gone in wanted} | {
        (900, (None, b"", None, 5))
    }


@pytest.mark.parametrize("size", PAGE_SIZES)
@pytest.mark.parametrize("heads", [("",), ("-wal",), ()])
def test_pages_of_every_size_that_was_ever_used_are_carved(file, tmp_path, size, heads):
    """The size is told by the head of the file, by the log's where that is damaged, and guessed where both are."""
    row = (1, bytes(300), b"\x05" * 5000, 0)
    with closing(table(file, size)) as db:
        db.execute("INSERT INTO t VALUES (?, ?, ?, ?)", row)
        db.execute("PRAGMA wal_checkpoint")
        db.execute("INSERT INTO t VALUES (2, x'01', NULL, 1)")
        copy = tmp_path / "copy.db"
        for end in ("", "-wal"):
            data = bytearray(file.with_name(f"any.db{end}").read_bytes())
            data[:32] = data[:32] if end in heads else b"\xff" * 32
            copy.with_name(f"copy.db{end}").write_bytes(data)
    found = {(one.rowid, one.columns) for one in carve(copy)}
    assert {(1, (None, *row[1:])), (2, (None, b"\x01", None, 1))} <= found


def test_what_stands_in_the_log_alone_is_found(file, tmp_path):
    """A file that was never checkpointed has nothing else; nor need the file itself be there."""
    with closing(table(file)) as db:
        db.execute("INSERT INTO t VALUES (1, x'01', zeroblob(5000), 0)")
        copy = tmp_path / "copy.db"
        shutil.copy(file.with_name("any.db-wal"), copy.with_name("copy.db-wal"))
    assert carved(copy) == {(1, (None, b"\x01", bytes(5000), 0))}


def test_every_version_of_a_row_is_found(file, tmp_path):
    """The one in the log, and the one in the file that it covers."""
    with closing(table(file)) as db:
        db.execute("INSERT INTO t VALUES (1, x'01', zeroblob(5000), 0)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("UPDATE t SET payload = ?", (b"\x05" * 5000,))
        copy = tmp_path / "copy.db"
        for end in ("", "-wal"):
            shutil.copy(file.with_name(f"any.db{end}"), copy.with_name(f"copy.db{end}"))
    payloads = {columns[2] for _, columns in carved(copy)}
    assert {bytes(5000), b"\x05" * 5000} <= payloads


def test_an_older_version_is_found_where_the_last_one_leads_nowhere(file, tmp_path):
    """The chain of the log is torn; that of the file is whole."""
    with closing(table(file)) as db:
        db.execute("INSERT INTO t VALUES (1, x'01', zeroblob(5000), 0)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("UPDATE t SET payload = ?", (b"\x05" * 5000,))
        data, log = file.read_bytes(), bytearray(file.with_name("any.db-wal").read_bytes())
    copy = tmp_path / "copy.db"
    copy.write_bytes(data)
    first = log.index(b"\x05" * 1000, log.index(b"\x05" * 1000) + SIZE)
    log[first - 4 : first] = b"\xff" * 4
    copy.with_name("copy.db-wal").write_bytes(log)
    assert bytes(5000) in {columns[2] for _, columns in carved(copy)}


def test_a_row_whose_overflow_ends_too_early_is_none(file):
    """The last page is cut off."""
    with closing(table(file)) as db:
        db.execute("INSERT INTO t VALUES (1, x'01', zeroblob(5000), 0)")
    file.write_bytes(file.read_bytes()[:-SIZE])
    assert carved(file) == set()


def test_a_row_is_read_as_it_was_written(file):
    """No column, a constant, a byte, a blob."""
    (row,) = found_in(file, record(0, 9, 1, 14, body=b"\x2a!"))
    assert row == (7, (None, 1, 42, b"!"))


@pytest.mark.parametrize(
    "cell",
    [
        b"\0\x07",
        b"\xff\xff\xff\x7f\x07",
        b"\xff" * 9,
        record(4, body=b"....."),
        record(1, body=b"*more"),
        record(*[0] * 9),
        b"\x03\x07\x02\x81\x00",
        b"\x02\x07\x05\x00",
    ],
    ids=["empty", "too-long", "nine-bytes", "other-type", "too-much", "columns", "header-end", "cut"],
)
def test_what_is_no_record_of_ours_is_passed_over(file, cell):
    """And its neighbour is still found."""
    assert [row.columns for row in found_in(file, cell, record(9))] == [(1,)]


def test_pointers_that_lead_nowhere_are_passed_over(file):
    """A page may claim any number of cells, anywhere."""
    page = bytearray(leaf(record(9), claimed=60_000))
    page[10:12] = b"\xff\xff"
    file.write_bytes(bytes(SIZE) + page)
    assert (7, (1,)) in list(rows(Pages(file, SIZE)))


@pytest.mark.parametrize("seed", range(10))
def test_noise_trips_nothing(file, seed):
    """Every page a leaf of random bytes."""
    rng = random.Random(seed)
    file.write_bytes(bytes(SIZE) + b"".join(b"\x0d" + rng.randbytes(SIZE - 1) for _ in range(20)) + b"\x0d")
    assert all(len(row.columns) <= 8 for row in rows(Pages(file, SIZE)))
