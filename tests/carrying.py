"""One uplink over a real recorder, towards a hostile broker: what its tests share."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hostile import Hostile
from rig import LAYOUT, Bench, numbers_in, until

from agent.broker import Endpoint
from agent.carrier import Carriage
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink
from buffer.block import decode_block
from buffer.intervals import Intervals

ROOT = "trambien/v1/station-1"
BLOCKS = 8


@asynccontextmanager
async def carrying(
    bench: Bench, broker: Hostile, name: str = "province", protocol: int = 5, window: int = 16, **changes: object
) -> AsyncIterator[UplinkHealth]:
    """Run an uplink towards a hostile broker."""
    for key in ((name, "main"), (f"{name}#told", "main")):
        bench.recorder._settled.setdefault(key, Intervals())
    health = bench.health.uplinks[name] = UplinkHealth(("main",))
    uplink = Uplink(
        Carriage(name, ROOT, ("main",), Signed(ROOT), **changes),  # type: ignore[arg-type]
        [Endpoint("127.0.0.1", broker.port, f"station-1.{name}", protocol=protocol, window=window)],
        bench.recorder,
        health,
        State(bench.health, name, bench.clock.boot_ns),
        random.Random(1),
    )
    task = asyncio.create_task(uplink.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.wait([task])
        bench.recorder.listeners.remove(uplink._committed)


async def delivered(health: UplinkHealth, seconds: float = 30) -> None:
    """Wait until nothing is pending."""
    await until(lambda: health.connected and health.pending == {"main": 0}, seconds)


def effects(broker: Hostile, bench: Bench) -> list[int]:
    """Give the numbers of the blocks that arrived, each block once by its digest."""
    found: list[int] = []
    for payload in broker.blocks().values():
        found += numbers_in(decode_block(payload), LAYOUT, bench.key.public_key)
    return sorted(found)


async def filled(bench: Bench) -> list[int]:
    """Commit some blocks."""
    for number in range(1, BLOCKS + 1):
        await bench.sealed(number)
    return list(range(1, BLOCKS + 1))
