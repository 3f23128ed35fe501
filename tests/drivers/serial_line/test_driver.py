"""The driver against a real serial port: a pseudo-terminal whose other end we hold."""

import asyncio
import contextlib
import os

import pytest
from serial_end import ASKED, Clock, driver_of, ended

from buffer import status
from drivers.errors import BadAnswer, LinkDown, NoAnswer


@pytest.fixture
async def asked(wire):
    """An open driver of one instrument that is asked."""
    driver = driver_of(wire.port, scale=ASKED)
    await driver.open()
    yield driver
    await driver.close()


async def poll(driver, wire, *answers, pause_s=0.0):
    """Poll once and give these answers to the question."""

    async def answer():
        assert await wire.heard() == b"?\r\n"
        for data in answers:
            wire.say(data)
            await asyncio.sleep(pause_s)

    answering = asyncio.create_task(answer())
    try:
        return await driver.poll(driver.groups[0])
    finally:
        await answering


async def test_a_question_brings_a_frame(asked, wire):
    """With the time the answer was complete and how long it took."""
    before = Clock().boot_ns()
    frame = await poll(asked, wire, b"ST,12.5\r\n")
    assert (frame.values, frame.statuses) == ((12.5,), None)
    assert before < frame.t_boot_ns <= Clock().boot_ns()
    assert 0 < frame.span_ns <= frame.t_boot_ns - before


async def test_an_answer_may_come_byte_by_byte(asked, wire):
    """The frame is stamped when it is complete."""
    frame = await poll(asked, wire, *(bytes([byte]) for byte in b"ST,7\r\n"), pause_s=0.01)
    assert frame.values == (7.0,)
    assert frame.span_ns >= 50_000_000


async def test_what_the_line_says_of_itself_becomes_the_status(asked, wire):
    """And an implausible value keeps its number."""
    assert (await poll(asked, wire, b"OL,101\r\n")).statuses == (status.BAD_OUT_OF_RANGE,)
    assert (await poll(asked, wire, b"OL,------\r\n")).values == (None,)
    frame = await poll(asked, wire, b"ST,101\r\n")
    assert (frame.values, frame.statuses) == ((101.0,), (status.BAD_OUT_OF_RANGE,))


async def test_what_came_unasked_is_not_the_answer(asked, wire):
    """A line from before the question is forgotten, whether we had read it or not."""
    wire.say(b"ST,1\r\n")
    await asyncio.sleep(0.05)
    wire.say(b"ST,2\r\nST,3")
    assert (await poll(asked, wire, b"ST,4\r\n")).values == (4.0,)


async def test_our_own_echo_is_not_the_answer(asked, wire):
    """A two-wire adapter hears what it sends."""
    assert (await poll(asked, wire, b"?\r\n\r\nST,4\r\n")).values == (4.0,)


async def test_a_line_that_makes_no_sense_is_a_bad_answer(asked, wire):
    """It is counted and shown, and the next poll is a new one."""
    with pytest.raises(BadAnswer) as caught:
        await poll(asked, wire, b"ERR \x1b[31m\xff\r\n")
    assert caught.value.code == "serial.bad-line"
    assert caught.value.fields["line"] == r"ERR \x1b[31m\xff"
    assert asked.unmatched == {"scale": 1}
    assert (await poll(asked, wire, b"ST,4\r\n")).values == (4.0,)


