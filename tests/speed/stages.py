"""The stages by themselves: what each costs a second of the nominal load, and the physical limit beside it.

What is always true here:

- A second is 10 frames of 100 walking 16-bit registers, as the nominal load gives them; a stage gets real input.
- CPU stages are timed as thread CPU; what waits for a disk or a peer (commit, PUBACK) is timed by the clock.
- Nothing is a copy of the product: each stage calls what the service calls.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from speed.history import batches
from speed.pure import PURE, Work
from speed.site import Load, Site, links_of, registers

from agent.broker import Endpoint, Message, connect
from agent.clock import SystemClock
from buffer.block import encode_block
from buffer.seal import Opening, Sealer
from buffer.store import Store
from config.judge import judged
from drivers.modbus.driver import ModbusDriver

LOAD = Load()
READINGS = LOAD.devices * LOAD.registers


class Stage(NamedTuple):
    """One stage: microseconds a call of each round, and how many readings a call carries."""

    name: str
    rounds_us: tuple[float, ...]
    readings: int


def timed(work: Callable[[], object], calls: int, rounds: int, clock: Callable[[], int]) -> tuple[float, ...]:
    """Give microseconds a call, round by round."""
    found = []
    for _ in range(rounds):
        began_ns = clock()
        for _ in range(calls):
            work()
        found.append((clock() - began_ns) / calls / 1000)
    return tuple(found)


def pure(rounds: int, calls: int) -> list[Stage]:
    """Time the stages that touch nothing outside the process."""
    work = Work()
    readings = {"decode": LOAD.registers, "gather": LOAD.registers}
    found = []
    for name in PURE:
        many = calls * (20 if name in readings else 1)
        times = timed(getattr(work, name), many, rounds, time.thread_time_ns)
        found.append(Stage(name, times, readings.get(name, READINGS)))
    return found


def disk(folder: Path, rounds: int, calls: int) -> list[Stage]:
    """Time a durable commit of a second's block, and beside it one bare fdatasync of as many bytes."""
    work = Work()
    sealed = _chain(work, folder, rounds * calls)
    with (folder / "bare").open("wb") as file:

        def sync() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())

        bare = timed(sync, calls, rounds, time.perf_counter_ns)
    return [Stage("commit, durable", tuple(sealed), READINGS), Stage("limit: one fdatasync of 4 kB", bare, READINGS)]


def _chain(work: Work, folder: Path, seals: int) -> list[float]:
    times = []
    with Store.open(folder / "buffer.db", [work.key.public_key]) as store:
        sealer = Sealer("station-1", work.key, store.epoch, 56_000, Opening(bytes(8), "speed", bytes(32), bytes(32)))
        for batch in batches(LOAD, work.layouts, seals, 10**15):
            one = sealer.seal("main", store.heads().get("main"), batch, work.layouts, work.moment)
            began_ns = time.perf_counter_ns()
            store.append([one])
            times.append((time.perf_counter_ns() - began_ns) / 1000)
    chunk = max(1, len(times) // 7)
    return [statistics.median(times[at : at + chunk]) for at in range(0, len(times), chunk)]


async def published(around: Site, rounds: int, calls: int) -> list[Stage]:
    """Time a block's publish: one at a time until its PUBACK, and the CPU of one with a full window."""
    message = Message("speed/block", encode_block(Work().block))
    endpoint = Endpoint("localhost", around.broker.port, "stages", **around.certificate("stages"))
    alone, many = [], []
    async with await connect(endpoint) as session:
        for _ in range(rounds):
            began_ns = time.perf_counter_ns()
            for _ in range(calls):
                await session.publish(message)
            alone.append((time.perf_counter_ns() - began_ns) / calls / 1000)
            began_ns = time.process_time_ns()
            for _ in range(max(1, calls // 32)):
                await asyncio.gather(*(session.publish(message) for _ in range(32)))
            many.append((time.process_time_ns() - began_ns) / (max(1, calls // 32) * 32) / 1000)
    return [
        Stage("publish to PUBACK, one at a time", tuple(alone), READINGS),
        Stage("publish and PUBACK, CPU, 32 in flight", tuple(many), READINGS),
    ]


async def exchange(rounds: int, polls: int) -> list[Stage]:
    """Time a poll of a hundred registers over TCP: the CPU of this process for all that the driver does."""
    name, found = "poll of 100 registers, CPU", []
    with registers(1) as ports:
        link = {**links_of(Load(1), ports)["link-0"], "timeout": "30s"}
        driver = ModbusDriver("link-0", judged(ModbusDriver.Settings, link), SystemClock())
        await driver.open()
        for _ in range(rounds):
            began_ns = time.process_time_ns()
            for _ in range(polls):
                await driver.poll(driver.groups[0])
            found.append((time.process_time_ns() - began_ns) / polls / 1000)
        await driver.close()
    return [Stage(name, tuple(found), LOAD.registers)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for stage in pure(7, 50) + disk(Path(temporary), 7, 50):
            print(f"{stage.name:40} {statistics.median(stage.rounds_us):9.2f} us")
