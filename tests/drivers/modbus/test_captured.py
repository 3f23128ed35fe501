"""Questions and answers captured in real plants: every answer is read or refused by name on every wire, none hangs."""

import json
import struct
from pathlib import Path

import pytest
import wires
from wires import WIRES

from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.decode import Field, decoder
from drivers.modbus.plan import Request, Span
from drivers.modbus.wire import Reply
from drivers.simulated.scripted_slave import ScriptedSlave

DATA = Path(__file__).parents[2] / "data"
TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}


def captured(name):
    """Give the captured pairs that have an answer."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [pair for pair in map(json.loads, lines) if pair["rsp"]]


READS, WRITES = captured("modbus_pairs.jsonl"), captured("modbus_writes.jsonl")


def parsed(pair):
    """Give the unit and request of a captured question."""
    adu = bytes.fromhex(pair["req"])
    unit, function, address, quantity = struct.unpack(">BBHH", adu[6:12])
    return unit, Request(TABLES[function], address, quantity)


def kind(request):
    """Give what one cell of a table holds."""
    return "bool" if request.table in ("coil", "discrete") else "uint16"


def answering(pdu):
    """Make a slave that answers every question with one PDU."""
    slave = ScriptedSlave()
    slave.answer = lambda _unit, _question: pdu[0]
    return slave


@pytest.mark.parametrize("wire_kind", WIRES)
async def test_every_captured_answer_belongs_to_its_question_or_is_an_exception(wire_kind):
    """Answers are given back byte for byte, and decode to as many values as were asked for."""
    answer, replies = [b""], 0
    async with wires.opened(wire_kind, answering(answer), timeout="2s") as (wire, _):
        for pair in READS:
            answer[0] = bytes.fromhex(pair["rsp"])[7:]
            unit, request = parsed(pair)
            reply = await wire.ask(unit, request)
            assert isinstance(reply, Reply)
            assert reply == (answer[0][2:], 0) or reply == (b"", answer[0][1])
            if reply.exception:
                continue
            replies += 1
            span = [Span(request.table, request.address + n, 1) for n in range(request.quantity)]
            values = decoder(request, [Field(cell, kind(request)) for cell in span])(reply.data)
            assert len(values) == request.quantity
            if kind(request) == "uint16":
                assert struct.pack(f">{request.quantity}H", *values) == reply.data
    assert replies > 150


@pytest.mark.parametrize("wire_kind", WIRES)
async def test_every_captured_write_is_confirmed(wire_kind):
    """By the first five bytes of its question."""
    answer = [b""]
    async with wires.opened(wire_kind, answering(answer), timeout="2s") as (wire, _):
        for pair in WRITES:
            question, answer[0] = bytes.fromhex(pair["req"]), bytes.fromhex(pair["rsp"])[7:]
            reply = await wire.tell(question[6], question[7:])
            assert reply == (b"", answer[0][1] if answer[0][0] & 0x80 else 0)


@pytest.mark.parametrize("wire_kind", WIRES)
@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("a byte less", lambda pdu: pdu[:-1]),
        ("a byte more", lambda pdu: pdu + b"\0"),
        ("a byte count that lies", lambda pdu: pdu[:1] + bytes((pdu[1] ^ 2,)) + pdu[2:]),
        ("another function", lambda pdu: bytes((pdu[0] ^ 6,)) + pdu[1:]),
        ("an exception of none", lambda pdu: bytes((pdu[0] | 0x80, 0))),
    ],
)
async def test_captured_answers_made_wrong_are_refused_by_name_in_time(wire_kind, what, spoil):
    """Whole frames with valid checksums, but no answers: BadAnswer, or on a line silence where it is nobody's frame."""
    answer = [b""]
    async with wires.opened(wire_kind, answering(answer), timeout="60ms", timeout_min="20ms") as (wire, _):
        for pair in READS[:3] + [pair for pair in READS if pair["fc"] < 3][:3]:
            answer[0] = spoil(bytes.fromhex(pair["rsp"])[7:])
            if wire_kind != "tcp":
                await wire.open()
            with pytest.raises(BadAnswer if wire_kind == "tcp" else (BadAnswer, NoAnswer)):
                await wire.ask(*parsed(pair))


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 9, 10])
async def test_captured_answers_cut_short_are_refused_by_name(cut):
    """Half an answer on a connection: refused in time, and the next connection works."""
    pair = next(pair for pair in READS if pair["fc"] == 4)
    async with wires.opened("tcp", ScriptedSlave(), timeout="80ms") as (wire, far):
        far._slave.faults.append("silent")
        asking = wire.ask(*parsed(pair))
        far.say(bytes.fromhex(pair["rsp"])[:cut])
        with pytest.raises((BadAnswer, NoAnswer, LinkDown)):
            await asking
        await wire.open()
        assert isinstance(await wire.ask(*parsed(pair)), Reply)
