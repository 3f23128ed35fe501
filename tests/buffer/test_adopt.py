"""Adopting what was sealed in memory: under the numbers it has, as a whole, and nothing that does not follow."""

import sqlite3
from dataclasses import replace

import pytest
from chains import METER, Station, batch, fill, key, moment, resigned

from buffer.changes import DAMAGED, Account, Damage
from buffer.errors import CommitFailed
from buffer.intervals import Intervals
from buffer.seal import Sealed, Sealer
from buffer.store import Absence, Counts, Reader, Store

TRUSTED = [key().public_key]


def branch(store, count=4, *, without=(), stream="main", catalogue=(METER,)):
    """Seal so many blocks in memory behind the last one; leave some out, by place."""
    head = store.heads().get(stream)
    sealer = Sealer("station-1", key(), b"V" * 8, 56_000, Station().opening)
    blocks, tip, definitions = [], head, None
    while len(blocks) < count:
        sealed = sealer.seal(stream, tip, batch(500 + len(blocks)), catalogue, moment(500), volatile=True)
        blocks += sealed.blocks
        tip, definitions = sealed.head, definitions or sealed.definitions
    kept = tuple(block for place, block in enumerate(blocks) if place not in without)
    return Sealed(stream, head and head.digest, kept, tip, definitions, 0)


def test_a_branch_goes_on_from_the_last_block(store):
    """Byte for byte, and the next epoch goes on from it."""
    before = fill(store)
    sealed = branch(store)
    store.adopt([sealed])
    stored = [block for _, block in store.rows("main", 1, 100)]
    assert stored == [*before, *sealed.blocks]
    assert store.heads()["main"] == sealed.head
    fill(store, commits=1)
    with Reader(store.path) as reader:
        assert reader.last_position("main") == store.heads()["main"].seq
    assert store.prove().verdict == "complete"


def test_a_branch_may_begin_a_stream(store):
    """With the definitions that it needs."""
    sealed = branch(store, stream="new")
    store.adopt([sealed])
    assert store.counts("new").sealed == len(sealed.blocks)
    assert store.catalogue(sealed.head.catalogue) is not None


def test_what_had_no_room_is_counted_as_lost(store):
    """The positions of the others stay their numbers."""
    before = len(fill(store))
    sealed = branch(store, 6, without=(1, 2))
    store.adopt([sealed])
    assert [position - before for position, _ in store.rows("main", before + 1, 100)] == [1, 4, 5, 6]
    assert store.counts("main") == Counts(before + 6, before + 4, lost=2)
    window = store.read("main", before + 1, before + 6)
    assert (window.damaged, window.gone) == ((), (Absence(before + 2, before + 3, "lost"),))
    assert not store.scrub("main", 1, 100).damages


def test_the_first_ones_may_be_lost_too(store):
    """Then the branch begins behind them."""
    before = len(fill(store))
    store.adopt([branch(store, 6, without=(0, 1))])
    assert store.counts("main").lost == 2
    assert store.last_position("main") == before + 6


@pytest.mark.parametrize("wrong", ["stale", "stream", "order", "end", "link"])
def test_what_does_not_follow_is_refused(store, wrong):
    """Before anything is written."""
    stale = branch(store)
    fill(store)
    good = branch(store)
    bad = {
        "stale": stale,
        "stream": replace(good, stream="other"),
        "order": replace(good, blocks=good.blocks[::-1]),
        "end": replace(good, blocks=good.blocks[:-1]),
        "link": replace(good, blocks=(misnamed(good.blocks[0]), *good.blocks[1:])),
    }[wrong]
    before = store.counts("main")
    with pytest.raises(ValueError):
        store.adopt([bad])
    assert store.counts("main") == before
    store.adopt([good])


def misnamed(block):
    """Give a block that names another predecessor."""
    return resigned(block, key(), prev=b"x" * 32)


def test_acknowledgements_come_with_the_blocks_they_speak_of(store):
    """In the same transaction; never of a position beyond it."""
    before = len(fill(store))
    store.append([], {("province", "main"): Intervals([(1, before + 9)])})
    assert store.acknowledged("province", "main") == Intervals([(1, before)])
    store.adopt([branch(store, 4)], {("province", "main"): Intervals([(1, before + 2), (before + 4, before + 9)])})
    assert store.acknowledged("province", "main") == Intervals([(1, before + 2), (before + 4, before + 4)])


def test_a_failed_adoption_leaves_nothing_and_takes_no_more(path):
    """It can be done again after reopening, as it was."""
    store = Store.open(path, TRUSTED)
    fill(store)
    sealed = branch(store)
    before = store.counts("main")
    store._db.execute("CREATE TRIGGER fail BEFORE UPDATE ON acknowledged BEGIN SELECT RAISE(ABORT, 'I/O'); END")
    for _ in range(2):
        with pytest.raises(CommitFailed):
            store.adopt([sealed])
    store._db.execute("DROP TRIGGER fail")
    with store.reopen() as again:
        assert again.counts("main") == before
        again.adopt([sealed])
        assert again.heads()["main"] == sealed.head


def test_changes_are_made_in_the_commit_that_adopts(store):
    """Such as were owed when the file could not be written; their events are the branch's."""
    fill(store)
    damage = Damage(Account("main", 3, 3, 1, None), "block")
    store.adopt([branch(store)], changes=[damage])
    assert store.counts("main").damaged == 1
    assert store.absent("main", 1, 9, DAMAGED) == Intervals([(3, 3)])


def test_what_the_log_holds_is_written_into_the_file_when_asked(path):
    """So that what is found afterwards is on the disk."""
    with Store.open(path, TRUSTED) as store:
        fill(store)
        store.make_sure()
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0


def test_a_reader_that_holds_the_log_is_no_reason_to_believe_it(path):
    """What cannot be made sure of counts as failed."""
    with Store.open(path, TRUSTED) as store:
        fill(store, commits=1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM block_1").fetchall()
        fill(store, commits=1)
        store._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(CommitFailed):
            store.make_sure()
        other.close()
        store.make_sure()


def test_a_file_that_cannot_be_synchronised_is_not_made_sure_of(path):
    """The error of the operating system is a failed commit."""
    store = Store.open(path, TRUSTED)
    fill(store)
    store._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(CommitFailed):
        store.make_sure()
    assert store.failed
    store.close()


def test_only_the_positions_upto_a_last_one_are_kept():
    """Whole intervals, a part of one, none."""
    intervals = Intervals([(1, 3), (5, 9), (12, 12)])
    assert intervals.upto(7) == Intervals([(1, 3), (5, 7)])
    assert intervals.upto(12) == intervals
    assert intervals.upto(0) == Intervals()
