"""Everything that can befall the logbook, in any order: what is in the file is proven, counted and never made twice.

One recorder over one real file, stepped by hand: commits that fail, before or after they are in the file, kills with
the log torn anywhere, eviction, pruning, blocks in memory, rotations of the key, reloads, damage, old copies restored.

`TRAMBIEN_MIXES=1000` tries so many; the suite a few. `TRAMBIEN_MIX_FROM` is the first seed.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from chains import WALL
from rig import GROUP, LAYOUT, SIDE_GROUP, SIDE_LAYOUT

from agent.health import Health
from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from agent.kept import Kept, Turn
from agent.owner import Owner
from agent.recorder import Recorder
from agent.volatile import Ring
from buffer.block import ClockQuality, Header, open_envelope, trust
from buffer.changes import DAMAGED, PRUNED
from buffer.custody import Custody, believed
from buffer.errors import BufferFault, CommitFailed, StoreFull
from buffer.frame import Frame
from buffer.quota import Quota
from buffer.seal import Moment
from buffer.store import Reader, Store
from buffer.verify import Verifier, payload_of

MIXES = int(os.environ.get("TRAMBIEN_MIXES", "12"))
FROM = int(os.environ.get("TRAMBIEN_MIX_FROM", "0"))
STREAMS = {"main": (LAYOUT,), "side": (SIDE_LAYOUT,)}
CARRIERS: tuple[dict[str, tuple[str, ...] | None], ...] = (
    {"province": None},
    {"province": ("main",), "owner": None},
    {"owner": ("side",)},
    {},
)
UPLINKS = ("province", "owner")
S = 10**9
T = TypeVar("T")


class Killed(BaseException):
    """The process ends here."""


class Here(Owner):
    """An owner that does at once what it is asked."""

    def __init__(self) -> None:
        """Have no thread."""

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Do it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits
            future.set_exception(error)
        return future

    def end(self) -> None:
        """Nothing to end."""


@dataclass
class Clock:
    """Time that goes on when it is told to; the wall jumps."""

    now_ns: int = 10 * S
    wall_ns: int = WALL
    boot: bytes = b"B" * 16

    def boot_ns(self) -> int:
        """Give the boot time."""
        return self.now_ns

    def moment(self) -> Moment:
        """Give the moment."""
        return Moment(self.boot, self.now_ns, self.wall_ns, ClockQuality("unsynchronised", None, ""))


@dataclass
class Plot:
    """What is to go wrong with the next commits."""

    faults: list[str] = field(default_factory=list)
    torn: "Callable[[Store, str], None] | None" = None

    def act(self, store: Store, do: Callable[[], Any]) -> Any:
        """Commit, or not."""
        if not self.faults:
            return do()
        fault = self.faults.pop(0)
        if fault == "kill":
            assert self.torn is not None
            self.torn(store, "before")
            do()
            self.torn(store, "after")
            raise Killed
        if fault == "through":
            do()
        store.failed = True
        store.corrupt = fault == "corrupt"
        raise (StoreFull if fault == "full" else CommitFailed)(path=str(store.path), reason=fault)


class Station:
    """A station and what is known of it."""

    def __init__(self, folder: Path, rng: random.Random, plot: Plot) -> None:
        self.folder, self.rng, self.plot = folder, rng, plot
        self.path = folder / "buffer.db"
        self.clock = Clock()
        self.carriers = CARRIERS[0]
        limit, policy = rng.choice([(150_000, "oldest"), (150_000, "newest"), (600_000, "thin"), (5_000_000, "oldest")])
        self.quota = Quota(limit, rng.choice([S, 600 * S, 10**18]), 0, policy)
        self.ring = rng.choice([3_000, 20_000, 16 << 20])
        self.serial = 0
        self.identities: dict[tuple[bytes, str, bytes, int], bytes] = {}
        self.committed: dict[tuple[str, int], bytes] = {}
        self.acked: set[tuple[str, str, int, bytes]] = set()
        self.tainted = False
        """Whether somebody damaged, or exchanged, the file."""
        self.copies: list[Path] = []
        self.said: list[str] = []
        self.killed: Path | None = None
        self.wal = b""
        plot.torn = self.torn
        self.custody = Custody.open(folder / "device.key")

    # -- starting and ending ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin as a process does."""
        self.custody = Custody.open(self.folder / "device.key")
        identity = Identity("station-1", self.custody.signer, "test", bytes(32), bytes(32))
        rules = Rules(self.quota, dict(self.carriers))
        keys = believed(self.folder / "device.key")
        site = Site(self.path, identity, keys, STREAMS, 56_000, custody=self.custody, rules=rules)
        rng = self.rng
        self.keeper = Keeper(site, self.clock.moment, lambda: rng.randbytes(8))
        self.health = Health("station-1", "test", "", "", self.clock.now_ns)
        self.recorder = Recorder(self.keeper, Here(), self.clock, self.health, streams=STREAMS,
                                 seal_every_ns=S, new_event_id=lambda: rng.randbytes(8))  # fmt: skip
        self.recorder._ring = Ring(limit=self.ring)
        self.recorder.listeners.append(self.hear)
        await self.recorder.open(UPLINKS)

    def drop(self) -> None:
        """End as a killed process does, but for the lock."""
        self.keeper.close()

    def torn(self, store: Store, when: str) -> None:
        """Take a copy of the files as a kill at this instant may leave them."""
        wal = self.path.with_name("buffer.db-wal")
        now = wal.read_bytes() if wal.exists() else b""
        if when == "before":
            self.wal = now
            return
        self.killed = self.folder / "killed"
        shutil.rmtree(self.killed, ignore_errors=True)
        self.killed.mkdir()
        shutil.copy(self.path, self.killed)
        changed = [at for at in range(max(len(now), len(self.wal))) if now[at : at + 1] != self.wal[at : at + 1]]
        cut = self.rng.randrange(changed[0], changed[-1] + 2) if changed else 0
        kept = now[:cut] + self.wal[cut:]
        (self.killed / "buffer.db-wal").write_bytes(kept)

    def exchange(self, files: Path) -> None:
        """Put other files in the place of ours. Nobody has them open."""
        for file in self.folder.glob("buffer.db*"):
            if file.name in ("buffer.db", "buffer.db-wal", "buffer.db-shm"):
                file.rmdir() if file.is_dir() else file.unlink()
        for file in files.iterdir():
            shutil.copy(file, self.folder)

    # -- what is known ---------------------------------------------------------------------------------------------

    def know(self, header: Header, digest: bytes) -> None:
        """Hold a block against all others of its identity (B2)."""
        identity = header.kid, header.stream, header.epoch, header.seq
        assert self.identities.setdefault(identity, digest) == digest, f"two blocks of {header.stream} {header.seq}"

    def hear(self, kept: list[Kept]) -> None:
        """Be an uplink that is told of blocks."""
        for one in kept:
            header = open_envelope(one.block.envelope, trust(believed(self.folder / "device.key")))
            self.know(header, one.block.digest)
            assert header.seq == one.position
            if not self.recorder._health.volatile:
                self.committed[one.stream, one.position] = one.block.digest

    async def read_all(self, stream: str) -> dict[int, Kept]:
        """Read as an uplink does."""
        found: dict[int, Kept] = {}
        first, head = 1, max(self.recorder.head(stream), 0)
        while first <= head:
            reading = await self.recorder.read(stream, first, head, 1 << 20)
            for one in reading.blocks:
                header = open_envelope(one.block.envelope, trust(believed(self.folder / "device.key")))
                assert (header.stream, header.seq) == (stream, one.position)
                self.know(header, one.block.digest)
                found[one.position] = one
            assert self.tainted or not reading.damaged, reading.damaged
            assert reading.reached >= first
            first = reading.reached + 1
        return found

    # -- what is done ----------------------------------------------------------------------------------------------

    async def act(self, name: str) -> None:
        """Do one thing."""
        self.said.append(name)
        await getattr(self, f"do_{name}")()

    async def do_seal(self) -> None:
        """Gather a little and seal."""
        for _ in range(self.rng.randrange(1, 4)):
            self.clock.now_ns += self.rng.choice([S, 3 * S, 20 * S])
            self.fill(self.rng.choice([1, 5, 60]))
            if self.rng.random() < 0.3:
                self.recorder.event("tested", subject=str(self.rng.randrange(4)))
            await self.recorder._seal()
            if self.rng.random() < 0.7:
                await self.recorder._tidy()

    async def do_many(self) -> None:
        """Seal a lot."""
        for _ in range(self.rng.randrange(20, 60)):
            self.clock.now_ns += 2 * S
            self.fill(60)
            await self.recorder._seal()
            await self.recorder._tidy()

    def fill(self, count: int) -> None:
        """Gather frames that hardly compress."""
        for _ in range(count):
            self.serial += 1
            self.recorder.add(GROUP, Frame(self.clock.now_ns, 1000, (self.serial, self.rng.random())))
            if self.rng.random() < 0.3:
                self.serial += 1
                self.recorder.add(SIDE_GROUP, Frame(self.clock.now_ns, 1000, (self.serial,)))

    async def do_age(self) -> None:
        """Let hours go by."""
        for _ in range(4):
            self.clock.now_ns += 400 * S
            await self.recorder._tidy()
            await self.recorder._seal()

    async def do_wall(self) -> None:
        """Let the wall clock jump."""
        self.clock.wall_ns = self.rng.randrange(1, 1 << 62)

    async def do_settle(self) -> None:
        """Be acknowledged."""
        for uplink in UPLINKS:
            for stream in STREAMS:
                head = self.recorder.head(stream) + (len(self.recorder._ring) and 5)
                first = self.rng.randrange(1, head + 2)
                for at in range(first, self.rng.randrange(first, head + 2)):
                    one = self.recorder.recent(stream, at)
                    if one is None:
                        one = next(iter((await self.recorder.read(stream, at, at, 1)).blocks), None)
                    if one is not None:
                        self.recorder.settle(uplink, stream, at)
                        self.acked.add((uplink, stream, at, one.block.digest))

    async def do_fault(self) -> None:
        """Have commits fail."""
        kinds = ["before", "through", "full", "kill"] + (["corrupt"] if self.harsh else [])
        self.plot.faults = [self.rng.choice(kinds) for _ in range(self.rng.choice([1, 1, 2, 4]))]
        self.said[-1] += str(self.plot.faults)

    async def do_outage(self) -> None:
        """Have all commits fail until we seal in memory, and on for a while."""
        first = self.rng.choice(["before", "through", "full"])
        self.plot.faults = [first] + ["before"] * 500
        self.said[-1] += first
        for _ in range(self.rng.randrange(4, 14)):
            self.clock.now_ns += self.rng.choice([S, 4 * S])
            self.fill(self.rng.choice([1, 30]))
            await self.recorder._seal()
            if self.rng.random() < 0.3:
                await self.do_settle()
            if self.rng.random() < 0.3:
                await self.recorder._tidy()
        self.plot.faults = self.rng.choice([[], [], ["through"], ["before", "through"], ["kill"], ["through", "kill"]])
        self.said[-1] += str(self.plot.faults)

    async def do_rotate(self) -> None:
        """Rotate the key."""
        try:
            await self.recorder.rotate_key()
        except BufferFault as error:
            self.said[-1] += type(error).__name__

    async def do_reload(self) -> None:
        """Have other uplinks and streams."""
        self.carriers = self.rng.choice(CARRIERS)
        catalogues = self.rng.choice([STREAMS, STREAMS, {**STREAMS, "extra": (SIDE_LAYOUT,)}, {"main": (LAYOUT,)}])
        try:
            await self.recorder.admit(UPLINKS, catalogues)
        except BufferFault as error:
            self.said[-1] += type(error).__name__
            return
        gathering = self.recorder._gathering
        gathering.tell_all_merged()
        gathering.close_batches()
        await self.recorder._seal()
        if gathering.oldest is None:
            self.keeper.turn(Turn({**STREAMS, **catalogues}, self.rng.randbytes(32), dict(self.carriers)))
            gathering.turn(catalogues)
            self.recorder._note_ledger()

    async def do_restart(self) -> None:
        """Stop, and begin again."""
        self.recorder.stop()
        await self.recorder.run()
        await self.recorder.close()
        if self.rng.random() < 0.5:
            self.clock.boot, self.clock.now_ns = self.rng.randbytes(16), S
        self.plot.faults = []
        await self.start()

    async def do_kill(self) -> None:
        """Be killed, between two commits."""
        raise Killed

    async def rise(self) -> None:
        """Begin again after a kill."""
        if self.killed is None:
            self.torn(None, "before")  # type: ignore[arg-type]
            self.torn(None, "after")  # type: ignore[arg-type]
        assert self.killed is not None
        self.drop()
        self.plot.faults = []
        self.exchange(self.killed)
        self.killed = None
        await self.start()

    async def do_copy(self) -> None:
        """Keep a copy of the files."""
        copy = self.folder / f"copy-{len(self.copies)}"
        copy.mkdir()
        for file in self.folder.glob("buffer.db*"):
            if file.name in ("buffer.db", "buffer.db-wal"):
                shutil.copy(file, copy)
        self.copies.append(copy)

    async def do_restore(self) -> None:
        """Have an older copy put back, its log or not, or the log of another."""
        if not self.copies:
            return
        self.drop()
        self.tainted = True
        self.exchange(self.rng.choice(self.copies))
        wal = self.path.with_name("buffer.db-wal")
        how = self.rng.choice(["whole", "whole", "without", "other"])
        self.said[-1] += how
        if how == "without":
            wal.unlink(missing_ok=True)
        other = self.rng.choice(self.copies) / "buffer.db-wal"
        if how == "other" and other.exists():
            shutil.copy(other, wal)
        if self.rng.random() < 0.3:
            self.path.with_name("buffer.db.highest").unlink(missing_ok=True)
        self.plot.faults = []
        await self.start()

    async def do_empty(self) -> None:
        """Have an empty file instead of ours, or none at all."""
        self.drop()
        self.tainted = True
        for name in ("buffer.db-wal", "buffer.db-shm"):
            if self.rng.random() < 0.5:
                self.path.with_name(name).unlink(missing_ok=True)
        self.path.write_bytes(b"")
        self.plot.faults = []
        await self.start()

    async def do_gone(self) -> None:
        """Have the file go from under us, a folder stand in its place, and the file come back."""
        self.drop()
        away = self.folder / "away"
        away.mkdir()
        for file in self.folder.glob("buffer.db*"):
            if file.name in ("buffer.db", "buffer.db-wal", "buffer.db-shm"):
                file.rename(away / file.name)
        if self.rng.random() < 0.5:
            self.path.mkdir()
        for _ in range(self.rng.randrange(1, 6)):
            await self.do_seal()
        if self.path.exists():
            self.path.rmdir()
        for file in away.iterdir():
            file.rename(self.folder / file.name)
        away.rmdir()

    async def do_hurt(self) -> None:
        """Damage a file while nobody has it open; the process may live on, but not without the end of its log."""
        live = self.rng.random() < 0.4
        if self.rng.random() < 0.5:
            self.torn(None, "before")  # type: ignore[arg-type]
            self.torn(None, "after")  # type: ignore[arg-type]
            assert self.killed is not None
            self.drop()
            self.exchange(self.killed)
            self.killed = None
        else:
            self.drop()
        self.tainted = True
        names = ["buffer.db"] + ["buffer.db-wal"] * (not live and self.path.with_name("buffer.db-wal").exists())
        file = self.path.with_name(self.rng.choice(names))
        data = bytearray(file.read_bytes())
        if not data:
            data = bytearray(1)
        for _ in range(self.rng.choice([1, 3, 30])):
            at = self.rng.randrange(len(data))
            match self.rng.choice(["bit", "zero"]):
                case "bit":
                    data[at] ^= 1 << self.rng.randrange(8)
                case _:
                    data[at : at + 512] = bytes(len(data[at : at + 512]))
        if self.rng.random() < 0.2:
            del data[self.rng.randrange(len(data)) :]
        file.write_bytes(data)
        self.said[-1] += f"{file.name}{live}"
        if not live:
            self.plot.faults = []
            await self.start()

    harsh = False

    # -- the proof -------------------------------------------------------------------------------------------------

    async def settle_down(self) -> None:
        """Have everything written."""
        self.plot.faults = []
        for _ in range(6):
            self.clock.now_ns += 20 * S
            self.fill(2)
            await self.recorder._seal()
            await self.recorder._tidy()
            for stream in STREAMS:
                await self.read_all(stream)
        assert not self.health.volatile
        assert self.recorder._gathering.oldest is None

    async def prove(self) -> None:
        """Hold the file against the ledgers, the verifier, and what is known."""
        verifier = Verifier(believed(self.folder / "device.key"))
        serials: list[int] = []
        with Reader(self.path) as reader:
            for stream in reader.streams():
                there: dict[int, bytes] = {}
                for position, block in reader.blocks(stream):
                    header = verifier.feed(block.envelope, block.payload, (stream, position))
                    assert header is not None, f"{stream} {position} is not proven"
                    assert header.seq == position
                    self.know(header, block.digest)
                    there[position] = block.digest
                    if block.payload is not None:
                        for _, frames in payload_of(block, header, STREAMS.get(stream, (SIDE_LAYOUT,))).frames:
                            serials += [int(frame.values[0] or 0) for frame in frames]
                self.hold(reader, stream, there)
            report = verifier.report()
            assert not report.faults, report.faults
            assert not report.gaps, report.gaps
            assert report.verdict == "complete"
            for (_, stream), found in report.ledgers.items():
                counts = reader.counts(stream)
                ours = (counts.sealed, counts.held, dict(counts.reasons), counts.damaged, counts.lost, counts.pruned)
                theirs = (found.sealed, found.held, dict(found.evicted), found.damaged, found.lost, found.pruned)
                if (
                    self.tainted
                ):  # an event that was damaged cannot be read: the rows know why, the chain says `unstated`
                    ours, theirs = ((one[0], one[1], sum(one[2].values()) + one[3], *one[4:]) for one in (ours, theirs))
                assert ours == theirs, (stream, ours, theirs)
                health = self.health.streams[stream]
                assert (health.head, health.held, health.damaged, health.lost, health.pruned) == (
                    counts.sealed, counts.held, counts.damaged, counts.lost, counts.pruned,
                )  # fmt: skip
        assert self.tainted or len(set(serials)) == len(serials), "readings stand in the chain twice"

    def hold(self, reader: Reader, stream: str, there: dict[int, bytes]) -> None:
        """See that what was shown as committed is there, and that nothing was acknowledged that nobody had."""
        head = reader.last_position(stream)
        absent = reader.absent(stream, 1, head, PRUNED)
        if not self.tainted:
            for (name, position), digest in self.committed.items():
                if name == stream:
                    assert position in absent or there.get(position) == digest, f"{stream} {position} is gone"
            damaged = reader.absent(stream, 1, head, DAMAGED)
            assert not damaged, damaged
        for uplink in UPLINKS:
            known = {(at, digest) for up, name, at, digest in self.acked if (up, name) == (uplink, stream)}
            for first, last in reader.acknowledged(uplink, stream):
                assert last <= head
                for at in range(first, last + 1):
                    assert at not in there or (at, there[at]) in known, f"{uplink} never had {stream} {at}"


