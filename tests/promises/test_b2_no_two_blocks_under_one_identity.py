"""B2: a block carries its predecessor's digest, numbers grow by one, and no identity is ever used twice."""

import shutil
from itertools import pairwise

import pytest
from chains import METER, Station, batch, key, moment

from buffer.block import open_envelope, trust
from buffer.errors import CommitFailed
from buffer.seal import Sealer
from buffer.store import Store
from buffer.verify import Verifier

TRUSTED = [key().public_key]


def identity(block):
    """Give what a block is known by."""
    header = open_envelope(block.envelope, trust(TRUSTED))
    return header.kid, header.stream, header.epoch, header.seq


def sealed_in(store, count=3):
    """Append blocks in a store; give them."""
    station = Station(epoch=store.epoch, heads=store.heads())
    found = []
    for _ in range(count):
        sealed = station.seal()
        store.append([sealed])
        found += sealed.blocks
    return found


def test_every_block_names_the_one_before(tmp_path):
    """By the digest of its whole envelope; over openings too."""
    path = tmp_path / "buffer.db"
    blocks = []
    for _ in range(3):
        with Store.open(path, TRUSTED) as store:
            blocks += sealed_in(store)
    headers = [open_envelope(block.envelope, trust(TRUSTED)) for block in blocks]
    assert [header.seq for header in headers] == list(range(1, len(blocks) + 1))
    assert all(header.prev == before.digest for before, header in zip(blocks, headers[1:], strict=False))
    assert len({header.epoch for header in headers}) == 3
    assert headers[0].prev is None


def test_every_opening_draws_a_new_epoch(tmp_path):
    """Eight random bytes."""
    epochs = set()
    for _ in range(20):
        with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
            epochs.add(store.epoch)
    assert {len(epoch) for epoch in epochs} == {8}
    assert len(epochs) == 20


def test_a_restored_backup_never_signs_an_identity_again(tmp_path):
    """An old copy of the file goes on from an older head, in an epoch of its own; the fork is found."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        blocks = sealed_in(store)
    shutil.copy(path, tmp_path / "backup.db")
    with Store.open(path, TRUSTED) as store:
        blocks += sealed_in(store)
    shutil.copy(tmp_path / "backup.db", path)
    with Store.open(path, TRUSTED) as store:
        after = sealed_in(store)
    assert len({identity(block) for block in blocks + after}) == len(blocks + after)
    verifier = Verifier(TRUSTED)
    for block in blocks + after:
        verifier.feed(block.envelope, block.payload)
    assert verifier.report().count("fork") > 0


def test_a_failed_commit_ends_the_epoch(tmp_path):
    """What was sealed and not committed is never signed again under the same identity."""
    store = Store.open(tmp_path / "buffer.db", TRUSTED)
    blocks = sealed_in(store)
    lost = Station(epoch=store.epoch, heads=store.heads()).seal()
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(CommitFailed):
        store.append([lost])
    store._db.execute("PRAGMA query_only = 0")
    with pytest.raises(CommitFailed):
        store.append([lost])
    with store.reopen() as again:
        after = sealed_in(again)
        assert again.prove().verdict == "complete"
    everything = [*blocks, *lost.blocks, *after]
    assert len({identity(block) for block in everything}) == len(everything)


def test_blocks_of_another_epoch_cannot_be_committed(tmp_path):
    """Whoever kept a sealer over a reopening is stopped before it writes."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        stale = Station(epoch=b"F" * 8, heads=store.heads()).seal()
        with pytest.raises(ValueError, match="follow"):
            store.append([stale])
        assert store.counts("main").sealed == 0


def test_numbers_grow_by_one_within_and_over_epochs(tmp_path):
    """Also where one seal gives several blocks."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        blocks = sealed_in(store, count=5)
    numbers = [identity(block)[3] for block in blocks]
    assert all(after == before + 1 for before, after in pairwise(numbers))


def volatile(store, head, epoch):
    """Seal a block in memory behind a head."""
    sealer = Sealer("station-1", key(), epoch, 56_000, Station().opening)
    return sealer.seal("main", head, batch(900), (METER,), moment(900), volatile=True)


def test_what_is_sealed_in_memory_has_identities_of_its_own_and_is_adopted_under_them(tmp_path):
    """Byte for byte: what a platform has got of it is what the store holds afterwards."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        blocks = sealed_in(store)
        memory = volatile(store, store.heads()["main"], b"V" * 8)
        store.adopt([memory])
        after = sealed_in(store)
        everything = [*blocks, *memory.blocks, *after]
        assert [block.digest for _, block in store.rows("main", 1, 99)] == [block.digest for block in everything]
        assert len({identity(block) for block in everything}) == len(everything)
        assert store.prove().verdict == "complete"


def test_a_branch_that_was_not_adopted_in_time_never_is(tmp_path):
    """The store went on from its head: the branch's numbers belong to others now."""
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        blocks = sealed_in(store)
        abandoned = volatile(store, store.heads()["main"], b"V" * 8)
        after = sealed_in(store)
        with pytest.raises(ValueError, match="follow"):
            store.adopt([abandoned])
        everything = [*blocks, *abandoned.blocks, *after]
        assert len({identity(block) for block in everything}) == len(everything)
