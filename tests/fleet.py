"""Many stations in one process: whole uplinks, each with its name, client id and jitter, over one recorder."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Self

from rig import Bench

import agent.uplink
from agent.broker import Endpoint, Message, Session, connect
from agent.carrier import Carriage
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink


def names(count: int, first: int = 0) -> list[str]:
    """Give the names of so many stations."""
    return [f"station-{first + number}" for number in range(count)]


class Fleet:
    """So many uplinks. Use as an asynchronous context manager; the bench must know their names."""

    def __init__(
        self,
        bench: Bench,
        stations: list[str],
        endpoint: Callable[[str], Endpoint],
        rng: random.Random,
        now_s: Callable[[], float] = time.time,
    ):
        self._bench = bench
        self._rng = rng
        self._now_s = now_s
        self.tried_s: list[float] = []
        """When connections were attempted, by `now_s`."""
        self.healths = {name: UplinkHealth(("main",)) for name in stations}
        self._uplinks = [self._uplink(name, endpoint(name)) for name in stations]

    def _uplink(self, name: str, endpoint: Endpoint) -> Uplink:
        bench, health = self._bench, self.healths[name]
        bench.health.uplinks[name] = health
        root = f"trambien/v1/{name}"
        carriage = Carriage(name, root, ("main",), Signed(root), unheard_counts=True)
        rng = random.Random(self._rng.random())
        return Uplink(
            carriage,
            [endpoint],
            bench.recorder,
            health,
            State(bench.health, name, bench.clock.boot_ns),
            rng,
        )

    async def __aenter__(self) -> Self:
        """Let all connect."""
        agent.uplink.connect = self._connect  # type: ignore[attr-defined]
        self._running = [asyncio.create_task(uplink.run()) for uplink in self._uplinks]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let all leave."""
        for task in self._running:
            task.cancel()
        await asyncio.wait(self._running)
        agent.uplink.connect = connect  # type: ignore[attr-defined]

    async def _connect(self, endpoint: Endpoint, will: Message | None = None) -> Session:
        self.tried_s.append(self._now_s())
        return await connect(endpoint, will)

    def live(self) -> int:
        """Count the stations of which everything is delivered."""
        return sum(health.connected and not any(health.pending.values()) for health in self.healths.values())


def peak(times_s: list[float], window_s: float = 1.0) -> int:
    """Give the most that fall into any second."""
    times_s = sorted(times_s)
    most = first = 0
    for last, time_s in enumerate(times_s):
        while time_s - times_s[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most
