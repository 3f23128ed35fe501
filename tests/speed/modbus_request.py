"""What one poll costs the processor: a hundred registers over TCP, beside pymodbus's own exchange of the same question.

`python tests/speed/modbus_request.py [POLLS]` prints microseconds of CPU of this process per poll, for the driver and
for pymodbus's own client, taken in turns so that both see the same machine. The registers are served by a process of
their own. The budget: the driver costs at most 60 us more than pymodbus's exchange.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient

from config.judge import judged
from drivers.modbus.driver import ModbusDriver

REGISTERS = 100
ROUNDS = 8
PLANS: dict[str, dict[str, object]] = {
    "uint16 in a row": {f"r{n}": {"input": n} for n in range(REGISTERS)},
    "float32 CDAB": {f"r{n}": {"input": n, "type": "float32", "order": "CDAB"} for n in range(0, REGISTERS, 2)},
    "float32, ranges": {f"r{n}": {"input": n, "type": "float32", "range": [0, 1]} for n in range(0, REGISTERS, 2)},
}


class Clock:
    """The clock of the kernel."""

    def boot_ns(self) -> int:
        """Give CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def cost_us(ask: Callable[[], Awaitable[object]], times: int) -> float:
    """Give the CPU of this process for one question."""
    began_ns = time.process_time_ns()
    for _ in range(times):
        await ask()
    return (time.process_time_ns() - began_ns) / times / 1000


async def measure(polls: int) -> dict[str, float]:
    """Take turns between the driver's plans and pymodbus."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    server = subprocess.Popen([sys.executable, str(Path(__file__).with_name("registers.py")), str(port)])
    await asyncio.sleep(1)
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    drivers = {}
    try:
        await client.connect()
        asked = {"pymodbus": lambda: client.read_input_registers(0, count=REGISTERS, device_id=1)}
        for name, points in PLANS.items():
            devices = {"meter": {"unit": 1, "every": "1s", "points": points}}
            link = {"driver": "modbus", "host": "127.0.0.1", "port": port, "devices": devices}
            driver = drivers[name] = ModbusDriver("bus", judged(ModbusDriver.Settings, link), Clock())
            await driver.open()
            asked[name] = lambda driver=driver: driver.poll(driver.groups[0])  # type: ignore[misc]
        found: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(ROUNDS):
            for name, ask in asked.items():
                found[name].append(await cost_us(ask, polls // ROUNDS))
    finally:
        for driver in drivers.values():
            await driver.close()
        client.close()
        server.kill()
        server.wait()
    return {name: statistics.median(costs) for name, costs in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("polls", type=int, nargs="?", default=4000)
    costs = asyncio.run(measure(parser.parse_args().polls))
    for name, cost in costs.items():
        print(f"{name:20} {cost:7.1f} us  {cost - costs['pymodbus']:+7.1f} us beside pymodbus")
