"""What the evictor and the pruner find among what is stored, a look at a time; what is not proven is left alone."""

import sqlite3
from contextlib import closing

import pytest
from chains import event_batch, fill, station_of

from buffer import evict, prune
from buffer.evict import Evictor
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.prune import LEAST, Pruner
from buffer.seal import Batch

ALL = Intervals([(1, 10_000)])


def damage(store, sql, *values):
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(store.path)) as db:
        db.execute(sql, values)
        db.commit()


def bare(store, first, last):
    """Evict data up to a position, in as many commits as it takes."""
    evictor, station = Evictor(store, store.trusted), station_of(store)
    while (change := evictor.oldest("main", Intervals([(first, last)]), "delivered")) is not None:
        store.append([station.seal(event_batch(change))], changes=[change])


def test_the_newest_go_first_and_the_last_few_stay(store):
    """All the stream has, where it has fewer than one event speaks of."""
    fill(store, 30)
    evictor = Evictor(store, store.trusted)
    assert evictor.newest("main", ALL).positions == tuple(range(2, 16))
    assert evictor.newest("main", ALL) is None


def test_the_newest_of_a_long_stream_go_a_batch_at_a_time(store, monkeypatch):
    """A look is bounded, and the next one goes on before it."""
    fill(store, 60)
    monkeypatch.setattr(evict, "LOOK", 10)
    evictor = Evictor(store, store.trusted)
    found = [evictor.newest("main", ALL).positions for _ in range(4)]
    assert found == [tuple(range(a, a + 10)) for a in (36, 26, 16, 6)]


def test_a_look_for_the_newest_ends_with_the_stretch_it_has_walked_over(store, monkeypatch):
    """However many stretches there are; what is left of one is taken together with the one before."""
    fill(store, 60)
    monkeypatch.setattr(evict, "LOOK", 10)
    evictor, within = Evictor(store, store.trusted), Intervals([(2, 20), (31, 44)])
    assert evictor.newest("main", within).positions == tuple(range(35, 45))
    assert evictor.newest("main", within).positions == (*range(11, 21), *range(31, 35))


def test_thinning_comes_to_the_end_and_begins_again_more_coarsely(store):
    """Every second stays, then every fourth; a slice that has room left goes on with the next round."""
    fill(store, 40)
    evictor, station = Evictor(store, store.trusted), station_of(store)
    assert evictor.thin("main", Intervals()) == ()
    eviction, thinned = evictor.thin("main", ALL)
    assert set(range(3, 26, 2)) < set(eviction.positions)
    assert thinned.every > 2
    store.append([station.seal(event_batch(eviction, thinned))], changes=(eviction, thinned))
    left = [position for position, block in store.rows("main", 2, 25) if block.payload is not None]
    assert all(position % thinned.every == 0 for position in left if position <= thinned.upto)


def test_fewer_than_are_worth_an_event_wait(store):
    """And what was looked at is not looked at again."""
    fill(store, 9)
    within = Intervals([(1, 10)])
    evictor = Evictor(store, store.trusted)
    assert evictor.oldest("main", within, "delivered", least=20) is None
    assert evictor.oldest_candidate("main", within) == 1
    assert evictor.oldest("main", within, "delivered").account.blocks == 9
    assert evictor.oldest("main", within, "delivered") is None
    assert evictor.oldest_candidate("main", within) == 0


def test_an_envelope_that_is_not_proven_is_not_evicted(store):
    """It is the scrub's to find, which sets it aside; nor one that is not of its place."""
    fill(store, 9)
    damage(store, "UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 3")
    damage(store, "UPDATE block_1 SET envelope = (SELECT envelope FROM block_1 WHERE position = 6) WHERE position = 5")
    assert Evictor(store, store.trusted).oldest("main", ALL, "oldest").positions == (2, 4, 6, 7, 8, 9, 10)


def test_a_look_for_the_first_payload_is_bounded(store, monkeypatch):
    """What it did not reach, the next one will; until then nothing is known of what may go."""
    fill(store, 30)
    bare(store, 1, 20)
    monkeypatch.setattr(prune, "LOOK", 8)
    pruner = Pruner(store, store.trusted)
    found = [pruner.oldest("main", ALL) for _ in range(3)]
    assert found[:2] == [None, None]
    assert (found[2].account.first, found[2].account.last) == (2, 20)


def test_where_nothing_is_held_the_boot_of_the_last_block_counts(store):
    """Its clock anchors stay, and all else may go."""
    fill(store, 20)
    bare(store, 1, 21)
    anchor = Batch(events=[Event("clock-held", 1, bytes(8), ())])
    station = station_of(store)
    store.append([station.seal(anchor)])
    for number in range(LEAST):
        store.append([station.seal(Batch(events=[Event("other", number, bytes(8), ())]))])
    pruner = Pruner(store, store.trusted)
    anchored = store.last_position("main") - LEAST
    first, second = pruner.oldest("main", ALL), pruner.oldest("main", ALL)
    assert (first.account.last, second.account.first) == (anchored - 1, anchored + 1)
    assert pruner.oldest("main", Intervals([(1, 3)])) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 12",
        "UPDATE block_1 SET envelope = (SELECT envelope FROM block_1 WHERE position = 5) WHERE position = 12",
    ],
)
def test_a_header_that_cannot_be_read_ends_a_run(store, wrong):
    """It stays for the scrub to find."""
    fill(store, 30)
    bare(store, 1, 25)
    damage(store, wrong)
    account = Pruner(store, store.trusted).oldest("main", ALL).account
    assert (account.first, account.last) == (2, 11)


@pytest.mark.parametrize("position", [10, 20])
def test_a_run_that_is_not_chained_or_not_signed_stays(store, position):
    """Headers that can be read prove nothing yet: in the middle by the links, at the end by the signature."""
    fill(store, 30)
    bare(store, 1, 20)
    wanted = Pruner(store, store.trusted).oldest("main", ALL)
    assert wanted is not None
    assert Pruner(store, {}).oldest("main", ALL) is None
    ((_, block),) = store.rows("main", position, position)
    forged = bytearray(block.envelope)
    forged[-1] ^= 1
    damage(store, "UPDATE block_1 SET envelope = ? WHERE position = ?", bytes(forged), position)
    assert Pruner(store, store.trusted).oldest("main", ALL) is None


def test_events_that_cannot_be_read_stay(store):
    """What they would explain is not known."""
    station = station_of(store)
    store.append([station.seal()])
    for number in range(20):
        store.append([station.seal(Batch(events=[Event("other", number, bytes(8), ())]))])
    store.append([station.seal()])
    damage(store, "UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position = 14")
    bare(store, 1, 2)
    account = Pruner(store, store.trusted).oldest("main", ALL).account
    assert (account.first, account.last) == (2, 13)
