"""A small fleet after an outage; five hundred of them are in tests/speed/fleet.py."""

import asyncio
import random
from pathlib import Path

import pytest
from fleet import Fleet, names, peak
from rig import Bench, Platform, until

pytestmark = [pytest.mark.slow]

STATIONS = 40
OUTAGE_S = 8.0


async def test_after_an_outage_stations_come_back_one_by_one_and_all_of_them(
    tmp_path: Path, platform: Platform
) -> None:
    """Without jitter all forty would try in one second; what was sealed meanwhile arrives too."""
    some = names(STATIONS)
    now_s = asyncio.get_running_loop().time
    endpoint = platform.endpoint("station")
    pair = (endpoint.ca, endpoint.cert, endpoint.key)
    async with Bench(tmp_path / "buffer.db", seal_every_s=1.0, uplinks=some) as bench:
        fleet = Fleet(
            bench, some, lambda name: type(endpoint)("localhost", endpoint.port, name, *pair), random.Random(3), now_s
        )
        async with fleet:
            await bench.sealed(1)
            await until(lambda: fleet.live() == STATIONS)
            await platform.broker.kill()
            await until(lambda: not any(health.connected for health in fleet.healths.values()))
            gone_s = now_s()
            await bench.sealed(2)
            await until(lambda: now_s() - gone_s > OUTAGE_S)
            await platform.broker.start()
            await until(lambda: fleet.live() == STATIONS, 90)
    late = [tried_s for tried_s in fleet.tried_s if tried_s > gone_s + OUTAGE_S / 2]
    assert len(late) >= STATIONS
    assert peak(late) <= STATIONS / 2
