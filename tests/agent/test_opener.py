"""Opening the buffer: doubted twice, set aside, salvaged, and what the next `start` says of it."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from chains import fill, key
from keepers import Bench

from agent.opener import note_path, open_store, read_highest, write_highest
from buffer.block import open_envelope, payload_bytes, trust
from buffer.columnar import decode_payload
from buffer.errors import BufferForeign, BufferUnreadable, CommitFailed
from buffer.salvage import finish
from buffer.store import PAGE_SIZE, Reader, Store

TRUSTED = (key().public_key,)


@pytest.fixture
def path(tmp_path):
    """Where the buffer is."""
    return tmp_path / "buffer.db"


def starts(path, stream="main"):
    """Give the data of every `start` of a stream."""
    found = []
    with Reader(path) as reader:
        for _, block in reader.blocks(stream):
            header = open_envelope(block.envelope, trust(TRUSTED))
            if header.kind and block.payload is not None:
                events = decode_payload(payload_bytes(block, header), ()).events
                found += [dict(event.data) for event in events if event.type == "start"]
    return found


def test_a_damaged_last_block_is_a_hole_like_any_other(path):
    """The chain goes on from the copy of what its successor must know."""
    bench = Bench(path)
    bench.seal(5)
    bench.keeper.close()
    with closing(sqlite3.connect(path)) as db:
        head = db.execute("SELECT max(position) FROM block_1").fetchone()[0]
        db.execute("UPDATE block_1 SET envelope = zeroblob(300) WHERE position = ?", (head,))
        db.commit()
    again = Bench(path, second=1000)
    again.seal(1)
    ledger = again.keeper.ledgers["main"]
    assert ledger.damaged == 1
    assert not list(path.parent.glob("*.broken-*"))
    assert starts(path)[-1]["known"] == "store"
    again.keeper.close()


def test_a_file_that_cannot_be_read_is_salvaged_and_the_start_names_it(path):
    """The first page gone: SQLite knows nothing of it any more, and nothing is lost."""
    bench = Bench(path)
    bench.seal(30)
    sealed = bench.keeper.ledgers["main"].head
    bench.keeper.close()
    write_highest(path, {"main": sealed})
    data = bytearray(path.read_bytes())
    data[:512] = bytes(512)
    path.write_bytes(data)
    again = Bench(path, second=1000)
    again.seal(1)
    assert path.with_name("buffer.db.broken-1").read_bytes() == bytes(data)
    said = starts(path)[-1]
    assert (said["known"], said["aside"], said["highest"]) == ("lost", "buffer.db.broken-1", sealed)
    assert again.keeper.ledgers["main"].damaged == 0
    again.keeper.close()


def test_an_end_that_is_lost_is_told_from_the_note(path):
    """An old copy of the file: the note says what was there, and bars nothing."""
    bench = Bench(path)
    bench.seal(3)
    bench.keeper.close()
    shutil.copy(path, path.with_name("old"))
    bench = Bench(path, second=100)
    bench.seal(5)
    highest = bench.keeper.ledgers["main"].head
    bench.keeper.close()
    write_highest(path, {"main": highest})
    shutil.copy(path.with_name("old"), path)
    again = Bench(path, second=1000)
    again.seal(1)
    said = starts(path)[-1]
    assert (said["known"], said["aside"], said["highest"]) == ("lost", "", highest)
    again.keeper.close()


@pytest.mark.parametrize("noise", [b"", b"\xff", b"[1]", b'{"main": "x", "side": -1, "other": true}'])
def test_a_note_that_cannot_be_read_is_no_evidence(path, noise):
    """And no trouble."""
    note_path(path).write_bytes(noise)
    assert read_highest(path) == {}


def test_a_buffer_whose_mark_is_damaged_is_ours_by_its_blocks(path):
    """One flipped bit makes it another program's, but for its signatures."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 5)
    data = bytearray(path.read_bytes())
    data[68] ^= 1
    path.write_bytes(data)
    opened = open_store(path, TRUSTED, {})
    assert opened.aside == "buffer.db.broken-1"
    assert opened.store.counts("main").held == 6
    opened.store.close()


def test_another_programs_database_is_refused(path):
    """And not touched."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 77")
    before = path.read_bytes()
    with pytest.raises(BufferForeign):
        open_store(path, TRUSTED, {})
    assert path.read_bytes() == before


def test_a_salvage_that_was_cut_off_between_two_renames_is_ended(path):
    """The new file is whole; the old one keeps its name of a broken one."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 5)
    path.rename(path.with_name("buffer.db.salvaged"))
    path.write_bytes(b"broken")
    assert finish(path) == "buffer.db.broken-1"
    assert path.with_name("buffer.db.broken-1").read_bytes() == b"broken"
    with Store.open(path, TRUSTED) as store:
        assert store.counts("main").held == 6


def test_a_medium_that_cannot_be_read_condemns_nothing(path):
    """A folder in its place reads as an error of the medium: nothing is renamed."""
    path.mkdir()
    with pytest.raises(BufferUnreadable):
        open_store(path, TRUSTED, {}, condemned=True)
    assert path.is_dir()


def test_corruption_met_while_running_is_salvaged_and_polling_goes_on(path):
    """Believed after the file was opened anew; the chain goes on from the head that was known."""
    bench = Bench(path)
    bench.seal(60)
    before = bench.keeper.ledgers["main"]
    bench.keeper.close()
    data = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block_1'").fetchone()[0]
    bench = Bench(path, second=1000)
    bench.keeper.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * PAGE_SIZE : root * PAGE_SIZE] = b"\x05" * PAGE_SIZE
    path.write_bytes(data)
    bench.keeper.read("main", 1, 5, 1000)
    bench.seal(1)
    assert path.with_name("buffer.db.broken-1").exists()
    ledger = bench.keeper.ledgers["main"]
    assert ledger.damaged == 0
    assert ledger.head > before.head
    bench.keeper.close()