GENTLE = ["seal"] * 6 + ["many", "age", "wall", "settle", "settle", "fault", "fault", "outage", "rotate", "reload",
          "restart", "kill", "copy", "gone"]  # fmt: skip
HARSH = [*GENTLE, "hurt", "hurt", "restore", "empty"]


async def mix(seed: int, folder: Path, plot: Plot) -> None:
    """Do some twenty things, and see."""
    rng = random.Random(seed)
    station = Station(folder, rng, plot)
    station.harsh = seed % 2 == 1
    await station.start()
    try:
        for _ in range(rng.randrange(8, 30)):
            try:
                await station.act(rng.choice(HARSH if station.harsh else GENTLE))
            except Killed:
                station.said[-1] += "!"
                await station.rise()
        await station.settle_down()
        if not station.tainted:  # else what was found bare while running may wait for the scrub
            await station.prove()
        await station.do_restart()
        await station.settle_down()
        await station.prove()
    except BaseException as error:
        error.add_note(f"seed {seed}, {station.quota}, ring {station.ring}: " + " ".join(station.said))
        raise
    finally:
        station.drop()


@pytest.fixture
def plot(monkeypatch: pytest.MonkeyPatch) -> Plot:
    """Stand between the keeper and its commits."""
    found = Plot()
    append, adopt = Store.append, Store.adopt
    monkeypatch.setattr(Store, "append", lambda store, *args: found.act(store, lambda: append(store, *args)))
    monkeypatch.setattr(Store, "adopt", lambda store, *args: found.act(store, lambda: adopt(store, *args)))
    return found


@pytest.mark.parametrize("seed", range(FROM, FROM + MIXES))
async def test_whatever_happens_in_whatever_order_the_file_is_proven_and_the_ledger_is_exact(
    seed: int, tmp_path: Path, plot: Plot
) -> None:
    """Even seeds let the medium be; odd ones damage it, and restore old copies."""
    await mix(seed, tmp_path, plot)
