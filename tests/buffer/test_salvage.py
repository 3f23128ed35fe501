"""Salvage: what is proven is carried into a new file, each block to its place; the broken one is kept as it was."""

import resource
import sqlite3
from contextlib import closing, contextmanager

import pytest
from chains import METER, SECOND, Station, event_batch, fill, key, resigned, station_of

from buffer.block import KIND_DATA, KIND_DEFINITIONS, KIND_EVENTS, Block, read_header
from buffer.changes import DAMAGED, GONE, LOST, PRUNED, Account, Damage, Loss
from buffer.errors import BufferCorrupt, BufferUnreadable, StoreFull
from buffer.evict import Evictor
from buffer.frame import Event, Frame
from buffer.intervals import Intervals
from buffer.prune import Pruner
from buffer.salvage import bare, finish, holes, is_ours, recover
from buffer.seal import Batch
from buffer.store import Counts, Store

TRUSTED = [key().public_key]


def hurt(path, *statements):
    """Change a closed buffer behind its back; what it held before is not left over in free pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = ON")
        for sql, *values in statements:
            db.execute(sql, values)
        db.execute("VACUUM")


@contextmanager
def salvaged(path, heads=()):
    """Salvage; give the new store."""
    kept = recover(path, TRUSTED, dict(heads))
    assert path.with_name(kept).exists()
    with Store.open(path, TRUSTED) as store:
        yield store


def kinds(blocks):
    """Give the kind of each block."""
    return [read_header(block.envelope).kind for block in blocks]


def told(number, kind, **data):
    """Give a batch of one event."""
    return Batch(events=[Event(kind, number, number.to_bytes(8, "big"), tuple(data.items()))])


def test_every_block_of_every_stream_is_carried_to_its_own_position(path):
    """More than one commit takes; the broken file is kept byte for byte, and the layouts are there."""
    with Store.open(path, TRUSTED) as store:
        blocks = {stream: fill(store, 200, stream) for stream in ("main", "side")}
        catalogue = store.heads()["main"].catalogue
        layouts = store.catalogue(catalogue)
    before = path.read_bytes()
    with salvaged(path) as store:
        for stream, wanted in blocks.items():
            window = store.read(stream, 1, 1000)
            assert [(at, block) for at, block, _ in window.blocks] == list(enumerate(wanted, start=1))
            assert holes(store, stream) == []
        assert store.catalogue(catalogue) == layouts
        assert store.append([station_of(store).seal()])["main"].start == 202
    assert path.with_name("buffer.db.broken-1").read_bytes() == before


def test_a_file_of_larger_pages_is_opened_as_it_is_and_salvaged_into_smaller_ones(path):
    """Buffers of earlier versions have pages of 1,024 bytes."""
    with Store.open(path, TRUSTED, page_size=1024) as store:
        blocks = fill(store, 60)
    with Store.open(path, TRUSTED) as store:
        blocks += fill(store)
        assert store.space().page_size == 1024
    with salvaged(path) as store:
        assert store.space().page_size == 512
        assert [block for _, block, _ in store.read("main", 1, 1000).blocks] == blocks


def test_what_was_evicted_does_not_come_back_from_free_pages(path):
    """Pages that become free keep what they held: the row without payload is the later one."""
    with Store.open(path, TRUSTED) as store:
        station, blocks = station_of(store), []
        for second in range(40):
            batch = Batch()
            for at in range(200):
                batch.add_frame(METER, Frame(second * SECOND + at, 3_000_000, (at * at * second % 65_521, float(at))))
            sealed = station.seal(batch)
            store.append([sealed])
            blocks += sealed.blocks
    with Store.open(path, TRUSTED) as store:
        eviction = Evictor(store, store.trusted).oldest("main", Intervals([(1, 30)]), "delivered")
        store.append([station_of(store).seal(event_batch(eviction))], changes=[eviction])
        counts = store.counts("main")
    data = path.read_bytes()
    assert any(block.payload in data for block in blocks[1:30])
    with salvaged(path) as store:
        assert store.counts("main") == counts
        assert store.rows("main", 6, 6)[0][1].payload is None


def test_a_second_broken_file_has_a_name_of_its_own(path):
    """Nothing that was kept is written over; what a salvage that was cut off left is."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
    path.with_name("buffer.db.salvage").write_bytes(b"half")
    with salvaged(path):
        pass
    first = path.with_name("buffer.db.broken-1").read_bytes()
    assert recover(path, TRUSTED, {}) == "buffer.db.broken-2"
    assert path.with_name("buffer.db.broken-1").read_bytes() == first
    assert finish(path) is None


