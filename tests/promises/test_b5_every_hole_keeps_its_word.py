"""B5: a hole is signed for as long as it stands, also where the block that said so is damaged, or pruned."""

import os
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from chains import event_batch, key, station_of
from keepers import Small

from agent import telling
from buffer import again
from buffer.accounts import events_of
from buffer.block import KIND_EVENTS, open_envelope, trust
from buffer.changes import GONE, LOST, Account, Again, Damage, Eviction, Loss, Owed, Pruning
from buffer.errors import StoreFull
from buffer.evict import Evictor
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.prune import Pruner
from buffer.seal import Batch
from buffer.store import Reader, Store
from buffer.verify import Report, Verifier

DAMAGES = int(os.environ.get("TRAMBIEN_DAMAGES", "30"))
TRUSTED = [key().public_key]


def proven(path: Path) -> Report:
    """Give the report of a verifier over the whole file."""
    verifier = Verifier(TRUSTED)
    with Reader(path) as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    return verifier.report()


def saying(path: Path, kind: str) -> list[tuple[int, Event]]:
    """Give every event of a type, with the position of its block."""
    with Reader(path) as reader:
        return [
            (position, event)
            for position, block in reader.blocks("main")
            for event in events_of(block, open_envelope(block.envelope, trust(TRUSTED)))
            if event.type == kind
        ]


def reasons(path: Path) -> set[str]:
    """Give the reasons of all holes, having proven that each is explained."""
    report = proven(path)
    assert report.verdict == "complete", report
    found = {hole.reason for hole in report.holes}
    assert "unstated" not in found, [hole for hole in report.holes if hole.reason == "unstated"]
    return found


