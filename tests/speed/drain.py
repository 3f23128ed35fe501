"""A long backlog goes out over a link with a round trip of 50 ms, while the nominal load goes on.

What is always true here:

- The backlog is sealed beforehand, at 1,000 readings a block, by the product's own sealer and store.
- The rate is what was pending, over the time from the first session to nothing pending.
- The naive script has a minute's worth of rows and sends one at a time; it is stopped when it took too long.
"""

import asyncio
import json
import sqlite3
import time
from functools import partial

from speed.history import seal
from speed.machine import calibrate_ms
from speed.site import Load, Site, links_of, naive, registers, station

ONE_WAY_S = 0.025
DAY_BLOCKS = 86_400
PATIENCE_S = 120.0


async def drained(around: Site, name: str, blocks: int) -> tuple[float, float]:
    """Give blocks a second and the calibration beside."""
    load = Load()
    made = partial(seal, around.directory / name, load, blocks, acknowledge=False, gateway=name)
    await asyncio.to_thread(made)  # the platform's connection is kept alive meanwhile
    calibration_ms = calibrate_ms()
    with registers(load.devices) as ports:
        async with station(around, name, links_of(load, ports), one_way_s=ONE_WAY_S) as running:
            await running.until_measuring()
            while not (await running.status())["uplinks"]["province"]["connected"]:
                await asyncio.sleep(0.01)
            began_s = time.monotonic()
            while pending := (await running.status())["uplinks"]["province"]["pending"]["main"]:
                if pending < 2:
                    break
                if time.monotonic() - began_s > PATIENCE_S:
                    raise TimeoutError(f"{pending} blocks are pending")
                await asyncio.sleep(0.05)
            took_s = time.monotonic() - began_s
    return blocks / took_s, calibration_ms


async def drained_naively(around: Site, name: str, rows: int, most_s: float) -> float:
    """Give rows a second that the naive script drains of a backlog, one publish at a time."""
    load = Load()
    with registers(load.devices) as ports:
        folder = around.directory / name
        folder.mkdir()
        database = sqlite3.connect(folder / "naive.db")
        database.execute("CREATE TABLE reading (id INTEGER PRIMARY KEY, t REAL, payload TEXT, sent INTEGER)")
        row = json.dumps({"device": 0, "t": time.time(), "values": {f"r{n}": 30_000 + n for n in range(100)}})
        database.executemany("INSERT INTO reading (t, payload, sent) VALUES (0, ?, 0)", [(row,)] * rows)
        database.commit()
        database.close()
        async with naive(around, name, ports, load, every_s=1.0, one_way_s=ONE_WAY_S) as running:
            await asyncio.sleep(most_s)
            del running
        done = json.loads((folder / "settled").read_text())
    return done["sent"] / most_s
