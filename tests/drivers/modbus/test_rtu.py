"""Polling over a serial line: a real pseudo-terminal, noise, late answers, an adapter that is pulled."""

import asyncio
import fcntl
import os

import pytest

from drivers.errors import BadAnswer, LinkDown, NoAnswer


async def polled(driver):
    """Open, poll the first group, close."""
    await driver.open()
    try:
        return await driver.poll(driver.groups[0])
    finally:
        await driver.close()


async def test_a_line_is_polled(rtu, slave):
    """The same frames come over RTU."""
    frame = await polled(rtu({"a": {"holding": 7}, "b": {"holding": 8, "type": "uint32"}, "c": {"coil": 1}}))
    assert frame.values == (7, (8 << 16) + 9, True)
    assert slave.questions == [(1, 1, 1, 1), (1, 3, 7, 3)]


async def test_a_late_answer_is_never_given_to_the_next_question(rtu, slave):
    """RTU has no transaction id: after a time-out the next question waits until the late answer went by."""
    devices = {f"d{at}": {"unit": 1, "every": "1s", "points": {"a": {"holding": at}}} for at in (100, 200)}
    driver = rtu(devices=devices)
    await driver.open()
    slave.delays_s = [0.25]
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    assert (await driver.poll(driver.groups[1])).values == (200,)
    assert (await driver.poll(driver.groups[0])).values == (100,)
    await driver.close()


async def test_time_that_passed_since_a_time_out_is_not_waited_for_again(rtu, slave):
    """A line that was quiet meanwhile is ready at once."""
    slave.silent_units = {1}
    devices = {f"d{u}": {"unit": u, "every": "1s", "points": {"a": {"holding": u}}} for u in (1, 2)}
    driver = rtu(devices=devices)
    await driver.open()
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    await asyncio.sleep(0.16)
    started = asyncio.get_running_loop().time()
    assert (await driver.poll(driver.groups[1])).values == (2,)
    assert asyncio.get_running_loop().time() - started < 0.1
    await driver.close()


async def test_noise_before_an_answer_is_skipped(rtu, slave):
    """Bytes that cannot begin the answer awaited are no part of it."""
    slave.rewrite = lambda adu: b"\x00\xff\x37" + adu
    assert (await polled(rtu({"a": {"holding": 7}}))).values == (7,)


async def test_an_answer_of_another_unit_is_not_taken(rtu, slave):
    """Two units with one address, or a foreign master: what was not asked is not read."""
    slave.silent_units = {1}
    slave.rewrite = lambda adu: adu
    driver = rtu({"a": {"holding": 7}})
    await driver.open()
    asyncio.get_running_loop().call_later(0.05, slave.write, bytes.fromhex("0203020007BD86"))
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    await driver.close()


async def test_a_damaged_answer_is_none(rtu, slave):
    """The CRC decides, long before the time-out; the next answer is read again."""
    driver = rtu({"a": {"holding": 7}}, timeout="2s")
    await driver.open()
    slave.rewrite = lambda adu: adu[:-1] + bytes((adu[-1] ^ 1,))
    started = asyncio.get_running_loop().time()
    with pytest.raises(BadAnswer) as caught:
        await driver.poll(driver.groups[0])
    assert caught.value.code == "modbus.damaged-answer"
    assert asyncio.get_running_loop().time() - started < 0.5
    slave.rewrite = lambda adu: adu
    assert (await driver.poll(driver.groups[0])).values == (7,)
    await driver.close()


async def test_an_answer_that_comes_byte_by_byte_is_put_together(rtu, slave):
    """A slow adapter hands bytes over as they arrive."""

    def trickle(adu):
        for i, byte in enumerate(adu):
            asyncio.get_running_loop().call_later(0.003 * (i + 1), slave.write, bytes((byte,)))
        return b""

    slave.rewrite = trickle
    assert (await polled(rtu({"a": {"holding": 7}}))).values == (7,)


async def test_an_exception_is_read_on_a_line(rtu, slave):
    """Five bytes are an answer too."""
    slave.refused = {7: 2}
    frame = await polled(rtu({"a": {"holding": 7}}))
    assert frame.values == (None,)


async def test_a_line_that_is_never_quiet_after_a_time_out_is_no_answer(rtu, slave):
    """A babbling unit must not be mistaken for one that answers."""
    slave.silent_units = {1}
    driver = rtu({"a": {"holding": 7}})
    await driver.open()
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    babble = asyncio.create_task(_babble(slave))
    with pytest.raises(NoAnswer) as caught:
        await driver.poll(driver.groups[0])
    babble.cancel()
    assert caught.value.code == "modbus.line-noisy"
    await driver.close()


async def _babble(slave):
    while True:
        slave.write(b"\x55")
        await asyncio.sleep(0.01)


async def test_a_cancelled_question_leaves_its_answer_to_nobody(rtu, slave):
    """Cancelled while waiting, the late answer must not serve the next question."""
    devices = {f"d{at}": {"unit": 1, "every": "1s", "points": {"a": {"holding": at}}} for at in (100, 200)}
    driver = rtu(devices=devices)
    await driver.open()
    slave.delays_s = [0.08]
    asking = asyncio.create_task(driver.poll(driver.groups[0]))
    await asyncio.sleep(0.03)
    asking.cancel()
    await asyncio.wait([asking])
    assert (await driver.poll(driver.groups[1])).values == (200,)
    await driver.close()


async def test_a_pulled_adapter_is_link_down(rtu, slave):
    """Where the far end is gone, nobody waits for the time-out."""
    slave.silent_units = {1}
    driver = rtu({"a": {"holding": 7}}, timeout="5s")
    await driver.open()
    asyncio.get_running_loop().call_later(0.05, slave.unplug)
    started = asyncio.get_running_loop().time()
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    assert asyncio.get_running_loop().time() - started < 1
    assert caught.value.code == "modbus.lost"
    await driver.close()


async def test_a_port_that_is_not_there_is_named(rtu):
    """The usual mistake of a first commissioning."""
    with pytest.raises(LinkDown) as caught:
        await rtu({"a": {"holding": 7}}, port="/dev/no-such-port").open()
    assert (caught.value.code, caught.value.fields["port"]) == ("modbus.no-port", "/dev/no-such-port")


async def test_a_port_in_use_is_named_and_free_after_closing(rtu, slave):
    """Two masters on one port would hear each other's answers."""
    first, second = rtu({"a": {"holding": 7}}), rtu({"a": {"holding": 7}})
    await first.open()
    with pytest.raises(LinkDown) as caught:
        await second.open()
    assert caught.value.code == "modbus.port-busy"
    await first.close()
    assert (await polled(second)).values == (7,)
    descriptor = os.open(slave.serial_port, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


async def test_a_file_that_is_no_port_is_link_down(rtu, tmp_path):
    """Some other mistake of the port's name."""
    path = tmp_path / "port"
    path.write_text("")
    with pytest.raises(LinkDown) as caught:
        await rtu({"a": {"holding": 7}}, port=str(path)).open()
    assert caught.value.code == "modbus.port-failed"