def flip(path: Path, position: int, column: str = "payload", bit: int = 77) -> None:
    """Flip one bit of a row."""
    with closing(sqlite3.connect(path)) as db:
        select = f"SELECT {column} FROM block_1 WHERE position = ?"
        for (found,) in db.execute(select, (position,)).fetchall():
            hurt = bytearray(found or b"")
            if hurt:
                hurt[bit // 8 % len(hurt)] ^= 1 << bit % 8
                db.execute(f"UPDATE block_1 SET {column} = ? WHERE position = ?", (bytes(hurt), position))
        db.commit()


def scrubbed(path: Path, second: int, **rules: object) -> None:
    """Open the store, prove all of it, and seal until nothing is owed."""
    small = Small(path, second=second, **rules)
    store = small.keeper._opened()[0]
    for position, _ in store.rows("main", 1, store.last_position("main")):
        small.keeper._house.suspect("main", position)
    for turn in range(1000):
        first, upto = again.owed(small.keeper._opened()[0], "main")
        if turn > 3 and first > upto and not small.keeper._house._suspects and not small.keeper._planned:
            break
        with suppress(StoreFull):  # what had no room is tried again, and more goes then
            small.seal(frames=2)
    else:
        raise AssertionError("it never ends")
    small.keeper.close()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of a station that evicted delivered and undelivered payloads, and pruned."""
    path = tmp_path_factory.mktemp("old") / "buffer.db"
    small = Small(path, limit=250_000)
    for _ in range(12):
        small.seal(20, settled=small.keeper.ledgers["main"].head or 1)
    small.seal(150)
    small.keeper.close()
    assert reasons(path) >= {"delivered", "oldest", "pruned"}
    return path


@pytest.fixture
def path(old: Path, tmp_path: Path) -> Path:
    """Give a copy of it."""
    copy = tmp_path / "buffer.db"
    copy.write_bytes(old.read_bytes())
    return copy


@pytest.mark.parametrize("kind", ["evicted", "pruned"])
def test_a_flipped_bit_in_the_word_of_a_hole_leaves_no_hole_unexplained(path: Path, kind: str) -> None:
    """Each word in turn would do; the last one and the first are tried."""
    known = reasons(path)
    for position, _ in (saying(path, kind)[0], saying(path, kind)[-1]):
        flip(path, position)
    scrubbed(path, 100_000, limit=10**9)
    assert reasons(path) == known | {"damaged"}


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_whatever_blocks_are_damaged_every_hole_keeps_its_word(path: Path, seed: int, monkeypatch) -> None:
    """Round after round, in small slices, the words said again among them; the ledger and the verifier agree."""
    rng = random.Random(seed)
    monkeypatch.setattr(again, "LOOK", rng.choice([7, 50, 1024]))
    monkeypatch.setattr(again, "MOST", rng.choice([2, 10, 256]))
    for turn in range(1, 4):
        with Reader(path) as reader:
            there = [
                (position, open_envelope(block.envelope, trust(TRUSTED)).kind)
                for position, block in reader.blocks("main")
            ]
        words = [position for position, kind in there if kind == KIND_EVENTS]
        for position in (*rng.sample(words, min(4, len(words))), *rng.sample([one for one, _ in there], 4)):
            flip(path, position, rng.choice(["payload", "payload", "envelope"]), rng.randrange(4000))
        scrubbed(path, 100_000 * turn, limit=rng.choice([250_000, 10**9]))
        reasons(path)
    report = proven(path)
    with Reader(path) as reader:
        counts = reader.counts("main")
    assert counts.sealed == counts.held + counts.evicted + counts.damaged + counts.lost + counts.pruned
    (ledger,) = report.ledgers.values()
    assert (ledger.held, ledger.damaged, ledger.pruned) == (counts.held, counts.damaged, counts.pruned)


def test_what_is_owed_survives_a_restart_and_is_said_once(tmp_path: Path, monkeypatch) -> None:
    """How far it has come stands in the file; a second damage before its end adds nothing."""
    monkeypatch.setattr(again, "LOOK", 8)
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        station = station_of(store)
        for _ in range(40):
            store.append([station.seal()])
        gone = Eviction(Account("main", 2, 30, 15, 0), tuple(range(2, 31, 2)), "oldest")
        store.append([station.seal(event_batch(gone))], changes=[gone])
        damage = Damage(Account("main", 42, 42, 1, None), "payload-digest")
        changes = [damage, *again.hurt(store, "main", 42)]
        store.append([station.seal(event_batch(*changes))], changes=changes)
        assert again.owed(store, "main") == (9, 42)
        assert again.hurt(store, "main", 40) == ()
    with Store.open(path, TRUSTED) as store:
        station = station_of(store)
        while changes := again.due(store, "main", *again.owed(store, "main")):
            store.append([station.seal(event_batch(*changes))], changes=changes)
        assert again.owed(store, "main") == (43, 42)
    assert reasons(path) == {"oldest", "damaged"}
    told = [dict(event.data) for _, event in saying(path, "evicted")]
    assert sum(one["blocks"] for one in told) == 15
    assert all(one["again"] for one in told)


def test_what_is_told_again_is_cut_after_so_many_words(tmp_path: Path, monkeypatch) -> None:
    """Between two words: none is left out, none is said twice."""
    monkeypatch.setattr(again, "MOST", 3)
    with Store.open(tmp_path / "buffer.db", TRUSTED) as store:
        station = station_of(store)
        for _ in range(30):
            store.append([station.seal()])
        losses = [Loss(Account("main", at, at, 1, None)) for at in range(3, 30, 2)]
        store.append([station.seal(event_batch(*losses))], changes=losses)
        first, upto, found = 1, store.last_position("main"), []
        while changes := again.due(store, "main", first, upto):
            *words, owed = changes
            assert isinstance(owed, Owed)
            assert len(words) <= 3
            found += [word.account.first for word in words]
            assert all(isinstance(word, Again) and word.reason == LOST for word in words)
            first = owed.first
        assert found == list(range(3, 30, 2))


def word_to_prune(store: Store) -> int:
    """Give the position of the last word in a run that can be pruned, which speaks of headers before it that stay."""
    station = station_of(store)
    for _ in range(4):
        store.append([station.seal()])
    store.append([station.seal(Batch(events=[Event("key-enrolled", 1, bytes(8), ())]))])
    for _ in range(20):
        store.append([station.seal()])
    for _ in range(2):
        gone = Evictor(store, store.trusted).oldest("main", Intervals([(1, 22)]), "delivered")
        if gone is not None:
            store.append([station.seal(event_batch(gone))], changes=[gone])
    word = store.last_position("main")
    gone = Evictor(store, store.trusted).oldest("main", Intervals([(23, 26)]), "oldest")
    assert gone is not None
    store.append([station.seal(event_batch(gone))], changes=[gone])
    return word


def pruning_of(store: Store, word: int) -> Pruning:
    """Give the pruning of the run that holds a word."""
    pruning = Pruner(store, store.trusted).oldest("main", Intervals([(1, word + 1)]))
    assert pruning is not None
    assert pruning.account.first <= word <= pruning.account.last
    return pruning


def test_a_run_too_short_to_be_pruned_keeps_its_word_when_that_is_pruned(tmp_path: Path) -> None:
    """The `evicted` of headers that stay is said again in the commit that prunes it, for these alone."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        pruning = pruning_of(store, word_to_prune(store))
        assert [(one.account.first, one.account.last, one.reason) for one in pruning.again] == [(2, 5, "delivered")]
        assert telling.told_again(store, [pruning]) == pruning.again
        sealed = station_of(store).seal(event_batch(pruning, *pruning.again))
        store.append([sealed], changes=[pruning, *pruning.again])
    assert reasons(path) == {"delivered", "pruned"}


def test_a_word_that_no_header_needs_any_more_is_not_said_again(tmp_path: Path) -> None:
    """Of what has another reason by now, that one speaks."""
    path = tmp_path / "buffer.db"
    with Store.open(path, TRUSTED) as store:
        word = word_to_prune(store)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE block_1 SET gone = ? WHERE position <= 5 AND gone = ?", (GONE["oldest"], GONE["delivered"]))
        db.commit()
    with Store.open(path, TRUSTED) as store:
        assert pruning_of(store, word).again == ()
