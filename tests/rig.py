"""What tests of several rooms build on: a real broker with mutual TLS, a recorder over a real store."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.broker import Endpoint
from agent.clock import SystemClock
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.health import Health
from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from agent.kept import Kept
from agent.owner import Owner
from agent.recorder import Recorder
from buffer.block import Block, open_envelope, trust
from buffer.frame import Column, Frame, Layout
from buffer.keys import load_or_create
from buffer.verify import payload_of
from drivers.api import Group


@dataclass
class Platform:
    """A mosquitto and the authority that it trusts."""

    broker: Mosquitto
    authority: Authority

    def endpoint(self, name: str, **changes: object) -> Endpoint:
        """Give what a client of this name needs to connect."""
        pair = self.authority.issue(name)
        facts = {"ca": str(self.authority.ca), "cert": str(pair.cert), "key": str(pair.key), **changes}
        return Endpoint("localhost", self.broker.port, name, **facts)  # type: ignore[arg-type]


PATIENCE_S = 60.0
"""How long a test waits for what has no deadline. It costs nothing where it comes, however busy the machine is."""

LAYOUT = Layout("bus-1", "meter", "simulated", 10**9, (Column("serial", "uint32"), Column("power", "float32", "kW")))
GROUP = Group("meter", "main", LAYOUT)
SIDE_LAYOUT = Layout("bus-2", "press", "simulated", 10**9, (Column("serial", "uint32"),))
SIDE_GROUP = Group("press", "side", SIDE_LAYOUT)


class Bench:
    """A recorder over a real store, sealing fast. Use as an asynchronous context manager."""

    def __init__(
        self,
        path: Path,
        *,
        seal_every_s: float = 0.05,
        uplinks: Sequence[str] = ("province",),
        rules: Rules | None = None,
    ) -> None:
        self.path = path
        self.clock = SystemClock()
        self.key, _ = load_or_create(path.with_name("device.key"))
        identity = Identity("station-1", self.key, "test", bytes(32), bytes(32))
        catalogues, carried = {"main": (LAYOUT,), "side": (SIDE_LAYOUT,)}, rules or Rules()
        site = Site(path, identity, (self.key.public_key,), catalogues, 56_000, rules=carried)
        self.keeper = Keeper(site, self.clock.moment, lambda: os.urandom(8))
        self.owner = Owner("buffer")
        self.health = Health("station-1", "test", self.key.kid.hex(), "", self.clock.boot_ns())
        self.recorder = Recorder(
            self.keeper,
            self.owner,
            self.clock,
            self.health,
            streams=("main", "side"),
            seal_every_ns=int(seal_every_s * 10**9),
            new_event_id=lambda: os.urandom(8),
        )
        self.committed: list[Kept] = []
        self.recorder.listeners.append(self.committed.extend)
        self._uplinks = uplinks

    async def __aenter__(self) -> Self:
        """Open the store and begin to seal."""
        await self.recorder.open(self._uplinks)
        self._running = asyncio.create_task(self.recorder.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Seal what is left and close."""
        self.recorder.stop()
        await self._running
        await self.recorder.close()

    def add(self, *serials: int, group: Group = GROUP) -> None:
        """Record one frame for each number."""
        for serial in serials:
            values = (serial, 1.5)[: len(group.layout.columns)]
            self.recorder.add(group, Frame(self.clock.boot_ns(), 1000, values))

    async def sealed(self, *serials: int, group: Group = GROUP) -> None:
        """Record frames and wait until they are committed."""
        self.add(*serials, group=group)
        await until(lambda: set(serials) <= set(self.numbers(group.stream)))

    def numbers(self, stream: str = "main") -> list[int]:
        """Give the numbers in the committed blocks of a stream, in order."""
        found: list[int] = []
        for kept in self.committed:
            if kept.stream == stream:
                found += numbers_in(kept.block, LAYOUT if stream == "main" else SIDE_LAYOUT, self.key.public_key)
        return found


def numbers_in(block: Block, layout: Layout, public_key: bytes) -> list[int]:
    """Open a block with its key and give the numbers it holds."""
    header = open_envelope(block.envelope, trust([public_key]))
    payload = payload_of(block, header, (layout,))
    return [int(frame.values[0] or 0) for _, frames in payload.frames for frame in frames]


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
    """Wait for something to become true; give how long that took in the time of the loop."""
    now_s = asyncio.get_running_loop().time
    began_s = now_s()
    while not condition():
        assert now_s() - began_s < seconds, "it did not become true in time"
        await asyncio.sleep(0.01)
    return now_s() - began_s
