"""On a line whose bytes take their time: the driver uses what the wire can carry, and the dead slow nobody down.

The exact figures are measured by `tests/speed/bus.py` on an idle machine; here the margins are wide, since others use
this machine too.
"""

import asyncio
import random

import pytest
from busline import PATIENT, bus_use, driver_on, worst_beyond_its_place_ms
from rig import Bench
from steady import SteadyLoop

from agent.health import DeviceHealth, LinkHealth
from agent.poller import House, Poller
from config.judge import judged
from drivers.modbus.driver import ModbusDriver
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave
from drivers.simulated.slave_server import SlaveServer

MS = 10**6


@pytest.mark.slow
@pytest.mark.parametrize("baud", [9600, 19200])
async def test_the_bus_is_used_well_and_never_slower_than_a_request_a_tag(clock, baud):
    """Against what the cost model says the same plan takes on this line with this turnaround."""
    share, took_s, single_s = await bus_use(clock, baud, 6, 0.8)
    assert share >= 0.8
    assert took_s <= single_s / 2


@pytest.mark.slow
async def test_the_plan_follows_the_measured_turnaround(clock):
    """A slow device makes requests dear, so after a while wider holes are bridged than at first."""
    slave = ScriptedSlave()
    slave.delay_s = lambda: 0.05
    line = MeteredLine(slave.conversation("rtu"), 19200)
    line.plug()
    try:
        points = {"a": {"holding": 0}, "b": {"holding": 25}}
        driver = driver_on(line, 19200, clock, {"meter": {"unit": 1, "every": "10s", "points": points}}, **PATIENT)
        await driver.open()
        for _ in range(18):
            assert (await driver.poll(driver.groups[0])).values == (0, 25)
        await driver.close()
    finally:
        line.unplug()
    quantities = [asked.quantity for asked in slave.asked]
    assert quantities[:4] == [1, 1, 1, 1]
    assert quantities[-1] == 26


@pytest.mark.slow
async def test_seven_units_keep_their_schedule_while_the_eighth_is_dead(tmp_path):
    """None of them waits for the dead one's time-outs; the best of three, since what others do here only adds to it."""
    worst_ms = []
    while len(worst_ms) < 3 and (not worst_ms or min(worst_ms) >= 150):
        folder = tmp_path / str(len(worst_ms))
        folder.mkdir()
        worst_ms.append((await worst_beyond_its_place_ms(folder, 20))[0])
    assert min(worst_ms) < 150


@pytest.mark.slow
async def test_ten_devices_of_a_hundred_registers_over_tcp_miss_no_tick_in_a_minute(tmp_path, clock):
    """By the poller's own count, with the recorder recording; a tick is late when the next one is due."""
    slave = ScriptedSlave()
    servers = [SlaveServer(slave, "tcp") for _ in range(10)]
    began_ns = clock.boot_ns()
    for server in servers:
        await server.start()
    points = {f"r{n}": {"holding": n} for n in range(100)}
    healths, pollers = [], []
    async with Bench(tmp_path / "buffer.db", seal_every_s=1) as bench:
        for number, server in enumerate(servers):
            name = f"d{number}"
            devices = {name: {"unit": 1, "every": "1s", "points": points}}
            link = {"driver": "modbus", "host": server.host, "port": server.port, "devices": devices}
            driver = ModbusDriver(f"link-{number}", judged(ModbusDriver.Settings, link), clock)
            bench.keeper._site.catalogues["main"] = (*bench.keeper._site.catalogues["main"], driver.groups[0].layout)
            health = LinkHealth("modbus", {name: DeviceHealth("main")})
            healths.append(health.devices[name])
            house = House(bench.recorder, bench.clock, random.Random(number))
            pollers.append(asyncio.create_task(Poller(driver, house, health).run()))
        await asyncio.sleep(60.5)
        for task in pollers:
            task.cancel()
        await asyncio.wait(pollers)
    for server in servers:
        await server.stop()
    swallowed = SteadyLoop.running().ticks(1.0, began_ns)
    assert max(health.missed for health in healths) <= swallowed
    assert [health.faults for health in healths] == [0] * 10
    assert min(health.good + health.missed for health in healths) >= 60
    assert swallowed or max(health.late_ns()[99] for health in healths) < 1000 * MS
