"""The store against a plain list: whatever happens to it, the ledger is exact and an independent verifier agrees."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from chains import METER, batch, key, moment
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.block import KIND_DATA, open_envelope, trust
from buffer.intervals import Intervals
from buffer.prune import Pruner
from buffer.quota import Quota
from buffer.store import Reader
from buffer.verify import Verifier

TRUSTED = trust([key().public_key])


class Station(RuleBasedStateMachine):
    """One stream; `model` is the list of envelopes and payloads that were sealed, by seq."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.path = self.folder / "live" / "buffer.db"
        self.second, self.wall_ns, self.ids = 10, 0, 0
        self.model = {}
        self.spoilt = set()
        self.saved = None
        self.identities = {}
        self.start()

    def teardown(self):
        """Leave nothing."""
        self.keeper.close()
        shutil.rmtree(self.folder)

    def start(self):
        """Open the store as the station does."""
        identity = Identity("station-1", key(), "0.1.0", bytes(32), bytes(32))
        rules = Rules(Quota(50_000_000, 10**18, 0), {"province": None})
        site = Site(self.path, identity, (key().public_key,), {"main": (METER,)}, 56_000, rules=rules)

        def now():
            plain = moment(self.second)
            return plain._replace(wall_ns=plain.wall_ns + self.wall_ns)

        def new_id():
            self.ids += 1
            return self.ids.to_bytes(8, "big")

        self.keeper = Keeper(site, now, new_id)
        self.settled = self.keeper.open(["province"])

    def seal(self):
        """Seal once; the model learns what was committed."""
        self.second += 10
        for kept in self.keeper.seal({"main": batch(self.second)}, dict(self.settled)):
            header = open_envelope(kept.block.envelope, TRUSTED)
            assert kept.position == header.seq
            identity = (header.kid, header.stream, header.epoch, header.seq)
            assert self.identities.setdefault(identity, kept.block.digest) == kept.block.digest
            self.model[header.seq] = kept.block
        self.keeper.tidy()

    @rule(commits=st.integers(1, 5))
    def append(self, commits):
        """Commit some batches."""
        for _ in range(commits):
            self.seal()

    @rule(picks=st.lists(st.integers(0, 1 << 20), max_size=5))
    def acknowledge(self, picks):
        """Out of order; it goes down with the next commit."""
        head = max(self.model, default=0)
        for pick in picks if head else ():
            first = pick % head + 1
            self.settled["province", "main"].add_range(first, min(head, first + 3))

    @rule()
    def reopen(self):
        """Close, and open again."""
        self.keeper.close()
        self.start()

    @rule()
    def crash(self):
        """The process is gone: what it left on the disk is opened elsewhere."""
        moved = self.folder / "moved"
        shutil.copytree(self.path.parent, moved)
        self.keeper.close()
        shutil.rmtree(self.path.parent)
        moved.rename(self.path.parent)
        self.start()

    @rule()
    def evict(self):
        """Room is needed at once."""
        self.keeper._opened()
        if not self.keeper._planned:
            self.keeper._planned = self.keeper._house.urgent(self.keeper._settled)
        self.seal()

    @rule()
    def prune(self):
        """Headers are too many."""
        store, _ = self.keeper._opened()
        end = store.last_position("main")
        pruning = Pruner(store, store.trusted).oldest("main", Intervals([(1, end)])) if end else None
        if pruning is not None and not self.keeper._planned:
            self.keeper._planned = (pruning,)
        self.seal()

    @precondition(lambda self: self.model)
    @rule(
        pick=st.integers(0, 1 << 20),
        at=st.integers(0, 1 << 20),
        bit=st.integers(0, 7),
        column=st.sampled_from(["payload", "envelope"]),
    )
    def corrupt(self, pick, at, bit, column):
        """Flip a bit of a stored block behind its back."""
        position = sorted(self.model)[pick % len(self.model)]
        self.keeper.close()
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute(f"SELECT {column} FROM block_1 WHERE position = ?", (position,)).fetchone()
            if found and found[0]:
                bent = bytearray(found[0])
                bent[at % len(bent)] ^= 1 << bit
                db.execute(f"UPDATE block_1 SET {column} = ? WHERE position = ?", (bytes(bent), position))
                db.commit()
                self.spoilt.add(position)
        self.start()

    @rule()
    def save(self):
        """Somebody copies the card."""
        self.keeper.close()
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.path.parent, self.folder / "copy")
        self.saved = dict(self.model), set(self.spoilt)
        self.start()

    @precondition(lambda self: self.saved)
    @rule()
    def restore(self):
        """Somebody puts the old copy back."""
        self.keeper.close()
        shutil.rmtree(self.path.parent)
        shutil.copytree(self.folder / "copy", self.path.parent)
        self.model, self.spoilt = dict(self.saved[0]), set(self.saved[1])
        self.start()

    @rule(jump_ns=st.sampled_from([-(10**18), 10**18, 3600 * 10**9]))
    def jump(self, jump_ns):
        """The wall clock is set."""
        self.wall_ns += jump_ns

    @invariant()
    def everything_is_accounted_for(self):
        """Rows, ledger, model and verifier say the same, once what was found is told."""
        if not self.model:
            return
        self.seal()
        verifier, bare, rows = Verifier([key().public_key]), 0, {}
        with Reader(self.path) as reader:
            counts = reader.counts("main")
            for position, block in reader.blocks("main"):
                header = verifier.feed(block.envelope, block.payload)
                assert header is not None
                rows[position] = block
                bare += block.payload is None
                assert block.envelope == self.model[position].envelope
                if block.payload is not None:
                    assert block.payload == self.model[position].payload
                else:
                    assert header.kind == KIND_DATA
        ledger = self.keeper.ledgers["main"]
        assert counts.sealed == ledger.head == max(self.model)
        assert counts.held == ledger.held == len(rows) - bare
        assert counts.sealed == counts.held + counts.evicted + counts.damaged + counts.lost + counts.pruned
        assert counts.damaged <= len(self.spoilt)
        report = verifier.report()
        assert not report.faults, report.faults
        assert report.verdict == "complete"


TestStation = Station.TestCase
TestStation.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
