"""B5: payloads go before headers, undelivered data last, and every hole is signed in the commit that makes it."""

from hashlib import sha256

import pytest
from chains import event_batch, key, station_of
from keepers import Small, noisy

from buffer.accounts import events_of
from buffer.block import KIND_DATA, open_envelope, trust
from buffer.errors import CommitFailed, StoreFull
from buffer.evict import Evictor
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.prune import Pruner, merkle_root
from buffer.seal import Batch
from buffer.store import Reader, Store
from buffer.verify import Verifier

TRUSTED = [key().public_key]


def rows(path):
    """Give header and payload by position."""
    with Reader(path) as reader:
        return {
            position: (open_envelope(block.envelope, trust(TRUSTED)), block.payload)
            for position, block in reader.blocks("main")
        }


def proven(path):
    """Give the report of a verifier over the whole file."""
    verifier = Verifier(TRUSTED)
    with Reader(path) as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    return verifier.report()


def test_when_room_is_needed_the_oldest_delivered_payloads_go_first(tmp_path):
    """Headers stay, events and layouts stay whole, and the chain is complete."""
    path = tmp_path / "buffer.db"
    small = Small(path)
    small.seal(300, settled=100, frames=400)
    ledger = small.seal(50, frames=400)
    assert 0 < ledger.evicted <= 100
    assert dict(ledger.reasons) == {"delivered": ledger.evicted}
    found = rows(path)
    bare = [position for position, (_, payload) in found.items() if payload is None]
    assert bare == sorted(bare)
    assert max(bare) <= 100
    assert all(found[position][0].kind == KIND_DATA for position in bare)
    assert proven(path).verdict == "complete"


@pytest.mark.parametrize("policy", ["oldest", "newest", "thin"])
def test_what_was_not_delivered_goes_last_and_by_policy(tmp_path, policy):
    """The file stays within its limit, whatever the outage."""
    path = tmp_path / "buffer.db"
    small = Small(path, when_full=policy)
    ledger = small.seal(600)
    assert set(dict(ledger.reasons)) == {policy}
    assert path.stat().st_size <= 1_000_000
    bare = [position for position, (_, payload) in rows(path).items() if payload is None]
    if policy == "oldest":
        assert max(bare) < 590
    if policy == "newest":
        assert min(bare) > 100
    if policy == "thin":
        held = [at for at, (header, payload) in rows(path).items() if payload and header.kind == KIND_DATA]
        assert min(held) < 50
        assert all(position % 2 for position in bare[:50])
    assert ledger.held + ledger.evicted + ledger.pruned == ledger.head
    assert proven(path).verdict == "complete"


def test_what_was_kept_as_long_as_was_asked_goes_without_need(tmp_path):
    """By running time: ten seconds a seal here."""
    path = tmp_path / "buffer.db"
    small = Small(path, limit=10**9, keep_ns=1000 * 10**9)
    ledger = small.seal(400, settled=400, frames=2)
    assert 150 < ledger.evicted < 300
    assert proven(path).verdict == "complete"


def test_a_wall_clock_that_jumps_ages_nothing(tmp_path, monkeypatch):
    """B8: the wall clock is evidence; it expires nothing."""
    path = tmp_path / "buffer.db"
    small = Small(path, limit=10**9, keep_ns=100_000 * 10**9)
    small.seal(50, settled=50)
    plain = small.keeper._moment
    small.keeper._moment = lambda: plain()._replace(wall_ns=4 * 10**18)
    assert small.seal(100, settled=150).evicted == 0


def test_where_no_uplink_carries_a_stream_keep_bounds_it(tmp_path):
    """Nothing is delivered there, so what is older than `keep` goes as the oldest."""
    path = tmp_path / "buffer.db"
    small = Small(path, carried=False, limit=10**9, keep_ns=1000 * 10**9)
    ledger = small.seal(400, frames=2)
    assert set(dict(ledger.reasons)) == {"oldest"}


def test_an_undelivered_payload_is_never_let_go_for_its_age(tmp_path):
    """However old: it waits for its platform."""
    small = Small(tmp_path / "buffer.db", limit=10**9, keep_ns=1000 * 10**9)
    assert small.seal(400, frames=2).evicted == 0


