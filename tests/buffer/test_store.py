"""The buffer file: one owner, one commit for all streams, nothing unproven believed, nothing foreign touched."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from chains import METER, Station, batch, event_batch, fill, key, station_of

from buffer.changes import Account, Eviction
from buffer.errors import BufferLocked, BufferNewer, BufferUnreadable, ChainBroken, CommitFailed, StoreFull
from buffer.intervals import Intervals
from buffer.keys import known_public, load_or_create
from buffer.layout import catalogue_digest, decode_catalogue, layout_id
from buffer.schema import SCHEMA
from buffer.store import Counts, Reader, Store

TRUSTED = [key().public_key]


def damage(path, sql, *values):
    """Change a closed buffer behind its back."""
    with sqlite3.connect(path) as connection:
        connection.execute(sql, values)
    connection.close()


def test_positions_of_a_stream_are_contiguous_from_one(store):
    """Whatever the number of blocks a commit."""
    station = station_of(store)
    first = store.append([station.seal(), station.seal(stream="other")])
    second = store.append([station.seal()])
    assert first == {"main": range(1, 3), "other": range(1, 3)}
    assert second == {"main": range(3, 4)}
    assert store.counts("main") == Counts(3, 3)
    assert store.counts("nobody") == Counts()


def test_what_was_appended_is_read_as_it_was(store):
    """Byte for byte, with its header."""
    blocks = fill(store)
    window = store.read("main", 1, 100)
    assert [(position, block) for position, block, _ in window.blocks] == list(enumerate(blocks, start=1))
    assert [header.seq for _, _, header in window.blocks] == [1, 2, 3, 4]
    assert (window.damaged, window.last) == ((), 4)


def test_reading_stops_near_the_bytes_asked_for(store):
    """But gives at least one block, so that a large one does not stop everything."""
    blocks = fill(store)
    assert len(store.read("main", 1, 100, max_bytes=1).blocks) == 1
    window = store.read("main", 2, 100, max_bytes=blocks[1].size + blocks[2].size)
    assert window.last == 3
    assert store.read("main", 9, 100).last == 8
    assert store.read("nobody", 1, 100).blocks == ()


def test_a_long_range_is_read_a_few_rows_at_a_time(store):
    """More rows than one question brings."""
    fill(store, commits=150)
    assert len(store.read("main", 1, 1000).blocks) == 151


def test_definitions_are_kept_beside_the_blocks(store):
    """So that uplinks can publish them before the blocks that need them."""
    station = station_of(store)
    sealed = station.seal()
    store.append([sealed])
    digest = catalogue_digest(sealed.definitions.catalogue)
    assert decode_catalogue(store.catalogue(digest)) == (layout_id(METER),)
    assert store.layout(layout_id(METER)) == sealed.definitions.layouts[0]
    assert store.layout(bytes(32)) is None


def test_acknowledged_intervals_are_kept_with_the_next_commit(store):
    """Per uplink and stream, also of a stream that has no block yet; never of blocks that the file lacks."""
    station = station_of(store)
    seen = {("province", "main"): Intervals([(1, 1), (3, 4)]), ("factory", "quiet"): Intervals()}
    store.append([station.seal(), station.seal(stream="other")], seen)
    assert store.acknowledged("province", "main") == Intervals([(1, 1)])
    store.append([station.seal()], {("province", "main"): Intervals([(1, 3)])})
    assert store.acknowledged("province", "main") == Intervals([(1, 3)])
    assert store.acknowledged("factory", "main") == Intervals()
    assert store.streams() == {"main": 1, "other": 2, "quiet": 3}


def test_a_stream_without_a_block_has_no_head(path):
    """An uplink may know of it before there is anything to carry."""
    with Store.open(path, TRUSTED) as store:
        store.append([], {("province", "quiet"): Intervals()})
        fill(store, commits=1)
    with Store.open(path, TRUSTED) as store:
        assert list(store.heads()) == ["main"]


def test_a_damaged_note_of_acknowledgement_means_sending_again(path):
    """Losing it costs repeats, never a start."""
    with Store.open(path, TRUSTED) as store:
        store.append([], {("province", "main"): Intervals([(1, 6)])})
    for noise in (b"\xff", b"\x81\x01", b"\x81\x61x", b"\x82\x01\x61x"):
        damage(path, "UPDATE acknowledged SET intervals = ?", noise)
        with Store.open(path, TRUSTED) as store:
            assert store.acknowledged("province", "main") == Intervals()


def test_a_second_process_is_kept_out(store, path):
    """One owner a file."""
    with pytest.raises(BufferLocked):
        Store.open(path, TRUSTED)
    script = f"from pathlib import Path; from buffer.store import Store; Store.open(Path({str(path)!r}), [])"
    other = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert "BufferLocked" in other.stderr


def test_the_lock_is_let_go(path):
    """At closing, and after an opening that failed."""
    Store.open(path, TRUSTED).close()
    path.write_bytes(b"not a database")
    with pytest.raises(BufferUnreadable):
        Store.open(path, TRUSTED)
    path.unlink()
    store = Store.open(path, TRUSTED)
    store.close()
    store.close()


def test_another_thread_is_kept_out(store):
    """One connection, one thread."""
    raised = []

    def ask():
        try:
            store.streams()
        except BufferUnreadable as error:
            raised.append(error)
        except sqlite3.ProgrammingError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert raised


def test_the_file_is_as_it_was_decided(store, path):
    """Write-ahead log, full synchronous, small pages."""
    pragmas = {
        name: store._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "page_size", "secure_delete", "wal_autocheckpoint")
    }
    wanted = {"journal_mode": "wal", "synchronous": 2, "page_size": 512}
    assert pragmas == {**wanted, "secure_delete": 0, "wal_autocheckpoint": 2048}


def test_opening_an_existing_buffer_imports_no_command_line_library(path):
    """The service on a gateway starts without sqlite-utils, and so without click."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
    script = (
        f"import sys; from pathlib import Path; from buffer.store import Store; Store.open(Path({str(path)!r}), []);"
        "print({'click', 'sqlite_utils'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert ran.stdout.strip() == "set()", ran.stderr


@pytest.mark.parametrize(
    "content", [b"x", b"x" * 4096, b"SQLite format 3\0" + b"\0" * 10, b"SQLite format 3\0" + b"\xff" * 2000]
)
def test_a_file_that_is_no_buffer_is_refused_untouched(path, content):
    """Noise, and damage in the header."""
    path.parent.mkdir()
    path.write_bytes(content)
    for opening in (lambda: Store.open(path, TRUSTED), lambda: Reader(path)):
        with pytest.raises(BufferUnreadable):
            opening()
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_untouched(path):
    """A path that was mistyped must not cost somebody their data."""
    path.parent.mkdir()
    damage(path, "PRAGMA application_id = 77")
    before = path.read_bytes()
    with pytest.raises(BufferUnreadable):
        Store.open(path, TRUSTED)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_untouched(path):
    """A downgrade must not write what it does not understand."""
    Store.open(path, TRUSTED).close()
    damage(path, f"PRAGMA user_version = {SCHEMA + 1}")
    before = path.read_bytes()
    for opening in (lambda: Store.open(path, TRUSTED), lambda: Reader(path)):
        with pytest.raises(BufferNewer) as newer:
            opening()
        assert newer.value.fields["found"] == SCHEMA + 1
    assert path.read_bytes() == before


def test_a_newer_schema_that_is_still_in_the_log_is_refused(path):
    """The first hundred bytes of the file may be older than the log beside it."""
    Store.open(path, TRUSTED).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(BufferNewer):
        Store.open(path, TRUSTED)
    newer.close()


def test_an_empty_file_is_a_buffer_that_was_not_begun(path):
    """A power cut between making the file and the first commit."""
    path.parent.mkdir()
    path.touch()
    with Store.open(path, TRUSTED) as store:
        assert store.streams() == {}


def test_a_buffer_that_cannot_be_made_is_named(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BufferUnreadable):
        Store.open(tmp_path / "file" / "buffer.db", TRUSTED)


def test_a_folder_in_place_of_the_buffer_is_named(path):
    """It exists, and it is no file."""
    path.mkdir(parents=True)
    with pytest.raises(BufferUnreadable):
        Store.open(path, TRUSTED)


def test_a_migration_that_fails_leaves_nothing(path, monkeypatch):
    """A schema and its number are committed together, or not at all."""
    real = sqlite3.connect

    class Failing(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql.startswith("PRAGMA user_version ="):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: real(*args, factory=Failing, **kwargs))
    with pytest.raises(BufferUnreadable):
        Store.open(path, TRUSTED)
    monkeypatch.undo()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()
    Store.open(path, TRUSTED).close()


def test_blocks_that_do_not_follow_the_last_one_are_refused(store):
    """Another epoch, another predecessor, the same stream twice: bugs of ours, and nothing is written."""
    station = station_of(store)
    first, second = station.seal(), station.seal()
    foreign = Station(epoch=b"F" * 8).seal()
    for wrong in ([second], [foreign], [first, second]):
        with pytest.raises(ValueError, match="stream"):
            store.append(wrong)
    assert store.append([first]) == {"main": range(1, 3)}


@pytest.mark.parametrize("wrong", ["zeroblob(300)", "(SELECT envelope FROM block_1 WHERE position = 2)"])
def test_a_head_that_cannot_be_proven_is_a_broken_chain(path, wrong):
    """Where the copy of it is damaged too: no block is ever sealed behind an unknown one."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
    damage(path, f"UPDATE block_1 SET envelope = {wrong} WHERE position = 4")
    damage(path, "UPDATE acknowledged SET intervals = zeroblob(90) WHERE uplink = ''")
    with Store.open(path, TRUSTED) as store, pytest.raises(ChainBroken) as broken:
        store.heads()
    assert (broken.value.fields["stream"], broken.value.fields["position"]) == ("main", 4)


def test_damaged_blocks_are_named_and_the_others_given(path):
    """Payload, envelope, a row that is gone, a block of another stream."""
    with Store.open(path, TRUSTED) as store:
        fill(store, commits=9)
        fill(store, commits=1, stream="other")
    damage(path, "UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position = 2")
    damage(path, "UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 4")
    damage(path, "DELETE FROM block_1 WHERE position IN (6, 7)")
    damage(path, "UPDATE block_1 SET (envelope, payload) = (SELECT envelope, payload FROM block_2) WHERE position = 9")
    with Store.open(path, TRUSTED) as store:
        window = store.read("main", 1, 10)
        report = store.prove()
    assert [position for position, _, _ in window.blocks] == [1, 3, 5, 8, 10]
    assert window.damaged == (2, 4, 6, 7, 9)
    assert report.verdict == "unexplained"


def test_the_last_blocks_are_proven_at_start(path):
    """And only those, so that a start does not take longer with the years."""
    with Store.open(path, TRUSTED) as store:
        fill(store, commits=9)
        assert store.prove(last=4).blocks == 4
    damage(path, "UPDATE block_1 SET payload = zeroblob(9) WHERE position = 2")
    with Store.open(path, TRUSTED) as store:
        assert store.prove(last=4).verdict == "complete"
        assert store.prove().verdict == "unexplained"


def test_an_evicted_payload_is_read_as_a_signed_hole(path):
    """Payloads go before headers."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
        station = station_of(store)
        gone = Eviction(Account("main", 2, 2, 1, 2), (2,), "delivered")
        store.append([station.seal(event_batch(gone))], changes=[gone])
    with Store.open(path, TRUSTED) as store:
        assert store.read("main", 2, 2).blocks[0][1].payload is None
        assert store.counts("main") == Counts(5, 4, 1, reasons=(("delivered", 1),))
        assert (store.prove().verdict, store.prove().evicted) == ("complete", 1)


def test_a_full_disk_is_told_apart(store):
    """The caller makes room rather than looking for a broken disk."""
    station = station_of(store)
    store.append([station.seal()])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    sealed = station.seal(batch(1, frames=20_000))
    with pytest.raises(StoreFull):
        store.append([sealed])


def test_after_a_failed_commit_the_store_takes_no_more_until_reopened(store):
    """Nothing of it is visible, and a new epoch begins."""
    station = station_of(store)
    store.append([station.seal()])
    sealed = station.seal()
    store._db.execute("CREATE TRIGGER fail BEFORE INSERT ON block_1 BEGIN SELECT RAISE(ABORT, 'I/O'); END")
    with pytest.raises(CommitFailed) as failed:
        store.append([sealed])
    assert not isinstance(failed.value, StoreFull)
    store._db.execute("DROP TRIGGER fail")
    with pytest.raises(CommitFailed):
        store.append([sealed])
    with store.reopen() as again:
        assert again.epoch != store.epoch
        assert again.counts("main").sealed == 2
        assert again.append([station_of(again).seal()]) == {"main": range(3, 5)}


def test_a_path_that_sqlite_cannot_open_is_told(tmp_path):
    """Longer than SQLite takes: unreadable, with its reason, and the lock is free again."""
    path = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200) / "buffer.db"
    for _ in range(2):
        with pytest.raises(BufferUnreadable):
            Store.open(path, TRUSTED)


def test_a_public_key_set_aside_that_is_damaged_stops_nothing(tmp_path):
    """What cannot be read is no key; those that can are known."""
    path = tmp_path / "device.key"
    made, _ = load_or_create(path)
    (tmp_path / "device.key.old-1.pub").write_bytes(b"no key")
    assert known_public(path) == (made.public_key,)
