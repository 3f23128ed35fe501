"""A small chaos of real links in a network namespace; the figures come from tests/speed/links.py."""

import asyncio
import random
from pathlib import Path

import pytest
from carrying import ROOT, delivered, filled
from far import Far, why_not
from rig import Bench, until

from agent.carrier import Carriage
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink

NO = why_not()
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(NO), reason=NO or "possible")]


@pytest.mark.parametrize("ipv6_only", [False, True])
async def test_everything_arrives_over_a_link_that_vanishes_flaps_loses_and_is_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ipv6_only: bool
) -> None:
    """A half-open connection is found by TCP_USER_TIMEOUT, without a byte of farewell from the other side."""
    monkeypatch.setattr("agent.route.LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr("agent.sockets.TCP_USER_TIMEOUT_MS", 1_500)
    monkeypatch.setattr("agent.broker.CONNECT_TIMEOUT_S", 1.0)
    async with Far(ipv6_only=ipv6_only) as far, Bench(tmp_path / "buffer.db") as bench:
        health = bench.health.uplinks["province"] = UplinkHealth(("main",))
        carriage = Carriage("province", ROOT, ("main",), Signed(ROOT), unheard_counts=True)
        uplink = Uplink(
            carriage,
            [far.endpoint()],
            bench.recorder,
            health,
            State(bench.health, "province", bench.clock.boot_ns),
            random.Random(1),
        )
        task = asyncio.create_task(uplink.run())
        try:
            await filled(bench)
            await delivered(health)
            far.blackhole()
            await bench.sealed(50)
            await until(lambda: health.error is not None and not health.connected)
            far.heal()
            await delivered(health, 40)
            far.cap("200kbit")
            for number in range(100, 104):
                far.flap(up=False)
                await bench.sealed(number)
                far.flap(up=True)
            await delivered(health, 60)
            far.lose(10)
            for number in range(200, 204):
                await bench.sealed(number)
            await delivered(health, 60)
            far.lose(0)
        finally:
            task.cancel()
            await asyncio.wait([task])