def test_headers_beyond_a_tenth_of_the_limit_are_pruned_and_signed(tmp_path):
    """Layouts and prunings stay; the root is that of the digests that went."""
    path = tmp_path / "buffer.db"
    small = Small(path)
    digests = {}
    for _ in range(60):
        small.seal(20, settled=small.keeper.ledgers["main"].head or 1)
        digests |= {at: header for at, (header, _) in rows(path).items()}
    ledger = small.keeper.ledgers["main"]
    assert ledger.pruned > 100
    found = rows(path)
    assert 1 in found, "the layouts are still needed"
    assert ledger.held + ledger.evicted + ledger.pruned == ledger.head
    assert small.keeper.read("main", 3, 3, 1000).gone == ((3, 3, "pruned"),)
    report = proven(path)
    assert report.verdict == "complete"


def test_the_merkle_root_is_that_of_rfc_9162():
    """Section 2.1.1: leaves and nodes are told apart, the left side is the largest power of two."""
    a, b, c = (bytes([number]) * 32 for number in (1, 2, 3))
    leaf = [sha256(b"\0" + digest).digest() for digest in (a, b, c)]
    assert merkle_root([]) == sha256(b"").digest()
    assert merkle_root([a]) == leaf[0]
    left = sha256(b"\1" + leaf[0] + leaf[1]).digest()
    assert merkle_root([a, b, c]) == sha256(b"\1" + left + leaf[2]).digest()


def test_a_change_and_its_event_are_one_commit(tmp_path):
    """A failed commit leaves neither."""
    path = tmp_path / "buffer.db"
    store = Store.open(path, TRUSTED)
    station = station_of(store)
    for _ in range(5):
        store.append([station.seal()])
    eviction = Evictor(store, store.trusted).oldest("main", Intervals([(1, 6)]), "delivered")
    assert eviction is not None
    store._db.execute("CREATE TRIGGER fail BEFORE INSERT ON block_1 BEGIN SELECT RAISE(ABORT, 'I/O'); END")
    with pytest.raises(CommitFailed):
        store.append([station.seal(event_batch(eviction))], changes=[eviction])
    with store.reopen() as again:
        assert again.counts("main").evicted == 0
        assert all(payload is not None for _, payload in rows(path).values())


def test_nothing_is_pruned_behind_a_payload_that_is_held(tmp_path):
    """Nor in a run that is shorter than its event."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        station = station_of(store)
        for _ in range(50):
            store.append([station.seal()])
        assert Pruner(store, store.trusted).oldest("main", Intervals([(1, 51)])) is None


def test_a_commit_that_found_no_room_finds_it_when_it_is_tried_again(tmp_path):
    """Payloads go in the very commit that needs their room; nothing that was given is lost."""
    path = tmp_path / "buffer.db"
    small = Small(path)
    ledger = small.seal(480, settled=470)
    large = noisy(99_999, 60_000)
    with pytest.raises(StoreFull):
        small.keeper.seal({"main": large}, {})
    small.keeper.seal({"main": large}, {})
    after = small.keeper.ledgers["main"]
    assert after.readings == ledger.readings + 120_000
    assert after.evicted > ledger.evicted
    assert proven(path).verdict == "complete"


@pytest.mark.parametrize("kind", ["clock-synchronised", "clock-held", "key-enrolled", "key-rotated", "key-lost"])
def test_what_explains_time_and_keys_survives_pruning(tmp_path, kind):
    """Anchors of the boot whose data is still held, and what became of the key."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        station = station_of(store)
        for at in range(40):
            named = [Event(kind if at == 20 else "other", at, bytes(8), ())]
            store.append([station.seal(Batch(events=named))])
        store.append([station.seal()])
        pruning = Pruner(store, store.trusted).oldest("main", Intervals([(1, 42)]))
        assert pruning is not None
        last = pruning.account.last
        (told,) = store.read("main", last + 1, last + 1).blocks
        assert kind in {event.type for event in events_of(told[1], told[2])}