def test_a_salvage_that_was_built_is_ended(path):
    """The machine went down before the new file had its name."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
    path.rename(path.with_name("buffer.db.salvaged"))
    path.write_bytes(b"broken")
    assert finish(path) == "buffer.db.broken-1"
    assert path.with_name("buffer.db.broken-1").read_bytes() == b"broken"
    with Store.open(path, TRUSTED) as store:
        assert store.counts("main") == Counts(4, 4)


def test_a_file_is_ours_by_its_blocks_alone(path):
    """Whatever its marks say; signed by another key it is not."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
    assert is_ours(path, TRUSTED)
    assert not is_ours(path, [key(2).public_key])


def test_a_medium_that_cannot_be_read_condemns_nothing(path):
    """A folder in its place reads as an error of the medium."""
    path.mkdir(parents=True)
    with pytest.raises(BufferUnreadable):
        recover(path, TRUSTED, {})
    assert path.is_dir()


def test_where_a_second_file_has_no_room_the_first_stays_as_it_is(path):
    """A bound of the operating system on the size of files stands for a full disk."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 150)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(StoreFull):
            recover(path, TRUSTED, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    with salvaged(path) as store:
        assert store.counts("main").held == 151


def test_what_is_not_proven_is_left_behind(path):
    """A forged envelope, a place that is not its own, a row that is gone; what is left is a hole."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 9)
    hurt(
        path,
        ("UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 3",),
        ("UPDATE block_1 SET position = 77 WHERE position = 5",),
        ("DELETE FROM block_1 WHERE position = 7",),
    )
    with salvaged(path) as store:
        assert holes(store, "main") == [(3, 3), (5, 5), (7, 7)]
        assert store.last_position("main") == 10


def test_an_envelope_whose_payload_is_not_the_signed_one_is_carried_bare(path):
    """Of data. Of events and definitions it is a hole: they explain nothing without."""
    with Store.open(path, TRUSTED) as store:
        blocks = fill(store, 9)
    assert kinds(blocks)[0] == KIND_DEFINITIONS
    hurt(path, ("UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position IN (1, 4)",))
    with salvaged(path) as store:
        assert holes(store, "main") == [(1, 1)]
        ((_, block, _),) = store.read("main", 4, 4).blocks
        assert block == Block(blocks[3].envelope, None)
        store.append(
            [station_of(store).seal()], changes=[change := Damage(Account("main", 4, 4, 1, None), "payload-digest")]
        )
        assert change.told()[0] == DAMAGED
        assert store.counts("main").damaged == 1
        assert store.read("main", 4, 4).blocks == ()


def test_what_was_evicted_stays_gone_for_its_reason(path):
    """Also where an older copy of the row with its payload is left somewhere; a reason that is none is not kept."""
    with Store.open(path, TRUSTED) as store:
        blocks = fill(store, 9)
        eviction = Evictor(store, store.trusted).oldest("main", Intervals([(1, 5)]), "delivered")
        store.append([station_of(store).seal(event_batch(eviction))], changes=[eviction])
    hurt(
        path,
        ("CREATE TABLE older (position INTEGER PRIMARY KEY, envelope BLOB, payload BLOB, gone INTEGER)",),
        ("INSERT INTO older VALUES (3, ?, ?, NULL)", blocks[2].envelope, blocks[2].payload),
        ("UPDATE block_1 SET gone = 99 WHERE position = 4",),
    )
    with salvaged(path) as store:
        assert store.counts("main").reasons == (("delivered", 3),)
        marked = {at: (block.payload, gone) for at, block, gone in store.marked_rows("main", 2, 5, 9)}
        assert marked == {at: (None, None if at == 4 else GONE["delivered"]) for at in (2, 3, 4, 5)}


