"""A metered serial line with Modbus units on it, polled in real time: for tests with wide margins and for measuring."""

import asyncio
import random
import time
from pathlib import Path

from rig import Bench, until

from agent.clock import SystemClock
from agent.health import DeviceHealth, LinkHealth
from agent.poller import House, Poller
from config.judge import judged
from drivers.modbus.cost import cost
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.pace import pace
from drivers.modbus.plan import Request
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave

TURNAROUND_S = 0.008
PATIENT = {"timeout": "30s", "timeout_min": "30s"}
"""Nothing that is late on a busy machine is silence."""
SCATTERED = {
    **{f"v{n}": {"holding": n, "type": "float32"} for n in range(0, 24, 2)},
    **{f"near{n}": {"holding": 30 + n} for n in range(4)},
    **{f"far{n}": {"holding": 200 + n} for n in range(6)},
    **{f"alone{n}": {"input": 40 * n} for n in range(3)},
    **{f"run{n}": {"coil": 3 * n} for n in range(10)},
}


def driver_on(line, baud, clock, devices, **keys):
    """Make a driver on a line."""
    serial = {"port": line.port, "baud": baud}
    link = {"driver": "modbus", "serial": serial, "devices": devices, **keys}
    return ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)


async def seconds_a_poll(driver, polls, rounds, enough=None):
    """Give the shortest mean of many rounds: what others do on this machine only adds to it.

    Where `enough` says how short is short enough, it is tried until one is, at most ten times as often.
    """
    await driver.open()
    try:
        await driver.poll(driver.groups[0])
        took = []
        while len(took) < rounds or (enough and not enough(min(took)) and len(took) < 10 * rounds):
            began = time.monotonic()
            for _ in range(polls):
                assert (await driver.poll(driver.groups[0])).statuses is None
            took.append((time.monotonic() - began) / polls)
    finally:
        await driver.close()
    return min(took)


async def bus_use(clock, baud, rounds, share=None):
    """Poll a scattered meter; give the share of the possible, and seconds a poll as planned and a point at a time.

    It is tried more often until a share is reached, where one is named.
    """
    slave = ScriptedSlave()
    slave.delay_s = lambda: TURNAROUND_S
    line = MeteredLine(slave.conversation("rtu"), baud)
    line.plug()
    try:
        meter = {"unit": 1, "every": "10s", "points": SCATTERED}
        planned = driver_on(line, baud, clock, {"meter": meter}, **PATIENT)
        enough = share and (lambda took_s: possible_s(planned) / took_s >= share)
        took_s = await seconds_a_poll(planned, 2, rounds, enough)
        alone = driver_on(line, baud, clock, {"meter": {**meter, "one_point_per_request": True}}, **PATIENT)
        single_s = await seconds_a_poll(alone, 1, 2)
    finally:
        line.unplug()
    return possible_s(planned) / took_s, took_s, single_s


def possible_s(planned):
    """Give what a poll takes at least, by the cost model and as it is planned."""
    price = cost(pace(planned.link.serial, "rtu"), TURNAROUND_S)
    asked = [part.request for part in planned._states["meter", 10**10].plan.parts]
    return sum(price.of(request.table, request.quantity) for request in asked)


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
            living = [health.devices[f"d{unit}"] for unit in range(1, UNITS + 1) if unit not in dead]
            await until(lambda: min(len(one.lateness_ns) for one in living) >= seconds * 1.5 + 8)
        finally:
            task.cancel()
            await asyncio.wait([task])
            line.unplug()
    return driver, {name: list(device.lateness_ns) for name, device in health.devices.items()}


def beyond_its_place(lateness):
    """Give the 99th percentile of how much later than usual a unit's ticks were begun."""
    usual = sorted(lateness)[len(lateness) // 2]
    return sorted(late - usual for late in lateness)[int(len(lateness) * 0.99) - 1]


async def worst_beyond_its_place_ms(tmp_path: Path, seconds: float):
    """Let one of eight units be dead; give the worst 99th percentile of the seven, and what one request takes."""
    driver, found = await lateness_ms(tmp_path, SystemClock(), {4}, seconds)
    request_ms = cost(pace(driver.link.serial, "rtu"), 0.004).of(REQUEST.table, REQUEST.quantity) * 1e3
    settled = [lateness[8:] for name, lateness in found.items() if name != "d4"]
    assert min(map(len, settled)) >= seconds * 1.5
    return max(map(beyond_its_place, settled)) / 1e6, request_ms
