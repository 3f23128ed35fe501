"""Being told: every change, in order, with status and source time, acknowledged only when taken."""

import asyncio
from datetime import UTC, datetime

import pytest

from buffer import status
from drivers.errors import LinkDown

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Listening:
    """Listens to one group of a driver and collects what comes."""

    def __init__(self, driver, number=0):
        self.driver = driver
        self.group = driver.groups[number]
        self.changes = []
        self.batches = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def emit(self, changes):
        """Take a batch, unless held."""
        self.batches += 1
        await self.gate.wait()
        self.changes += changes

    async def until(self, done):
        """Wait until enough has come."""
        async with asyncio.timeout(60):
            while not done(self):
                await asyncio.sleep(0.01)

    async def __aenter__(self):
        """Open and listen."""
        await self.driver.open()
        self.task = asyncio.create_task(self.driver.listen(self.group, self.emit))
        return self

    async def __aexit__(self, *_):
        """Stop listening and close."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.driver.close()


async def test_every_change_is_passed_on_in_order(plant, driver_of):
    """Three hundred writes faster than the publishing interval, none of them lost."""
    points = {"n": {"node": plant.node("Int32"), "type": "int32", "queue": 1000}}
    async with Listening(driver_of(plant.instrument.url, points, subscribe="50ms")) as heard:
        await heard.until(lambda it: it.changes)
        for number in range(300):
            await plant.write("Int32", number)
        await heard.until(lambda it: len(it.changes) >= 301)
    assert [change.value for change in heard.changes[1:]] == list(range(300))
    assert heard.batches < 100
    assert not any(change.historical for change in heard.changes)
    await plant.write("Int32", -70000)


async def test_the_source_time_is_exact(plant, driver_of, clock):
    """Whole microseconds in integers; no time is invented where the source gave none."""
    source = datetime(2026, 3, 4, 5, 6, 7, 123457, tzinfo=UTC)
    points = {"n": {"node": plant.node("Int16"), "type": "int16"}}
    before_ns = clock.boot_ns()
    async with Listening(driver_of(plant.instrument.url, points, subscribe="50ms")) as heard:
        await heard.until(lambda it: it.changes)
        await plant.write("Int16", 1, source=source)
        await plant.write("Int16", 2)
        await heard.until(lambda it: len(it.changes) >= 3)
    assert heard.changes[1].source_ns == 1772600767123457000
    assert heard.changes[2].source_ns is None
    assert all(before_ns - 1000 < change.t_boot_ns <= clock.boot_ns() for change in heard.changes)
    assert all(change.t_boot_ns % 1000 == 0 for change in heard.changes)
    await plant.write("Int16", -5)


@pytest.mark.parametrize("code", [0x40930000, 0x808C0000, 0x00000480])
async def test_the_status_of_a_change_is_kept_to_the_last_bit(plant, driver_of, code):
    """Uncertain, bad, and good with the overflow bit."""
    points = {"n": {"node": plant.node("Byte"), "type": "uint8"}}
    async with Listening(driver_of(plant.instrument.url, points, subscribe="50ms")) as heard:
        await heard.until(lambda it: it.changes)
        await plant.write("Byte", 9, code=code)
        await heard.until(lambda it: len(it.changes) >= 2)
    value = None if status.is_bad(code) else 9  # this server sends no value beside a bad status
    assert (heard.changes[1].value, heard.changes[1].status) == (value, code)
    await plant.write("Byte", 200)


async def test_unknown_nodes_are_one_change_each_and_the_rest_goes_on(plant, driver_of):
    """The status says which, once."""
    points = {
        "gone": {"node": plant.node("Nothing")},
        "good": {"node": plant.node("Double")},
        "elsewhere": {"node": "nsu=urn:elsewhere;s=x"},
    }
    async with Listening(driver_of(plant.instrument.url, points, subscribe="50ms")) as heard:
        await heard.until(lambda it: len(it.changes) >= 3)
    unknown = {change.point for change in heard.changes if change.status == status.BAD_NODE_ID_UNKNOWN}
    assert unknown == {0, 2}
    assert [change.value for change in heard.changes if change.point == 1] == [0.1]


async def test_a_deadband_is_the_servers_to_keep(plant, driver_of):
    """Small moves are not sent."""
    points = {"n": {"node": plant.node("Float"), "deadband": "0.5"}}
    async with Listening(driver_of(plant.instrument.url, points, subscribe="50ms")) as heard:
        await heard.until(lambda it: it.changes)
        for value in (0.6, 0.7, 5.0):
            await plant.write("Float", value)
        await heard.until(lambda it: len(it.changes) >= 2)
    assert heard.changes[-1].value == 5.0
    assert 0.699999988079071 not in [change.value for change in heard.changes]
    await plant.write("Float", 0.5)


async def test_a_notification_is_acknowledged_only_when_it_was_taken(plant, driver_of):
    """While `emit` waits, the server keeps the notification; a listener cut off then never acknowledged it."""
    instrument = plant.instrument
    link = instrument.link(subscribe="50ms")
    driver = driver_of(instrument.url, devices=link["devices"], timeout="2s")
    async with Listening(driver) as heard:
        await heard.until(lambda it: it.changes)
        first = await instrument.write_row()
        await heard.until(lambda it: first in [c.value for c in it.changes if c.point == 0])
        await heard.until(lambda _: instrument.served and instrument.served[-1].serial == first)
        heard.gate.clear()
        batches = heard.batches
        second = await instrument.write_row()
        await heard.until(lambda it: it.batches > batches)
        await asyncio.sleep(0.2)
        assert instrument.served[-1].serial == first
    await asyncio.sleep(0.1)
    assert second not in [served.serial for served in instrument.served]


async def test_a_listener_that_leaves_mid_notification_takes_the_link_down_for_the_others(plant, driver_of):
    """The session asks for nothing more, so the others must be told."""
    points = {"n": {"node": plant.node("Double")}}
    devices = {name: {"subscribe": "50ms", "points": points} for name in ("one", "two")}
    driver = driver_of(plant.instrument.url, devices=devices)
    async with Listening(driver) as heard:
        await heard.until(lambda it: it.changes)
        other = asyncio.create_task(driver.listen(driver.groups[1], heard.emit))
        await heard.until(lambda it: len(it.changes) >= 2)
        heard.gate.clear()
        await plant.write("Double", 0.3)
        await heard.until(lambda it: it.batches >= 3)
        heard.task.cancel()
        heard.gate.set()
        with pytest.raises(LinkDown):
            await asyncio.wait_for(other, 2)
    await plant.write("Double", 0.1)


async def test_an_emit_that_fails_ends_the_listening_with_its_error(plant, driver_of):
    """A bug above is not hidden."""
    driver = driver_of(plant.instrument.url, {"n": {"node": plant.node("Double")}}, subscribe="50ms")

    async def fail(_changes):
        raise RuntimeError("a bug")

    await driver.open()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(driver.listen(driver.groups[0], fail), 60)
    await driver.close()
