"""Clocks that stand still while the machine does: an event loop, and a watch.

What is always true here:

- Everything that a test waits for in this process is timed by its loop: the time-outs of the code under test, its
  instruments and platforms on the same loop, and the test's own patience. When all of them stand still at once, because
  the machine had no core for this process or stopped altogether, nothing of it counts: no time-out ends that had not
  ended on a machine that goes on, and an upper bound that is measured by `loop.time()` bounds our code alone.
- The clock never goes backwards and never runs fast: in its time nothing happens sooner than in true time. A lower
  bound is therefore measured in true time (`time.monotonic`), an upper one in the loop's.
- What the loop itself computes is never taken for a stop: a callback that works long costs its time here too.
- How long it stood is remembered by boot time, for what is judged by boot time: gaps between polls, for example.
- Where something had arrived when a late loop looked again, it is handled before any timer that ran out meanwhile.
"""

import asyncio
import math
import os
import selectors
import threading
import time
from pathlib import Path
from typing import Self

LATE_S = 0.02
"""How much later than asked for a loop may wake before it counts as standing still."""
BUSY_S = 0.05
"""How long what the loop runs may take between two looks at the clock before it counts as standing still."""


class SteadyLoop(asyncio.SelectorEventLoop):
    """A loop of this kind."""

    def __init__(self) -> None:
        self._stood_s = 0.0
        self._stops: list[tuple[int, float]] = []
        self._looked_s, self._due_s = time.monotonic(), math.inf
        self._worked_s = time.thread_time()
        super().__init__(_Selector(self))

    @staticmethod
    def running() -> "SteadyLoop":
        """Give the one that runs."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteadyLoop)
        return loop

    def time(self) -> float:
        """Give the seconds that this loop had the machine."""
        now_s = time.monotonic()
        if self._thread_id in (None, threading.get_ident()):  # type: ignore[attr-defined]
            worked_s = time.thread_time()
            stood_s = now_s - max(self._due_s, self._looked_s + worked_s - self._worked_s)
            if stood_s > 0:
                self._stood(stood_s)
            self._worked_s, self._looked_s, self._due_s = worked_s, now_s, now_s + BUSY_S
        return now_s - self._stood_s

    def stood_s(self, from_boot_ns: int, to_boot_ns: int) -> float:
        """Give how long this loop stood still between two moments, at most; a stop that reaches into them counts."""
        return sum(
            stood_s for end_ns, stood_s in self._stops if from_boot_ns < end_ns and end_ns - stood_s * 1e9 < to_boot_ns
        )

    def ticks(self, every_s: float, since_boot_ns: int = 0) -> int:
        """Give how many ticks may have passed while this loop stood still: who polls misses them."""
        stops = [stood_s + LATE_S + BUSY_S for end_ns, stood_s in self._stops if end_ns > since_boot_ns]
        return sum(math.ceil(stop_s / every_s) for stop_s in stops if stop_s > every_s)

    def _stood(self, seconds: float) -> None:
        self._stood_s += seconds
        self._stops.append((time.clock_gettime_ns(time.CLOCK_BOOTTIME), seconds))

    def waits(self, timeout_s: float | None) -> None:
        """Begin to wait for so long at most."""
        self.time()
        self._due_s = math.inf if timeout_s is None else self._looked_s + max(timeout_s, 0) + LATE_S

    def late(self) -> bool:
        """Say whether it waited longer than it asked for."""
        return time.monotonic() > self._due_s

    def woke(self, *, events: bool) -> None:
        """Look at the clock again; where something had arrived, what is due only now waits until that is handled."""
        if events and self.late():
            self._due_s = max(self._looked_s, self._due_s - 2 * LATE_S)
        self.time()


class _Selector(selectors.DefaultSelector):
    """Tells its loop when it begins and ends to wait."""

    def __init__(self, loop: SteadyLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait."""
        self._loop.waits(timeout)
        events = super().select(timeout)
        if not events and self._loop.late():  # a wait that was interrupted ends without a look
            events = super().select(0)
        self._loop.woke(events=bool(events))
        return events


class Watch:
    """Counts the seconds in which the machine and its disk went on, for what has to be over in time in another process.

        with Watch(tmp_path) as watch:
            ...
        assert watch.seconds < 5

    A thread turns every twentieth of a second, writes a byte to the disk at each turn, and counts no turn as more than
    twice that: where this thread or the disk stood still, so did whatever is measured.
    """

    TURN_S = 0.05

    def __init__(self, directory: Path) -> None:
        self.seconds = 0.0
        self._file = directory / "watch"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to count."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting."""
        self._stop.set()
        self._thread.join()

    def _turn(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            began_s = time.monotonic()
            while not self._stop.wait(self.TURN_S):
                file.write(b".")
                os.fsync(file.fileno())
                now_s = time.monotonic()
                self.seconds += min(now_s - began_s, 2 * self.TURN_S)
                began_s = now_s
