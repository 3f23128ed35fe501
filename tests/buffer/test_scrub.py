"""The scrub names what does not hold, run by run, and nothing that does."""

import sqlite3
from contextlib import closing

import pytest
from chains import Station, event_batch, fill, key, station_of

from buffer.changes import DAMAGED, LOST, Account, Damage, Loss
from buffer.errors import BufferCorrupt, ChainBroken
from buffer.evict import Evictor
from buffer.intervals import Intervals
from buffer.store import PAGE_SIZE, Reader, Store

TRUSTED = [key().public_key]


@pytest.fixture
def hurt(path):
    """Change a closed buffer behind its back; give it open."""
    opened = []

    def damage(*statements):
        with closing(sqlite3.connect(path)) as db:
            for sql in statements:
                db.execute(sql)
            db.commit()
        opened.append(Store.open(path, TRUSTED))
        return opened[-1]

    yield damage
    for store in opened:
        store.close()


def faults(store, first=1, most=100):
    """Give what is damaged: where, why, and whether the envelope holds."""
    return [
        (one.account.first, one.account.last, one.reason, one.envelope_good)
        for one in store.scrub("main", first, most).damages
    ]


def test_what_holds_is_not_named(store):
    """Nor what is gone for a reason, nor the end of a stream that has nothing."""
    fill(store, 20)
    eviction = Evictor(store, store.trusted).oldest("main", Intervals([(1, 9)]), "delivered")
    loss = Loss(Account("main", 12, 13, 2, None))
    store.append([station_of(store).seal(event_batch(eviction, loss))], changes=[eviction, loss])
    assert faults(store) == []
    assert store.scrub("main", 1, 5).last == 5
    assert store.scrub("nobody", 1, 5) == (0, ())


def test_damage_is_named_run_by_run(path, hurt):
    """Rows that are gone, envelopes, payloads one by one, a block that is not of its place."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 20)
    store = hurt(
        "DELETE FROM block_1 WHERE position IN (3, 4)",
        "UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position IN (6, 7)",
        "UPDATE block_1 SET envelope = (SELECT envelope FROM block_1 WHERE position = 20) WHERE position = 9",
        "UPDATE block_1 SET payload = NULL WHERE position IN (1, 11)",
        "UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 13",
    )
    assert faults(store) == [
        (1, 1, "withheld", False),
        (3, 4, "block", False),
        (6, 6, "payload-digest", True),
        (7, 7, "payload-digest", True),
        (9, 9, "misnumbered", False),
        (11, 11, "evicted", True),
        (13, 13, "not-sign1", False),
    ]


def test_damage_of_what_had_no_payload_is_counted_once(path, hurt):
    """A bare row for which no reason stands is in no account until it is taken away."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 9)
    store = hurt("UPDATE block_1 SET payload = NULL WHERE position = 4")
    change = Damage(Account("main", 4, 4, 1, None), "header")
    store.append([station_of(store).seal()], changes=[change])
    counts = store.counts("main")
    assert (counts.damaged, counts.held) == (1, counts.sealed - 1)


@pytest.mark.parametrize(("positions", "stranger"), [((4,), False), ((3, 4), True), ((1, 2, 3, 4), True)])
def test_a_chain_that_another_key_goes_on_with_is_not_ours(path, hurt, positions, stranger):
    """One envelope of a key that is not ours is damage like any other; two at the end are a stranger's."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 3)
    foreign = [block.envelope.hex() for block in Station(signer=key(2)).blocks(4)]
    store = hurt(*(f"UPDATE block_1 SET envelope = x'{foreign[at - 1]}' WHERE position = {at}" for at in positions))
    if stranger:
        with pytest.raises(ChainBroken):
            store.heads()
    else:
        assert store.heads()["main"].seq == 4


def test_a_lone_block_of_another_key_is_not_ours(path, hurt):
    """Nothing before it speaks for the stream; where what is before it is damaged, that is no stranger's work."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 3)
    foreign = Station(signer=key(2)).blocks(4)[3].envelope.hex()
    wrong = f"UPDATE block_1 SET envelope = x'{foreign}' WHERE position = 4"
    store = hurt(wrong, "UPDATE block_1 SET envelope = zeroblob(300) WHERE position = 3")
    assert store.heads()["main"].seq == 4
    store.close()
    with pytest.raises(ChainBroken):
        hurt("DELETE FROM block_1 WHERE position < 4").heads()


def test_layouts_and_runs_can_be_asked_of_any_stream(store, path):
    """Also of one that has no block, or that is not there."""
    fill(store, 3)
    store.append([], {("province", "quiet"): Intervals()})
    assert store.present("main") == Intervals([(1, 4)])
    assert store.present("quiet") == Intervals()
    assert store.marked_rows("nobody", 1, 9, 9) == []
    with Reader(path) as reader:
        wanted = [(at, block.envelope) for at, block in reader.blocks("main")]
        assert list(reader.envelopes("main")) == wanted
        assert list(reader.envelopes("nobody")) == []


def test_a_walk_over_pages_that_make_no_sense_says_so(path):
    """As every other question does."""
    with Store.open(path, TRUSTED) as store:
        fill(store, 60)
        root = store._rows("SELECT rootpage FROM sqlite_schema WHERE name = 'block_1'")[0][0]
    data = bytearray(path.read_bytes())
    data[(root - 1) * PAGE_SIZE : root * PAGE_SIZE] = b"\x05" * PAGE_SIZE
    path.write_bytes(data)
    with Reader(path) as reader, pytest.raises(BufferCorrupt):
        reader.present("main")


def test_events_say_what_was_lost():
    """Seq numbers, how many, and why."""
    kind, data = Loss(Account("main", 4, 6, 3, None)).told()
    assert (kind, dict(data)) == (
        LOST,
        {"first": 4, "last": 6, "blocks": 3, "readings": None, "reason": "volatile"},
    )
    assert Damage(Account("main", 4, 6, 3, None), "header").told()[0] == DAMAGED
