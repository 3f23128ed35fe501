"""What a wire has carried: counted by kind, by device and as a whole, against a line whose bytes take their time."""

import asyncio
import time

import pytest
import wires

from config.judge import judged
from drivers.api import Driver, Figures
from drivers.errors import NoAnswer
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.figures import Count
from drivers.modbus.pace import pace
from drivers.modbus.plan import Request
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave

TEN = Request("holding", 100, 10)


def test_a_driver_that_counts_nothing_shows_nothing():
    """The contract's default."""
    assert Driver.figures(object()) == Figures()


def test_nothing_carried_is_no_load():
    """Before the first opening; and where the pace is unknown there is none."""
    assert (Figures(wires_tally()).load, Figures(wires_tally(), carried_s=0.0).load) == (None, None)
    assert Figures(wires_tally()).held == 0.0
    assert Figures(wires_tally(), open_s=10.0, held_s=4.0, carried_s=2.5).load == 0.25
    assert Figures(wires_tally(), open_s=10.0, held_s=4.0).held == 0.4


def wires_tally():
    """Give the tally of a link that did nothing."""
    return Count().shown()


def test_round_trips_are_kept_up_to_a_bound_and_the_oldest_go():
    """Of three hundred only the last 256 count."""
    count = Count()
    for n in range(300):
        count.answered(float(n))
    assert len(count.trips_s) == 256
    assert count.shown().round_trip_s == (172.0, 287.0, 297.0)
    assert Count().shown().round_trip_s is None


async def test_devices_and_link_are_counted_apart(clock):
    """Two devices, one of them silent: questions, bytes, errors; the counts outlive the connection."""
    slave = ScriptedSlave()
    slave.silent_units = {2}
    slave.refused[500] = 4
    far = wires.SlaveServer(slave, "tcp")
    await far.start()
    points = {"a": {"holding": 0}, "b": {"holding": 500}}
    devices = {f"d{unit}": {"unit": unit, "every": "1s", "points": points} for unit in (1, 2)}
    settings = {"driver": "modbus", "host": far.host, "port": far.port, "timeout": "50ms", "devices": devices}
    driver = ModbusDriver("bus", judged(ModbusDriver.Settings, settings), clock)
    for _ in range(2):
        await driver.open()
        await driver.poll(driver.groups[0])
        with pytest.raises(NoAnswer):
            await driver.poll(driver.groups[1])
        while_open = driver.figures()
        await driver.close()
    await far.stop()
    figures = driver.figures()
    first, second = dict(figures.devices)["d1"], dict(figures.devices)["d2"]
    assert (first.questions, first.answers, first.bytes_out, first.bytes_in) == (4, 4, 48, 2 * (11 + 9))
    assert first.errors == (("exception-4", 2),)
    assert (second.questions, second.answers, second.bytes_in, second.round_trip_s) == (2, 0, 0, None)
    assert second.errors == (("timeout", 2),)
    assert figures.link == while_open.link
    assert (figures.link.questions, figures.link.bytes_in) == (6, first.bytes_in)
    assert figures.link.errors == (("exception-4", 2), ("timeout", 2))
    assert 0.1 < figures.held_s <= figures.open_s
    assert figures.load is None


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
async def test_the_load_of_a_line_is_the_time_its_bytes_take(framing):
    """Against a line of 19200 baud in real time: the figure and the line agree, and the gaps are in it."""
    line = MeteredLine(ScriptedSlave().conversation(framing), 19200)
    line.plug()
    wire = wires.Wire(wires.link(serial={"port": line.port, "baud": 19200}, framing=framing))
    await wire.open()
    for _ in range(5):
        await wire.ask(1, TEN)
    await asyncio.sleep(0.1)
    figures = wire.figures({"d": 1})
    carried = line.carried
    wire.close()
    line.unplug()
    per_question = {"rtu": 8 + 25, "ascii": 17 + 51}[framing]
    assert carried == (5 * (8 if framing == "rtu" else 17), 5 * (25 if framing == "rtu" else 51), 0)
    assert figures.link.bytes_out + figures.link.bytes_in == 5 * per_question
    assert figures.carried_s == pytest.approx(5 * (per_question * 10 + 2 * 35) / 19200)
    assert 5 * per_question * 10 / 19200 <= figures.held_s < figures.open_s - 0.09
    assert figures.load == pytest.approx(figures.carried_s / figures.open_s)
    assert figures.link.round_trip_s[0] >= per_question * 10 / 19200


async def test_a_short_wait_never_cuts_an_answer_that_is_still_on_the_line():
    """At 1200 baud two hundred bytes take two seconds; the unit is known to answer at once, and `timeout` is one."""
    line = MeteredLine(ScriptedSlave().conversation("rtu"), 1200)
    line.plug()
    keys = {"timeout": "500ms", "timeout_min": "20ms"}
    wire = wires.Wire(wires.link(serial={"port": line.port, "baud": 1200}, **keys))
    await wire.open()
    for _ in range(8):
        await wire.ask(1, Request("holding", 0, 1))
    began = time.monotonic()
    assert len((await wire.ask(1, Request("holding", 0, 60))).data) == 120
    assert time.monotonic() - began > 1.1
    wire.close()
    line.unplug()


def test_frames_have_the_lengths_of_the_standards():
    """A PDU of five bytes, as each framing wraps it."""
    assert [pace(None, framing).frame_bytes(5) for framing in ("tcp", "rtu", "ascii")] == [12, 8, 17]
