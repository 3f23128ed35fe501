"""Questions and answers captured in real plants: every answer decodes or is refused by name, and none hangs."""

import json
import struct
from pathlib import Path

import pytest

from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.decode import Field, decoder
from drivers.modbus.plan import Request, Span
from drivers.modbus.settings import ModbusLink
from drivers.modbus.wire import Reply, Wire

TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "modbus_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]


def parsed(pair):
    """Give the unit and request of a captured question."""
    adu = bytes.fromhex(pair["req"])
    unit, function, address, quantity = struct.unpack(">BBHH", adu[6:12])
    return unit, Request(TABLES[function], address, quantity)


def wire_to(slave, timeout="80ms"):
    """Make a wire on the slave's socket."""
    devices = {"d": {"unit": 1, "every": "1s", "points": {"a": {"holding": 0}}}}
    link = {"driver": "modbus", "host": slave.host, "port": slave.port, "timeout": timeout, "devices": devices}
    return Wire(ModbusLink.model_validate(link))


async def test_every_captured_answer_belongs_to_its_question_or_is_refused(slave):
    """Answers are given back byte for byte, under the transaction id of the new question."""
    wire = wire_to(slave)
    await wire.open()
    replies = 0
    for pair in (pair for pair in PAIRS if pair["rsp"]):
        recorded = bytes.fromhex(pair["rsp"])
        slave.rewrite = lambda adu, recorded=recorded: adu[:2] + recorded[2:]
        unit, request = parsed(pair)
        reply = await wire.ask(unit, request)
        assert isinstance(reply, Reply)
        assert reply == (recorded[9:], 0) or reply == (b"", recorded[8])
        replies += not reply.exception
        if not reply.exception:
            fields = [
                Field(Span(request.table, request.address + n, 1), kind(request)) for n in range(request.quantity)
            ]
            values = decoder(request, fields)(reply.data)
            assert len(values) == request.quantity
            if kind(request) == "uint16":
                assert struct.pack(f">{request.quantity}H", *values) == recorded[9:]
    wire.close()
    assert replies > 150


def kind(request):
    """Give what one cell of a table holds."""
    return "bool" if request.table in ("coil", "discrete") else "uint16"


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 9, 10])
async def test_captured_answers_cut_short_are_refused_by_name(slave, cut):
    """Whatever stands where an answer should: it is refused, in time, and the next connection works."""
    pair = next(pair for pair in PAIRS if pair["fc"] == 4 and pair["rsp"])
    recorded = bytes.fromhex(pair["rsp"])
    slave.rewrite = lambda adu: adu[:2] + recorded[2:cut]
    wire = wire_to(slave)
    await wire.open()
    with pytest.raises((BadAnswer, NoAnswer, LinkDown)):
        await wire.ask(*parsed(pair))
    wire.close()
