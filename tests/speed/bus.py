"""How well a serial bus is used: `PYTHONPATH=tests python tests/speed/bus.py`, on an idle machine, about two minutes.

Against the cost model's own figure for the same plan, on a pseudo-terminal whose bytes take the time of their baud
rate: at least 95 % of what is possible, and never slower than one request a point. With one of eight units dead, the
other seven begin their polls at the 99th percentile less than one request later than usual.
"""

import asyncio
import tempfile
from pathlib import Path

from busline import bus_use, worst_beyond_its_place_ms

from agent.clock import SystemClock


async def main() -> None:
    """Measure and print."""
    for baud in (9600, 19200):
        share, took_s, single_s = await bus_use(SystemClock(), baud, 20)
        took = f"{took_s * 1e3:7.1f} ms planned  {single_s * 1e3:7.1f} ms a point at a time"
        print(f"{baud:6} baud  {share:6.1%} of the possible  {took}")
    with tempfile.TemporaryDirectory() as directory:
        worst_ms, request_ms = await worst_beyond_its_place_ms(Path(directory), 30)
    print(f"one of eight dead: {worst_ms:.1f} ms late at p99, one request is {request_ms:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
