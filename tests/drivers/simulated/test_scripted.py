"""The far end of the Modbus tests is itself held to what it promises: time on the line, and the script."""

import os
import random
import time
from pathlib import Path

import pytest

from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave, captured_delays

TEN = bytes.fromhex("01030000000ac5cd")
MOST = 300
"""How often a busy machine is asked; what others do on it only adds to the shortest time."""


def asked(line, question, size):
    """Put a question on a line and give its answer and the seconds it took."""
    port = os.open(line.port, os.O_RDWR | os.O_NOCTTY)
    try:
        began = time.monotonic()
        os.write(port, question)
        answer = b""
        while len(answer) < size:
            answer += os.read(port, 512)
        return answer, time.monotonic() - began
    finally:
        os.close(port)


@pytest.mark.parametrize("baud", [9600, 19200])
def test_bytes_take_their_time_in_both_directions(baud):
    """Eight bytes there and twenty-five back, at ten bits each."""
    line = MeteredLine(ScriptedSlave().conversation("rtu"), baud)
    line.plug()
    try:
        took_s = []
        while len(took_s) < 3 or (min(took_s) >= 33 * 10 / baud + 0.02 and len(took_s) < MOST):
            answer, one_s = asked(line, TEN, 25)
            assert answer[:5].hex() == "0103140000"
            took_s.append(one_s)
        assert 33 * 10 / baud <= min(took_s) < 33 * 10 / baud + 0.02
        assert line.carried == (8 * len(took_s), 25 * len(took_s), 0)
    finally:
        line.unplug()


def test_two_that_speak_at_once_collide():
    """A master that asks while a late answer is on the line is found out."""
    slave = ScriptedSlave()
    line = MeteredLine(slave.conversation("rtu"), 9600)
    line.plug()
    line.say(b"\x55" * 40)
    time.sleep(0.01)
    asked(line, TEN, 65)
    assert line.carried.collisions == 1
    line.unplug()
    line.unplug()


@pytest.mark.parametrize("framing", ["tcp", "rtu", "ascii"])
def test_a_question_is_understood_byte_by_byte_and_noise_is_none(framing):
    """The slave frames a stream, whatever pieces it comes in."""
    slave = ScriptedSlave()
    talk = slave.conversation(framing)
    question = talk._wrap(1, bytes.fromhex("0300000002"), 7)
    said = [answer for byte in question for answer in talk(bytes((byte,)))]
    assert said == [(0.0, talk._wrap(1, bytes.fromhex("030400000001"), 7))]
    if framing != "tcp":
        assert talk(b"\x00\x99zz\r\n" + question)[-1] == said[0]


def test_what_was_written_is_held():
    """Functions 5, 6, 15 and 16, and the refusal of others."""
    slave = ScriptedSlave()
    assert slave.answer(1, bytes.fromhex("0500080000")) == bytes.fromhex("0500080000")
    assert slave.answer(1, bytes.fromhex("0600090102")) == bytes.fromhex("0600090102")
    assert slave.answer(1, bytes.fromhex("0f0010000301 05")) == bytes.fromhex("0f00100003")
    assert slave.answer(1, bytes.fromhex("100020000204aaaabbbb")) == bytes.fromhex("1000200002")
    assert slave.held == {8: 0, 9: 0x0102, 16: 1, 17: 0, 18: 1, 32: 0xAAAA, 33: 0xBBBB}
    assert slave.answer(1, bytes.fromhex("2b00000000")) == bytes.fromhex("ab01")
    assert slave.answer(1, bytes.fromhex("07")) == bytes.fromhex("8701")


def test_delays_come_from_the_captured_round_trips(data: Path):
    """As slow and as uneven as real links."""
    draw = captured_delays(data / "modbus_pairs.jsonl", random.Random(1))
    delays = sorted(draw() for _ in range(2000))
    assert 0.03 < delays[1000] < 0.08
    assert delays[-1] > 0.2
