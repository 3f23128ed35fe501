"""On a line whose bytes take their time: the driver uses what the wire can carry, and the dead slow nobody down."""

import asyncio
import random
import time

import pytest
from rig import Bench

from agent.health import DeviceHealth, LinkHealth
from agent.poller import House, Poller
from drivers.modbus.cost import cost
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.pace import pace
from drivers.modbus.plan import Request
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave
from drivers.simulated.slave_server import SlaveServer

MS = 10**6
TURNAROUND_S = 0.008
SCATTERED = {
    **{f"v{n}": {"holding": n, "type": "float32"} for n in range(0, 24, 2)},
    **{f"near{n}": {"holding": 30 + n} for n in range(4)},
    **{f"far{n}": {"holding": 200 + n} for n in range(6)},
    **{f"alone{n}": {"input": 40 * n} for n in range(3)},
    **{f"run{n}": {"coil": 3 * n} for n in range(10)},
}


def driver_on(line, baud, clock, devices, timeout="1s"):
    """Make a driver on a line."""
    serial = {"port": line.port, "baud": baud}
    link = {"driver": "modbus", "serial": serial, "timeout": timeout, "devices": devices}
    return ModbusDriver("bus", ModbusDriver.Settings.model_validate(link), clock)


async def seconds_a_poll(driver, polls):
    """Give the shortest mean of twenty rounds: what others do on this machine only adds to it."""
    await driver.open()
    try:
        await driver.poll(driver.groups[0])
        rounds = []
        for _ in range(20 if polls > 1 else 2):
            began = time.monotonic()
            for _ in range(polls):
                assert (await driver.poll(driver.groups[0])).statuses is None
            rounds.append((time.monotonic() - began) / polls)
    finally:
        await driver.close()
    return min(rounds)


@pytest.mark.slow
@pytest.mark.parametrize("baud", [9600, 19200])
async def test_the_bus_is_used_to_95_percent_and_never_slower_than_a_request_a_tag(clock, baud):
    """Against what the cost model says the same plan takes on this line with this turnaround."""
    slave = ScriptedSlave()
    slave.delay_s = lambda: TURNAROUND_S
    line = MeteredLine(slave.conversation("rtu"), baud)
    line.plug()
    try:
        meter = {"unit": 1, "every": "10s", "points": SCATTERED}
        planned = driver_on(line, baud, clock, {"meter": meter})
        took_s = await seconds_a_poll(planned, 2)
        single_s = await seconds_a_poll(
            driver_on(line, baud, clock, {"meter": {**meter, "one_point_per_request": True}}), 1
        )
    finally:
        line.unplug()
    price = cost(pace(planned.link.serial, "rtu"), TURNAROUND_S)
    tables = {1: "coil", 3: "holding", 4: "input"}
    state = planned._states["meter", 10**10]
    asked = [part.request for part in state.plan.parts]
    assert {request.table for request in asked} <= set(tables.values())
    possible_s = sum(price.of(request.table, request.quantity) for request in asked)
    assert possible_s / took_s >= 0.95
    assert took_s <= single_s


@pytest.mark.slow
async def test_the_plan_follows_the_measured_turnaround(clock):
    """A slow device makes requests dear, so after a while wider holes are bridged than at first."""
    slave = ScriptedSlave()
    slave.delay_s = lambda: 0.05
    line = MeteredLine(slave.conversation("rtu"), 19200)
    line.plug()
    try:
        points = {"a": {"holding": 0}, "b": {"holding": 25}}
        driver = driver_on(line, 19200, clock, {"meter": {"unit": 1, "every": "10s", "points": points}})
        await driver.open()
        for _ in range(18):
            assert (await driver.poll(driver.groups[0])).values == (0, 25)
        await driver.close()
    finally:
        line.unplug()
    quantities = [asked.quantity for asked in slave.asked]
    assert quantities[:4] == [1, 1, 1, 1]
    assert quantities[-1] == 26


UNITS = 8
REQUEST = Request("holding", 0, 10)


async def lateness_ms(tmp_path, clock, dead, seconds):
    """Poll eight units each half second, as the service does; give every unit's lateness, tick by tick."""
    slave = ScriptedSlave()
    slave.silent_units = set(dead)
    slave.delay_s = lambda: 0.004
    line = MeteredLine(slave.conversation("rtu"), 19200)
    line.plug()
    points = {f"r{n}": {"holding": n} for n in range(10)}
    devices = {f"d{unit}": {"unit": unit, "every": "500ms", "points": points} for unit in range(1, UNITS + 1)}
    driver = driver_on(line, 19200, clock, devices, timeout="150ms")
    health = LinkHealth("modbus", {name: DeviceHealth("main") for name in devices})
    async with Bench(tmp_path / "buffer.db", seal_every_s=60) as bench:
        bench.recorder.add = lambda *_: None
        bench.recorder.event = lambda *_, **__: None
        task = asyncio.create_task(Poller(driver, House(bench.recorder, bench.clock, random.Random(1)), health).run())
        try:
            await asyncio.sleep(seconds)
        finally:
            task.cancel()
            await asyncio.wait([task])
            line.unplug()
    return driver, {name: list(device.lateness_ns) for name, device in health.devices.items()}


def beyond_its_place(lateness):
    """Give the 99th percentile of how much later than usual a unit's ticks were begun."""
    usual = sorted(lateness)[len(lateness) // 2]
    return sorted(late - usual for late in lateness)[int(len(lateness) * 0.99) - 1]


@pytest.mark.slow
async def test_seven_units_keep_their_schedule_while_the_eighth_is_dead(tmp_path, clock):
    """Each is asked at its place in the round; the 99th percentile is less than one request late against that."""
    driver, found = await lateness_ms(tmp_path, clock, {4}, 30)
    request_ns = cost(pace(driver.link.serial, "rtu"), 0.004).of(REQUEST.table, REQUEST.quantity) * 1e9
    settled = {name: lateness[8:] for name, lateness in found.items() if name != "d4"}
    assert all(len(lateness) >= 45 for lateness in settled.values())
    assert {name: beyond_its_place(lateness) < request_ns for name, lateness in settled.items()} == dict.fromkeys(
        settled, True
    )


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_ten_devices_of_a_hundred_registers_over_tcp_miss_no_tick_in_a_minute(tmp_path, clock):
    """By the poller's own count, with the recorder recording; a tick is late when the next one is due."""
    slave = ScriptedSlave()
    servers = [SlaveServer(slave, "tcp") for _ in range(10)]
    for server in servers:
        await server.start()
    points = {f"r{n}": {"holding": n} for n in range(100)}
    healths, pollers = [], []
    async with Bench(tmp_path / "buffer.db", seal_every_s=1) as bench:
        for number, server in enumerate(servers):
            name = f"d{number}"
            devices = {name: {"unit": 1, "every": "1s", "points": points}}
            link = {"driver": "modbus", "host": server.host, "port": server.port, "devices": devices}
            driver = ModbusDriver(f"link-{number}", ModbusDriver.Settings.model_validate(link), clock)
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
    assert [(health.missed, health.faults) for health in healths] == [(0, 0)] * 10
    assert min(health.good for health in healths) >= 60
    assert max(health.late_ns()[99] for health in healths) < 1000 * MS