def test_holes_that_signed_events_explain_are_known_again(path):
    """Damaged, lost and pruned; with the rows that a pruning took and that are left over somewhere."""
    with Store.open(path, TRUSTED) as store:
        blocks = fill(store, 40)
        evictor = Evictor(store, store.trusted)
        station = station_of(store)
        eviction = evictor.oldest("main", Intervals([(1, 30)]), "delivered")
        store.append([station.seal(event_batch(eviction))], changes=[eviction])
        pruning = Pruner(store, store.trusted).oldest("main", Intervals([(1, 30)]))
        damage = Damage(Account("main", 33, 34, 2, None), "block")
        loss = Loss(Account("main", 36, 36, 1, None))
        holed = (pruning, damage, loss)
        store.append([station.seal(event_batch(*holed))], changes=holed)
        wanted = store.counts("main")
        pruned = pruning.account
    assert wanted.pruned >= 8
    old = blocks[pruned.first - 1]
    hurt(
        path,
        ("CREATE TABLE older (position INTEGER PRIMARY KEY, envelope BLOB, payload BLOB, gone INTEGER)",),
        ("INSERT INTO older VALUES (?, ?, NULL, 1)", pruned.first, old.envelope),
    )
    with salvaged(path) as store:
        assert store.counts("main") == wanted
        assert holes(store, "main") == []
        assert store.absent("main", 1, 99, PRUNED) == Intervals([(pruned.first, pruned.last)])
        assert store.absent("main", 1, 99, DAMAGED, LOST) == Intervals([(33, 34), (36, 36)])


def test_events_that_give_no_numbers_explain_nothing(path):
    """And hinder nothing."""
    with Store.open(path, TRUSTED) as store:
        station = station_of(store)
        store.append([station.seal()])
        store.append([station.seal(told(1, DAMAGED, first="1", last=2))])
        store.append([station.seal(told(2, LOST, first=1))])
    with salvaged(path) as store:
        assert store.counts("main") == Counts(4, 4)


@pytest.mark.parametrize("kind", [KIND_EVENTS, KIND_DEFINITIONS])
@pytest.mark.parametrize("from_kind", [KIND_DATA, KIND_EVENTS])
def test_a_well_signed_block_that_cannot_be_understood_is_carried_all_the_same(path, kind, from_kind):
    """Its payload is not what its kind says; it is proven, and stands in its place."""
    with Store.open(path, TRUSTED) as store:
        station = station_of(store)
        station.seal()
        sealed = station.seal(None if from_kind == KIND_DATA else told(1, "other"))
        odd = resigned(sealed.blocks[0], key(), kind=kind)
        store.append([Station(epoch=store.epoch).seal()])
    hurt(path, ("INSERT INTO block_1 (position, envelope, payload) VALUES (3, ?, ?)", odd.envelope, odd.payload))
    with salvaged(path) as store:
        assert [block for _, block, _ in store.read("main", 3, 3).blocks] == [odd]


def test_the_later_of_two_heads_is_gone_on_from(path):
    """The copy kept beside the blocks, for a last row that is gone; or one that is known otherwise."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 5)
        copied = store.heads()["main"]
    hurt(path, ("DELETE FROM block_1 WHERE position > 4",))
    with salvaged(path) as store:
        assert store.heads()["main"] == copied
        assert holes(store, "main") == [(5, 6)]
        known = copied._replace(seq=9)
    with salvaged(path, {"main": known, "other": known}) as store:
        assert store.heads() == {"main": known, "other": known}


def test_a_copy_of_a_head_that_is_damaged_or_of_no_proven_stream_is_not_believed(path):
    """It is not signed: a checksum and a proven block of the stream must stand for it."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 5)
        fill(store, 2, "side")
    hurt(
        path,
        ("UPDATE acknowledged SET intervals = zeroblob(90) WHERE uplink = '' AND stream = 1",),
        ("DELETE FROM block_1 WHERE position > 4",),
        ("DELETE FROM block_2",),
    )
    with salvaged(path) as store:
        assert {stream: head.seq for stream, head in store.heads().items()} == {"main": 4}


def test_a_payload_that_is_gone_without_a_word_is_found(tmp_path):
    """So that a word can be said."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        fill(store)
    hurt(path, ("UPDATE block_1 SET payload = NULL WHERE position = ?", 3))
    with Store.open(path, TRUSTED) as store:
        assert bare(store, "main") == [3]


def test_rows_out_of_order_are_damage(tmp_path):
    """No question would find a row again whose number is not where it stands."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        store._ascend([(2,), (3,)], 1, 9)
        with pytest.raises(BufferCorrupt):
            store._ascend([(5,), (3,)], 1, 9)
