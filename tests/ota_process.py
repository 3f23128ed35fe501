"""A station that is pushed to, as a process that may be killed at any named point: `python ota_process.py DIR POINT`.

Its house is the file: going over to a configuration means to note its digest; every device answers and every uplink
delivers, unless the configuration says `dead` or `mute`. It ends when its flight has, and prints the last state.
"""

import asyncio
import os
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from operators import GATEWAY, NOW_S

from agent import ota
from agent.journal import Hold
from agent.ota import Ota
from agent.reading import read
from buffer.block import ClockQuality
from buffer.seal import Moment
from drivers.api import Clock

NS_PER_S = 10**9


class FastClock:
    """A clock whose boot time runs sixty times as fast and begins where it is told."""

    def __init__(self, boot_id: bytes, boot_ns: int = 10**12, wall_s: int = NOW_S) -> None:
        self.boot_id = boot_id
        self._began_ns = boot_ns
        self._wall_s = wall_s
        self._loop_ns = self._real_ns()

    @staticmethod
    def _real_ns() -> int:
        return time.monotonic_ns()

    def boot_ns(self) -> int:
        """Give boot time."""
        return self._began_ns + 60 * (self._real_ns() - self._loop_ns)

    def moment(self) -> Moment:
        """Give all clocks; the wall clock is good, or of no use at all where it is set to 0."""
        quality = ClockQuality("synchronised", 0, "test") if self._wall_s else ClockQuality("unsynchronised", None, "")
        return Moment(self.boot_id, self.boot_ns(), self._wall_s * NS_PER_S, quality)


class Standin:
    """What a house shows, from what stands in the file."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._blocks = 0
        self.events: list[str] = []
        self.running = config.read_bytes()

    async def reload(self) -> dict[str, Any]:
        """Go over to the file."""
        self.running = self._config.read_bytes()
        return {"ok": b"refuse" not in self.running}

    def health(self) -> dict[str, Any]:
        """Give the state."""
        self._blocks += b"mute" not in self.running
        return {
            "config": sha256(self.running).hexdigest(),
            "links": {"waves": {"devices": {"tank": {"alive": b"dead" not in self.running}}}},
            "uplinks": {"province": {"connected": b"mute" not in self.running, "acknowledged": {"main": self._blocks}}},
        }

    def event(self, kind: str, *, urgent: bool = False, **data: object) -> None:
        """Note an event."""
        self.events.append(f"{kind} {next(iter(data.values()))}")

    @property
    def house(self) -> ota.House:
        """Give it as the pushes know it."""
        return ota.House(self.reload, self.health, self.event)


class _Clock(Clock):
    def boot_ns(self) -> int:
        return 0


def killer(point: str):
    """Kill the process at a point."""

    def at(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


async def fly(hold: Hold, clock: FastClock, standin: Standin, envelope: bytes) -> None:
    """Run until the flight is over."""
    ota.LOOK_EVERY_S = 0.02
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, _Clock()), GATEWAY, settles_s=0.05)
    running = asyncio.create_task(station.run())
    station.take("province", envelope)
    while hold.journal.flight is None or not hold.journal.flight.over:
        await asyncio.sleep(0.01)
        if running.done():
            running.result()
    await asyncio.sleep(0.05)
    running.cancel()


def main(directory: Path, point: str, boot: str, wall_s: int) -> None:
    """Start as the service does: finish what was left open, then run."""
    config = directory / "gateway.yaml"
    clock = FastClock(sha256(boot.encode()).digest()[:16], wall_s=wall_s)
    hold = Hold(config, clock.boot_id.hex(), clock.boot_ns, killer(point))
    hold.recover()
    standin = Standin(config)
    asyncio.run(fly(hold, clock, standin, (directory / "envelope").read_bytes()))
    assert hold.journal.flight is not None
    sys.stdout.write(f"{hold.journal.flight.state} {hold.journal.flight.reason}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
