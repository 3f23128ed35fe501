"""Instruments that speak by themselves on a serial port."""

import asyncio

import pytest
from serial_end import SPEAKING, driver_of, ended

from buffer import status
from config.judge import judged
from config.profile import Profile, shipped
from config.source import parse
from drivers.errors import LinkDown


class Ear:
    """Collects what a driver emits."""

    def __init__(self):
        self.changes = []
        self.news = asyncio.Event()

    async def emit(self, changes):
        """Take changes."""
        self.changes += changes
        self.news.set()

    async def wait(self, count):
        """Wait until so many have come."""
        async with asyncio.timeout(60):
            while len(self.changes) < count:
                self.news.clear()
                await self.news.wait()
        return self.changes


async def listening(driver):
    """Open a driver and listen."""
    await driver.open()
    ear = Ear()
    task = asyncio.create_task(driver.listen(driver.groups[0], ear.emit))
    await asyncio.sleep(0)
    return ear, task


async def test_every_line_spoken_is_passed_on(wire):
    """None dropped, none merged, in order, each with the time it came."""
    driver = driver_of(wire.port, scale=SPEAKING)
    ear, task = await listening(driver)
    wire.say(b"T,99\r\n")
    for number in range(50):
        wire.say(b"ST,%d\r\n" % (number % 3))
        await asyncio.sleep(0.001)
    changes = await ear.wait(50)
    assert [change.value for change in changes] == [number % 3 for number in range(50)]
    assert [change.t_boot_ns for change in changes] == sorted(change.t_boot_ns for change in changes)
    assert {(change.point, change.source_ns, change.status, change.historical) for change in changes} == {
        (0, None, status.GOOD, False)
    }
    await ended(task)
    await driver.close()


async def test_noise_between_lines_is_survived_and_counted(wire):
    """What makes no sense is dropped, what does is kept; blank lines are not noise."""
    driver = driver_of(wire.port, scale=SPEAKING)
    ear, task = await listening(driver)
    wire.say(b"\xff\x00\r\nST,1\r\n\r\n\x80noise\r\n" + b"n" * 2000 + b"\r\nST,2\r\n")
    assert [change.value for change in await ear.wait(2)] == [1.0, 2.0]
    assert driver.unmatched == {"scale": 1}
    await ended(task)
    await driver.close()


async def test_an_instrument_that_falls_silent_is_bad_once(wire):
    """Where the technician said how long silence may be."""
    driver = driver_of(wire.port, scale={**SPEAKING, "silence": "60ms"})
    ear, task = await listening(driver)
    wire.say(b"\nST,1\n")
    changes = await ear.wait(2)
    await asyncio.sleep(0.2)
    assert [(change.value, change.status) for change in changes] == [(1.0, 0), (None, status.BAD_NO_COMMUNICATION)]
    wire.say(b"ST,2\n")
    assert (await ear.wait(3))[2].value == 2.0
    await ended(task)
    await driver.close()


async def test_the_profile_of_cas_reads_the_22_byte_format(wire):
    """The example of the manual: 13.5 kg, stable, gross; then overloaded, net, in tonnes."""
    file = shipped() / "cas" / "continuous.yaml"
    device = judged(Profile, parse(file.read_bytes(), file).value).device
    driver = driver_of(wire.port, scale=device)
    ear, task = await listening(driver)
    lines = [b"ST,GS,1\xc4,000013.5 kg\r\n", b"US,NT,1\x80,-0013.50  t\r\n", b"OL,GS,1\x84,         kg\r\n"]
    assert [len(line) for line in lines] == [22, 22, 22]
    wire.say(b"kg\r\n" + b"".join(lines))
    changes = await ear.wait(9)
    assert [change.value for change in changes] == [13.5, "GS", "kg", -13.5, "NT", " t", None, "GS", "kg"]
    assert [change.status for change in changes[::3]] == [
        status.GOOD,
        status.UNCERTAIN_SENSOR_NOT_ACCURATE,
        status.BAD_OUT_OF_RANGE,
    ]
    await ended(task)
    await driver.close()


async def test_a_port_that_vanishes_is_a_link_that_is_down(wire):
    """While listening, and for whoever asks afterwards; what came before is passed on first."""
    driver = driver_of(wire.port, scale=SPEAKING)
    ear, task = await listening(driver)
    wire.say(b"\nST,1\n")
    await ear.wait(1)
    wire.cut()
    with pytest.raises(LinkDown) as caught:
        await task
    assert caught.value.code == "serial.port-vanished"
    await driver.close()
