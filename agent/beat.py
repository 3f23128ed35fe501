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
