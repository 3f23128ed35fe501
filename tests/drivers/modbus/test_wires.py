"""Every wire against every fault: what is taken is the answer, what is not is named, the next question is served."""

import asyncio
import socket
import time

import pytest
import wires
from wires import LINES, WIRES

from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.plan import Request
from drivers.simulated.scripted_slave import ScriptedSlave

TEN = Request("holding", 100, 10)
TEN_DATA = b"".join(n.to_bytes(2, "big") for n in range(100, 110))


def errors(wire, unit=1):
    """Give what was counted of a unit, and of the link beyond it."""
    figures = wire.figures({"d": unit})
    return dict(figures.devices[0][1].errors), dict(figures.link.errors)


@pytest.mark.parametrize("kind", WIRES)
async def test_every_table_is_read_and_written_on_every_wire(kind):
    """Bits and registers, one and the most there may be, and an exception."""
    slave = ScriptedSlave()
    slave.refused[5000] = 2
    async with wires.opened(kind, slave) as (wire, _):
        assert await wire.ask(1, TEN) == (TEN_DATA, 0)
        assert await wire.ask(7, Request("input", 9, 1)) == (b"\x00\x09", 0)
        assert await wire.ask(1, Request("coil", 0, 10)) == (b"\xaa\x02", 0)
        assert len((await wire.ask(1, Request("discrete", 0, 2000))).data) == 250
        assert len((await wire.ask(247, Request("holding", 0, 125))).data) == 250
        assert await wire.ask(1, Request("holding", 4999, 2)) == (b"", 2)
        for question in ("0500080000", "060009ff00", "0f00100003 0105", "1000200002 04aaaabbbb"):
            assert await wire.tell(1, bytes.fromhex(question)) == (b"", 0)
        assert await wire.tell(1, bytes.fromhex("0613880001")) == (b"", 2)
        assert await wire.ask(1, Request("holding", 32, 2)) == (b"\xaa\xaa\xbb\xbb", 0)
    assert errors(wire) == ({"exception-2": 2}, {"exception-2": 2})


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize("fault", ["foreign", "trickle", "noise"])
async def test_what_stands_beside_an_answer_does_not_hide_it(kind, fault):
    """Foreign frames before it, noise before it, bytes that come one at a time."""
    if (kind, fault) == ("tcp", "noise"):
        pytest.skip("a stream of TCP has no noise; bytes that are no header end it")
    slave = ScriptedSlave()
    slave.always = fault
    async with wires.opened(kind, slave) as (wire, _):
        for _ in range(3):
            assert await wire.ask(1, TEN) == (TEN_DATA, 0)
        assert errors(wire)[1] == {"foreign": {"foreign": 3}, "noise": {"noise": 9}, "trickle": {}}[fault]


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize("fault", ["silent", "wrong-unit", "wrong-function", "half"])
async def test_what_is_no_answer_is_silence_in_time_and_harms_nothing_after_it(kind, fault):
    """Whoever answers instead is not heard, and the next question is."""
    slave = ScriptedSlave()
    slave.faults.append(fault)
    async with wires.opened(kind, slave) as (wire, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(BadAnswer if (kind, fault) == ("tcp", "wrong-function") else NoAnswer) as caught:
            await wire.ask(1, TEN)
        assert asyncio.get_running_loop().time() - began < 0.75
        assert caught.value.code in ("modbus.no-answer", "modbus.half-answer", "modbus.bad-answer")
        assert (fault == "half") == (caught.value.code == "modbus.half-answer")
        if (kind, fault) == ("tcp", "half"):
            with pytest.raises(LinkDown):
                await wire.ask(1, TEN)
            await wire.open()
        assert await wire.ask(1, TEN) == (TEN_DATA, 0)


@pytest.mark.parametrize("kind", LINES)
async def test_a_damaged_answer_is_named_and_counted_before_the_time_is_up(kind):
    """CRC and LRC; the line is used again at once."""
    slave = ScriptedSlave()
    slave.faults.extend(["spoilt", "", "spoilt"])
    async with wires.opened(kind, slave, timeout="2s") as (wire, _):
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            with pytest.raises(BadAnswer) as caught:
                await wire.ask(1, TEN)
            assert (caught.value.code, asyncio.get_running_loop().time() - began < 0.5) == (
                "modbus.damaged-answer",
                True,
            )
            assert await wire.ask(1, TEN) == (TEN_DATA, 0)
        assert errors(wire)[0] == {"crc": 2}


@pytest.mark.parametrize("kind", LINES)
async def test_an_adapter_that_hears_itself_is_read_through(kind):
    """The echo is skipped, also where its third byte could be a byte count, and where a write is answered by itself."""
    slave = ScriptedSlave()
    slave.echo = True
    async with wires.opened(kind, slave) as (wire, _):
        for address in (0, 100, 0x1400, 0xFF00 - 10):
            assert len((await wire.ask(1, Request("holding", address, 10))).data) == 20
        slave.delay_s = lambda: 0.02
        assert await wire.tell(1, bytes.fromhex("0600090102")) == (b"", 0)
        slave.delay_s = lambda: 0.0
        assert await wire.ask(1, Request("holding", 9, 1)) == (b"\x01\x02", 0)
        assert errors(wire)[1] == {"echo": 6}


@pytest.mark.parametrize("kind", WIRES)
async def test_a_late_answer_is_given_to_nobody(kind):
    """Same unit, same shape, other registers: the worst that can happen on a line."""
    slave = ScriptedSlave()
    slave.late_s = 0.25
    async with wires.opened(kind, slave, timeout="150ms") as (wire, _):
        assert (await wire.ask(1, TEN)).data == TEN_DATA
        for _ in range(2):
            slave.faults.append("late")
            with pytest.raises(NoAnswer):
                await wire.ask(1, Request("holding", 500, 10))
            assert (await wire.ask(1, TEN)).data == TEN_DATA


@pytest.mark.parametrize("kind", LINES)
async def test_a_late_answer_of_another_length_is_passed_by(kind):
    """While one is owed, a frame of another length is that one; the right one behind it is taken."""
    slave = ScriptedSlave()
    async with wires.opened(kind, slave, timeout="150ms") as (wire, far):
        slave.faults.append("silent")
        with pytest.raises(NoAnswer):
            await wire.ask(1, Request("holding", 500, 3))
        owed = slave.conversation(kind.split("-")[0])._wrap(1, b"\x03\x06\x01\xf4\x01\xf5\x01\xf6", 0)
        slave.delay_s = lambda: 0.08
        asking = asyncio.create_task(wire.ask(1, TEN))
        while len(slave.asked) < 2:
            await asyncio.sleep(0.005)
        far.say(owed)
        assert await asking == (TEN_DATA, 0)


@pytest.mark.parametrize("kind", LINES)
async def test_an_answer_of_another_length_is_no_answer(kind):
    """A unit that gives more or fewer registers than it was asked for cannot be trusted with any."""
    slave = ScriptedSlave()
    async with wires.opened(kind, slave, timeout="1s") as (wire, _):
        slave.answer = lambda unit, pdu: b"\x03\x04\x01\xf4\x01\xf5"
        began = asyncio.get_running_loop().time()
        with pytest.raises(BadAnswer) as caught:
            await wire.ask(1, TEN)
        assert (caught.value.code, asyncio.get_running_loop().time() - began < 0.5) == ("modbus.bad-answer", True)


@pytest.mark.parametrize("kind", LINES)
async def test_what_was_heard_before_a_question_is_thrown_away(kind):
    """An answer that nobody asked for, lying in wait for a question of its shape."""
    slave = ScriptedSlave()
    async with wires.opened(kind, slave) as (wire, far):
        far.say(slave.conversation(kind.split("-")[0])._wrap(1, b"\x03\x14" + bytes(20), 0))
        await asyncio.sleep(0.02)
        assert (await wire.ask(1, TEN)).data == TEN_DATA


async def test_a_flush_sees_what_the_loop_has_not_read_yet():
    """Bytes that arrived while the loop was busy are older than the question."""
    slave = ScriptedSlave()
    for kind in LINES:
        async with wires.opened(kind, slave) as (wire, far):
            assert (await wire.ask(1, TEN)).data == TEN_DATA
            far.say(slave.conversation(kind.split("-")[0])._wrap(1, b"\x03\x14" + bytes(20), 0))
            time.sleep(0.02)
            assert (await wire.ask(1, TEN)).data == TEN_DATA, kind


@pytest.mark.parametrize("kind", WIRES)
async def test_a_dead_unit_does_not_keep_the_others_waiting(kind):
    """The next unit is asked as soon as the time of the dead one is up."""
    slave = ScriptedSlave()
    slave.silent_units = {2}
    async with wires.opened(kind, slave) as (wire, _):
        with pytest.raises(NoAnswer):
            await wire.ask(2, TEN)
        began = asyncio.get_running_loop().time()
        assert (await wire.ask(3, TEN)).data == TEN_DATA
        assert asyncio.get_running_loop().time() - began < 0.3


async def test_a_number_of_zero_is_named():
    """A device that answers every question under transaction 0 cannot be told from a late one."""
    slave = ScriptedSlave()
    async with wires.opened("tcp", slave, timeout="1s") as (wire, far):
        slave.faults.append("silent")
        asking = asyncio.create_task(wire.ask(1, TEN))
        await asyncio.sleep(0.05)
        far.say(slave.conversation("tcp")._wrap(1, b"\x03\x14" + TEN_DATA, 0))
        with pytest.raises(BadAnswer) as caught:
            await asking
        assert caught.value.code == "modbus.transaction-id"
        assert (await wire.ask(1, TEN)).data == TEN_DATA


@pytest.mark.parametrize("kind", ["rtu-over-tcp", "ascii-over-tcp", "tcp"])
async def test_ipv6_and_names_reach_every_connection(kind):
    """Brackets or none."""
    slave = ScriptedSlave()
    framing = kind.split("-")[0]
    for host in ("::1", "[::1]", "localhost"):
        far = wires.SlaveServer(slave, framing, host="localhost" if host == "localhost" else "::1")
        await far.start()
        wire = wires.Wire(wires.link(host=host, port=far.port, framing=framing, timeout="1s"))
        await wire.open()
        assert (await wire.ask(1, TEN)).data == TEN_DATA
        wire.close()
        await far.stop()


async def test_an_ipv6_address_is_shown_in_brackets():
    """An address and a port that run into each other name nothing."""
    with pytest.raises(LinkDown) as caught:
        await wires.Wire(wires.link(host="::1", port=1)).open()
    assert caught.value.fields["wire"] == "[::1]:1"


async def test_a_late_answer_teaches_how_slow_its_unit_is():
    """On TCP it is known whose it was: the next waits have room for it."""
    slave = ScriptedSlave()
    slave.late_s = 0.15
    async with wires.opened("tcp", slave, timeout="400ms", timeout_min="80ms") as (wire, _):
        for _ in range(10):
            await wire.ask(1, TEN)
        slave.faults.append("late")
        with pytest.raises(NoAnswer):
            await wire.ask(1, TEN)
        await asyncio.sleep(0.15)
        await wire.ask(1, TEN)
        slave.faults.append("late")
        assert (await wire.ask(1, TEN)).data == TEN_DATA
        assert errors(wire) == ({"timeout": 1}, {"timeout": 1, "late": 1})


async def test_a_far_end_that_acknowledges_nothing_is_lost_in_time():
    """A half-open connection shows no error by itself; the kernel is told how long to bear it."""
    async with wires.opened("tcp", ScriptedSlave(), timeout="2s") as (wire, _):
        sock = wire._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6000


async def test_an_answer_to_a_question_that_was_cancelled_is_late():
    """Nobody waits for it any more, and the next question has its own."""
    slave = ScriptedSlave()
    slave.delay_s = lambda: 0.05
    async with wires.opened("tcp", slave) as (wire, _):
        asking = asyncio.create_task(wire.ask(1, TEN))
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(0.1)
        assert (await wire.ask(1, TEN)).data == TEN_DATA
        assert errors(wire)[1] == {"late": 1}