async def test_silence_is_no_answer(asked, wire):
    """After the configured time-out, not before and not long after."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswer):
        await poll(asked, wire)
    assert 0.29 < asyncio.get_running_loop().time() - started < 0.6


async def test_half_a_line_is_a_bad_answer(asked, wire):
    """Something is there, and it is not what it should be."""
    with pytest.raises(BadAnswer) as caught:
        await poll(asked, wire, b"ST,1")
    assert (caught.value.code, caught.value.fields["line"]) == ("serial.half-line", "ST,1")


async def test_an_endless_line_is_a_bad_answer(asked, wire):
    """However much comes, within the time-out."""
    with pytest.raises(BadAnswer):
        await poll(asked, wire, b"x" * 3000)


async def test_a_late_answer_is_not_taken_for_the_next(asked, wire):
    """After silence the line must be quiet for a moment before the next question."""
    with pytest.raises(NoAnswer):
        await poll(asked, wire)

    async def late():
        await asyncio.sleep(0.05)
        wire.say(b"ST,1\r\n")

    _, frame = await asyncio.gather(late(), poll(asked, wire, b"ST,2\r\n"))
    assert frame.values == (2.0,)


async def test_another_instrument_is_not_given_the_late_answer(wire):
    """Whoever is asked next, the line is quiet first."""
    other = {**ASKED, "ask": "b?"}
    driver = driver_of(wire.port, a=ASKED, b=other)
    await driver.open()
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    assert await wire.heard() == b"?\r\n"
    polling = asyncio.create_task(driver.poll(driver.groups[1]))
    await asyncio.sleep(0.03)
    wire.say(b"ST,1\r\n")
    assert await wire.heard() == b"b?"
    wire.say(b"ST,2\r\n")
    assert (await polling).values == (2.0,)
    await driver.close()


async def test_a_line_that_is_never_quiet_cannot_be_asked(asked, wire):
    """No wait is longer than the time-out."""
    with pytest.raises(NoAnswer):
        await poll(asked, wire)

    async def chatter():
        while True:
            wire.say(b"ST,1\r\n")
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(chatter())
    with pytest.raises(BadAnswer) as caught:
        await asked.poll(asked.groups[0])
    assert caught.value.code == "serial.line-never-quiet"
    talking.cancel()


async def test_several_instruments_share_a_port_when_asked(wire):
    """Each group has its own question and pattern."""
    driver = driver_of(
        wire.port, a={**ASKED, "ask": "a?"}, b={**ASKED, "ask": "b?", "line": r"B(?P<s>ST) (?P<v>.*)", "status": None}
    )
    await driver.open()
    for group, question, answer, value in zip(
        driver.groups, (b"a?", b"b?"), (b"ST,1\n", b"BST 2\n"), (1, 2), strict=True
    ):
        asking = asyncio.create_task(driver.poll(group))
        assert await wire.heard() == question
        wire.say(answer)
        assert (await asking).values == (value,)
    await driver.close()


async def test_a_port_that_vanishes_between_polls_is_a_link_that_is_down(asked, wire):
    """At the next question."""
    await poll(asked, wire, b"ST,1\r\n")
    wire.cut()
    with pytest.raises(LinkDown):
        await asked.poll(asked.groups[0])


async def test_a_port_that_vanishes_during_a_poll_is_a_link_that_is_down(asked, wire):
    """At once, not after the time-out."""
    polling = asyncio.create_task(asked.poll(asked.groups[0]))
    await wire.heard()
    wire.cut()
    with pytest.raises(LinkDown):
        await polling


async def test_a_port_in_use_is_a_link_that_is_down(asked, wire):
    """And free again once it is closed; closing twice is nothing."""
    other = driver_of(wire.port, scale=ASKED)
    with pytest.raises(LinkDown) as caught:
        await other.open()
    assert (caught.value.code, caught.value.fields["port"]) == ("serial.port-busy", wire.port)
    await asked.close()
    await asked.close()
    await other.open()
    await other.close()


async def test_opening_again_starts_afresh(asked, wire):
    """After the link was down, or for no reason."""
    await asked.open()
    assert (await poll(asked, wire, b"ST,1\r\n")).values == (1.0,)


async def test_a_port_that_is_not_there_is_a_link_that_is_down(tmp_path):
    """Missing, or no port at all."""
    for path, code in ((tmp_path / "tty", "serial.port-missing"), (tmp_path, "serial.port-failed")):
        with pytest.raises(LinkDown) as caught:
            await driver_of(str(path), scale=ASKED).open()
        assert caught.value.code == code


async def test_a_port_that_was_never_opened_is_a_link_that_is_down(wire):
    """A poller that mixes things up is told, not crashed."""
    driver = driver_of(wire.port, scale=ASKED)
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])
    await driver.close()


async def test_a_port_that_takes_no_more_is_a_bad_answer(asked, wire):
    """Held by its flow control; nothing waits for it."""
    os.set_blocking(wire.slave, False)
    for _ in range(10):  # the kernel moves what it took on to the other side, and then takes more
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(wire.slave, b"x")
        await asyncio.sleep(0.01)
    with pytest.raises(BadAnswer) as caught:
        await asked.poll(asked.groups[0])
    assert caught.value.code == "serial.write-blocked"


async def test_cancelling_a_poll_leaves_the_port_usable(asked, wire):
    """Cancellation may come at any await."""
    polling = asyncio.create_task(asked.poll(asked.groups[0]))
    await wire.heard()
    await ended(polling)
    assert (await poll(asked, wire, b"ST,5\r\n")).values == (5.0,)
