"""The whole response path under arbitrary bytes: an answer, BadAnswer, NoAnswer or LinkDown in time, nothing else."""

import asyncio

import pytest
import wires
from hypothesis import given, settings
from hypothesis import strategies as st
from steady import SteadyLoop

from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.exchange import Exchange
from drivers.modbus.framing import FRAMERS
from drivers.modbus.plan import Request
from drivers.simulated.scripted_slave import ScriptedSlave

ASKED = Request("holding", 107, 3)
ANSWER = bytes.fromhex("0306022b00000064")
TIMEOUT_S = 0.006


class Far(asyncio.Transport):
    """A transport that answers every question with the chunks of a script."""

    def __init__(self, exchange, chunks, ends):
        super().__init__()
        self._exchange, self._chunks, self._ends = exchange, chunks, ends

    def write(self, data):
        """Hear a question."""
        loop = asyncio.get_running_loop()
        for chunk in self._chunks:
            loop.call_soon(self._exchange.data_received, chunk)
        if self._ends:
            loop.call_soon(self._exchange.connection_lost, None)


async def asked(framing, chunks, ends):
    """Ask twice on a wire with a scripted far end; give what came of it and how long it took."""
    wire = wires.Wire(wires.link(host="h", framing=framing, timeout="6ms", timeout_min="1ms"))
    exchange = Exchange(FRAMERS[framing](wire._counts.skipped), wire._quiet.heard if wire._quiet else None)
    exchange.connection_made(Far(exchange, chunks, ends))
    wire._exchange = exchange
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    came, began = [], asyncio.get_running_loop().time()
    for _ in range(2):
        try:
            came.append(await wire.ask(17, ASKED))
        except (BadAnswer, NoAnswer, LinkDown) as error:
            came.append(error)
    assert not complaints
    return came, asyncio.get_running_loop().time() - began


def framed(framing):
    """Give frames of the right and of the wrong, whole and in part."""
    talk = ScriptedSlave().conversation(framing)
    units, numbers = st.sampled_from([17, 17, 18]), st.sampled_from([1, 1, 2, 0, 77])
    pdus = st.sampled_from([ANSWER, ANSWER, ANSWER[:-2], b"\x83\x02", b"\x83\x00", b"\x83", b"\x04" + ANSWER[1:]])
    whole = st.builds(talk._wrap, units, pdus, numbers)
    part = st.builds(lambda frame, a, b: frame[a % len(frame) : b % len(frame)], whole, st.integers(0), st.integers(0))
    return st.one_of(whole, part, st.binary(max_size=40))


@pytest.mark.parametrize("framing", ["tcp", "rtu", "ascii"])
def test_whatever_is_answered_comes_to_one_of_four_ends_in_time(framing):
    """And what is given as data stood on the wire as the answer of that unit."""

    @settings(max_examples=120, deadline=None)
    @given(chunks=st.lists(framed(framing), max_size=6), ends=st.booleans())
    def fuzzed(chunks, ends):
        with asyncio.Runner(loop_factory=SteadyLoop) as runner:
            came, took_s = runner.run(asked(framing, chunks, ends))
        assert took_s < 2 * (3 * TIMEOUT_S) + 0.25
        stream = b"".join(chunks)
        for reply in came:
            if not isinstance(reply, Exception) and reply.data:
                assert len(reply.data) == 6
                inner = b"\x11\x03\x06" + reply.data
                assert (inner.hex().upper().encode() in stream.upper()) if framing == "ascii" else (inner in stream)

    fuzzed()
