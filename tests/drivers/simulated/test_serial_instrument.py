"""The simulated serial instrument: it is exact about what it served, and our driver reads it."""

import asyncio
import itertools
import time

import pytest
from rig import until

from config.judge import judged
from drivers.errors import LinkDown, NoAnswer
from drivers.serial_line.driver import SerialLineDriver
from drivers.serial_line.settings import SerialLineLink
from drivers.simulated.serial_instrument import SerialInstrument

ROWS = [{"level": 0.1 + 0.2, "flow": 12.0}, {"level": None, "flow": 3.5}, {"level": None, "flow": None}]


def boot_ns():
    """Give CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Clock:
    """The driver's clock."""

    def boot_ns(self):
        """Give the time."""
        return boot_ns()


def driver_of(instrument, **more):
    """Make a driver that reads an instrument."""
    points = {"serial": {"type": "uint32"}, "level": {}, "flow": {}}
    device = {"line": instrument.pattern, "points": points, **more}
    device["status"] = {"group": "status", "codes": {"ST": "Good", "OL": "BadOutOfRange"}}
    settings = {
        "driver": "serial",
        "serial": {"port": instrument.port},
        "timeout": "300ms",
        "devices": {"gauge": device},
    }
    return SerialLineDriver("wire", judged(SerialLineLink, settings), Clock())


@pytest.fixture
async def instrument():
    """An instrument that is asked."""
    made = SerialInstrument(ROWS, ("level", "flow"), boot_ns, ask=b"?\r\n")
    await made.start()
    yield made
    await made.stop()


async def test_each_question_is_served_once_and_read_back_exactly(instrument):
    """The running number in the answer is the number in the record."""
    driver = driver_of(instrument, ask="?\r\n", every="1s")
    await driver.open()
    frames = [await driver.poll(driver.groups[0]) for _ in ROWS]
    assert [frame.values for frame in frames] == [(1, 0.1 + 0.2, 12.0), (2, None, 3.5), (3, None, None)]
    assert [served.serial for served in instrument.served] == [1, 2, 3]
    assert all(served.t_boot_ns <= frame.t_boot_ns for served, frame in zip(instrument.served, frames, strict=True))
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    assert len(instrument.served) == 3
    await driver.close()


async def test_a_port_taken_away_is_a_link_that_is_down(instrument):
    """Stopping is pulling the adapter; twice is nothing."""
    driver = driver_of(instrument, ask="?\r\n", every="1s")
    await driver.open()
    await instrument.stop()
    await instrument.stop()
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])
    await driver.close()


async def test_another_reader_goes_on_where_the_first_one_stopped(instrument):
    """A restart of the agent misses and repeats nothing."""
    serials = []
    for _ in range(3):
        driver = driver_of(instrument, ask="?\r\n", every="1s")
        await driver.open()
        serials.append((await driver.poll(driver.groups[0])).values[0])
        await driver.close()
    assert serials == [1, 2, 3]


async def test_speaking_by_itself_it_serves_only_while_somebody_holds_the_port():
    """A line into the void is not served."""
    instrument = SerialInstrument(itertools.cycle(ROWS[:1]), ("level", "flow"), boot_ns, interval_s=0.01)
    await instrument.start()
    await asyncio.sleep(0.1)
    assert instrument.served == []
    driver = driver_of(instrument)
    await driver.open()
    heard = []

    async def emit(changes):
        heard.extend(change.value for change in changes if change.point == 0)

    listening = asyncio.create_task(driver.listen(driver.groups[0], emit))
    await until(lambda: len(heard) > 5)
    listening.cancel()
    await asyncio.wait([listening])
    await driver.close()
    count = len(instrument.served)
    assert len(heard) > 5
    assert heard == list(range(heard[0], heard[0] + len(heard)))
    await asyncio.sleep(0.1)
    assert len(instrument.served) <= count + 1
    await instrument.stop()


async def test_a_reader_that_does_not_read_does_not_block_it():
    """What the port will not take is not counted."""
    instrument = SerialInstrument(itertools.repeat({}), ("level",), boot_ns, ask=b"?")
    await instrument.start()
    for _ in range(100_000):
        instrument._serve()
    assert 0 < len(instrument.served) < 100_000
    await instrument.stop()
