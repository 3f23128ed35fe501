"""A USB adapter that vanishes and comes back under the same name, and is another terminal each time."""

import asyncio
import os

import pytest
import wires

from drivers.errors import LinkDown
from drivers.modbus.plan import Request
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave

ONE = Request("holding", 7, 1)


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
async def test_an_adapter_that_comes_back_is_opened_again_by_its_name(tmp_path, framing):
    """LinkDown while asking, LinkDown by name while it is away, and answers when it is back."""
    by_id = tmp_path / "usb-FTDI_A9-if00-port0"
    slave = ScriptedSlave()
    line = MeteredLine(slave.conversation(framing), link_path=by_id)
    line.plug()
    wire = wires.Wire(wires.link(serial={"port": str(by_id)}, framing=framing, timeout="3s"))
    await wire.open()
    for round_ in range(3):
        assert await wire.ask(1, ONE) == (b"\0\7", 0)
        was = by_id.readlink()
        slave.silent_units = {1}
        asking = asyncio.create_task(wire.ask(1, ONE))
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        held = os.open(was, os.O_RDWR | os.O_NOCTTY) if round_ else None
        await asyncio.to_thread(line.unplug)
        with pytest.raises(LinkDown) as lost:
            await asking
        assert (lost.value.code, asyncio.get_running_loop().time() - began < 1) == ("modbus.lost", True)
        with pytest.raises(LinkDown) as away:
            await wire.open()
        assert (away.value.code, away.value.fields["port"]) == ("modbus.no-port", str(by_id))
        with pytest.raises(LinkDown) as closed:
            await wire.ask(1, ONE)
        assert closed.value.code == "modbus.closed"
        slave.silent_units.clear()
        line.plug()
        if held is not None:
            os.close(held)
        await wire.open()
        assert not round_ or by_id.readlink() != was
    assert await wire.ask(1, ONE) == (b"\0\7", 0)
    wire.close()
    line.unplug()


async def test_an_adapter_pulled_between_two_questions_is_found_out_by_the_next(tmp_path):
    """Nobody waits for the time-out."""
    by_id = tmp_path / "adapter"
    line = MeteredLine(ScriptedSlave().conversation("rtu"), link_path=by_id)
    line.plug()
    wire = wires.Wire(wires.link(serial={"port": str(by_id)}, timeout="3s"))
    await wire.open()
    await asyncio.to_thread(line.unplug)
    began = asyncio.get_running_loop().time()
    with pytest.raises(LinkDown) as lost:
        await wire.ask(1, ONE)
    assert (lost.value.code, asyncio.get_running_loop().time() - began < 1) == ("modbus.lost", True)
    wire.close()


async def test_a_port_that_fails_between_looking_and_reading_is_a_link_that_is_down(tmp_path):
    """The flush before a question touches the port too, and the loop has not heard yet that it is gone."""
    line = MeteredLine(ScriptedSlave().conversation("rtu"), link_path=tmp_path / "adapter")
    line.plug()
    wire = wires.Wire(wires.link(serial={"port": line.port}, timeout="1s"))
    await wire.open()
    line.unplug()
    with pytest.raises(LinkDown):
        await wire.ask(1, ONE)
    wire.close()