def test_a_damaged_page_of_notes_is_salvaged_and_bars_no_start(path):
    """It is met behind the opening proper, by housekeeping: the lock must not outlive the store that is given up."""
    bench = Bench(path)
    bench.seal(3)
    bench.keeper.close()
    with closing(sqlite3.connect(path)) as database:
        roots = database.execute("SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'note'").fetchall()
    with path.open("r+b") as file:
        for (root,) in roots:
            file.seek((root - 1) * PAGE_SIZE)
            file.write(b"\xff" * PAGE_SIZE)
    again = Bench(path, second=500)
    again.seal(2)
    assert again.keeper.ledgers["main"].damaged == 0
    again.keeper.close()


def test_a_payload_that_a_salvage_while_running_found_damaged_is_told_in_the_next_commit(path):
    """The ledger does not count as held, until the scrub comes by, what is not there."""
    bench = Bench(path)
    bench.seal(60)
    payload = bench.blocks()["main", 30][1]
    assert payload is not None
    bench.keeper.close()
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block_1'").fetchone()[0]
    bench = Bench(path, second=1000)
    bench.keeper.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * PAGE_SIZE : root * PAGE_SIZE] = b"\x05" * PAGE_SIZE
    data[data.index(payload[-20:])] ^= 1
    path.write_bytes(data)
    bench.keeper.read("main", 1, 5, 1000)
    bench.seal(1)
    assert path.with_name("buffer.db.broken-1").exists()
    assert bench.keeper.ledgers["main"].damaged == 1
    bench.keeper.close()


def test_a_row_whose_bytes_have_become_nothing_is_damage_like_any_other(path):
    """SQLite minds no type that damage makes of a column, whatever the table says; a start does not fail of it."""
    bench = Bench(path)
    bench.seal(6)
    envelope = bench.blocks()["main", 3][0]
    bench.keeper.close()
    kind = 2 * len(envelope) + 12  # a blob's serial type, here of two bytes
    data = bytearray(path.read_bytes())
    at = data.index(envelope)
    at = data.rindex(bytes([0x80 | kind >> 7, kind & 0x7F]), at - 8, at)
    data[at : at + 2] = bytes(2)
    path.write_bytes(data)
    again = Bench(path, second=500)
    again.seal(2)
    assert again.keeper.ledgers["main"].damaged == 1
    assert ("main", 3) not in again.blocks()
    again.keeper.close()


def failing_with_its_log_left(bench, path, monkeypatch):
    """Have a commit fail while a tool reads: the log stays where it is."""

    def fails(*_args):
        raise CommitFailed(path=str(path), reason="I/O")

    with Reader(path) as reader:
        assert reader.last_position("main")
        with monkeypatch.context() as patched:
            patched.setattr(Store, "append", fails)
            with pytest.raises(CommitFailed):
                bench.seal(1)
    return path.with_name("buffer.db-wal")


def test_a_log_that_was_damaged_between_a_failed_commit_and_the_reopening_is_salvaged(path, monkeypatch):
    """One flipped bit hides every later commit from SQLite, and none from the salvage: no restart is needed."""
    bench = Bench(path)
    bench.seal(3)
    bench.keeper._file.store.make_sure()
    bench.seal(12)
    before = bench.blocks()
    log = failing_with_its_log_left(bench, path, monkeypatch)
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    for _ in range(2):
        with pytest.raises(CommitFailed):
            bench.seal(1)
    assert not list(path.parent.glob("*.broken-*")), "it is not believed at once"
    bench.seal(1)
    assert path.with_name("buffer.db.broken-1").exists()
    assert starts(path)[-1]["known"] == "lost"
    after = bench.blocks()
    assert {place: after[place][0] for place in before if place in after} == {
        place: envelope for place, (envelope, _) in before.items() if place in after
    }
    assert len(before.keys() - after.keys()) == sum(ledger.damaged for ledger in bench.keeper.ledgers.values()) <= 2
    bench.keeper.close()


def test_an_older_file_that_took_the_place_of_ours_is_another_one(path, monkeypatch):
    """However true its blocks: what lies where our medium was mounted is not written to."""
    bench = Bench(path)
    bench.seal(3)
    bench.keeper._file.store.make_sure()
    older = path.read_bytes()
    bench.seal(3)
    failing_with_its_log_left(bench, path, monkeypatch).unlink()
    other = path.with_name("other")
    other.write_bytes(older)
    other.rename(path)
    for _ in range(4):
        with pytest.raises(CommitFailed):
            bench.seal(1)
    assert not list(path.parent.glob("*.broken-*"))
    bench.keeper.close()


def test_a_log_that_cannot_be_made_sure_of_at_the_start_gives_nothing_before_it_can(path, monkeypatch):
    """The station starts all the same, and the first commit tries again."""
    bench = Bench(path)
    bench.seal(2)
    before = bench.blocks()
    bench.keeper.close()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "make_sure", failing)
        again = Bench(path, second=500)
        with pytest.raises(CommitFailed):
            again.keeper.read("main", 1, 2, 1000)
        for _ in range(2):
            with pytest.raises(CommitFailed):
                again.seal(1)
    again.seal(1)
    assert before.items() <= again.blocks().items()
    again.keeper.close()


def failing(store):
    """Fail as a medium does."""
    raise CommitFailed(path=str(store.path), reason="I/O")
