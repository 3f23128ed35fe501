"""The beat: what is looked at now and then is looked at when the station is awake anyway.

What is always true here: a beat of so many seconds falls on whole multiples of them in the event loop's time, on which
the grid of the polls stands too while the machine does not sleep. A core that wakes for one thing finds its caches
cold, which costs more than most of what it then does.
"""

import asyncio


async def beat(period_s: float) -> None:
    """Sleep until the next beat."""
    now_s = asyncio.get_running_loop().time()
    await asyncio.sleep(next_beat_s(now_s, period_s) - now_s)


def next_beat_s(now_s: float, period_s: float) -> float:
    """Give when the next beat is."""
    return (now_s // period_s + 1) * period_s


class Alarm:
    """Wakes all that wait for one moment by one timer of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def at(self, moment: int, delay_s: float) -> asyncio.Future[None]:
        """Give a future that ends at a moment, so many seconds from now; whoever wakes the waiter earlier ends it."""
        loop = asyncio.get_running_loop()
        rest: asyncio.Future[None] = loop.create_future()
        if moment not in self._waiting:
            self._waiting[moment] = []
            loop.call_later(delay_s, self._wake, moment)
        self._waiting[moment].append(rest)
        return rest

    def _wake(self, moment: int) -> None:
        for rest in self._waiting.pop(moment):
            if not rest.done():
                rest.set_result(None)
