"""A station whose recorder is stepped by hand, and what is known of it: blocks, acknowledgements, the proof."""

import asyncio
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from chains import WALL
from rig import LAYOUT, SIDE_LAYOUT

from agent.health import Health
from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from agent.kept import Kept
from agent.owner import Owner
from agent.recorder import Recorder
from agent.volatile import Ring
from buffer.block import ClockQuality, Header, open_envelope, trust
from buffer.changes import DAMAGED, PRUNED
from buffer.custody import Custody, believed
from buffer.errors import CommitFailed, StoreFull
from buffer.quota import Quota
from buffer.seal import Moment
from buffer.store import Reader, Store
from buffer.verify import Verifier, payload_of

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


class Known:
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
