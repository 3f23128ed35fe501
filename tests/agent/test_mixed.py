"""Everything that can befall the logbook, in any order: what is in the file is proven, counted and never made twice.

One recorder over one real file, stepped by hand: commits that fail, before or after they are in the file, kills with
the log torn anywhere, eviction, pruning, blocks in memory, rotations of the key, reloads, damage, old copies restored.

`TRAMBIEN_MIXES=1000` tries so many; the suite a few. `TRAMBIEN_MIX_FROM` is the first seed.
"""

import os
import random
import shutil
from pathlib import Path

import pytest
from mixing import CARRIERS, STREAMS, UPLINKS, Killed, Known, Plot, S
from rig import GROUP, LAYOUT, SIDE_GROUP, SIDE_LAYOUT

from agent.kept import Turn
from buffer.errors import BufferFault
from buffer.frame import Frame
from buffer.store import Store

MIXES = int(os.environ.get("TRAMBIEN_MIXES", "12"))
FROM = int(os.environ.get("TRAMBIEN_MIX_FROM", "0"))


class Station(Known):
    """A station, and what may befall it."""

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
