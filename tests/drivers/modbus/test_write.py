"""Writing: judged before the wire, carried out by pymodbus's own server, and compared with what is read back."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from buffer.frame import Column, Layout
from config.judge import judged
from config.model import Link
from drivers.api import Driver, Group
from drivers.errors import BadAnswer, LinkDown, NoAnswer, WriteRefused
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.settings import ModbusDevice
from drivers.modbus.write import order

LIMITS = {"min": -1000, "max": 100_000}
POINTS = {
    "setpoint": {"holding": 1, "scale": "0.1", "unit": "degC", "writable": {"min": 5, "max": 80}},
    "signed": {"holding": 2, "type": "int16", "writable": LIMITS},
    "wide": {"holding": 4, "type": "uint32", "writable": LIMITS},
    "swapped": {"holding": 6, "type": "int32", "order": "CDAB", "writable": LIMITS},
    "bytes": {"holding": 8, "type": "uint16", "order": "BADC", "writable": LIMITS},
    "real": {"holding": 10, "type": "float32", "order": "DCBA", "writable": LIMITS},
    "double": {"holding": 12, "type": "float64", "writable": LIMITS},
    "digits": {"holding": 16, "type": "bcd16", "writable": LIMITS},
    "pump": {"coil": 3, "writable": {"min": 0, "max": 1}},
    "read_only": {"holding": 20},
    "half": {"holding": 21, "type": "float16", "writable": {"min": 0, "max": 100_000}},
}


def device(**keys):
    """Make a device of these points."""
    return judged(ModbusDevice, {"unit": 1, "every": "1s", "points": POINTS, **keys})


def ordered(point, value, **keys):
    """Prepare a write."""
    return order("plc", device(**keys), point, Decimal(str(value)))


@pytest.fixture
async def server():
    """Give pymodbus's own server with registers and coils that can be written."""
    registers = [SimData(0, values=[0] * 40, datatype=DataType.REGISTERS)]
    coils = [SimData(0, values=[False] * 32, datatype=DataType.BITS)]
    blocks = (coils, [SimData(0, values=[False] * 16, datatype=DataType.BITS)], registers, registers)
    made = ModbusTcpServer(SimDevice(1, blocks), address=("127.0.0.1", 0))
    await made.serve_forever(background=True)
    yield made.transport.sockets[0].getsockname()[1]
    await made.shutdown()


def driver_of(port, clock, host="127.0.0.1", **keys):
    """Make a driver on a server."""
    plc = {"unit": 1, "every": "1s", "points": POINTS, **keys}
    link = {"driver": "modbus", "host": host, "port": port, "timeout": "1s", "devices": {"plc": plc}}
    return ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)


WRITES = {
    "setpoint": ("21.5", 215),
    "signed": ("-999", -999),
    "wide": ("99999", 99999),
    "swapped": ("-2", -2),
    "bytes": ("513", 513),
    "real": ("1.5", 1.5),
    "double": ("0.1", 0.1),
    "digits": ("1234", 1234),
    "pump": ("1", True),
}


@pytest.mark.parametrize("multiple", [False, True])
async def test_what_is_written_stands_in_another_makes_server(server, clock, multiple):
    """Functions 5, 6 and 16, or 15 and 16 alone; each point in its type and order, read again with the next poll."""
    driver = driver_of(server, clock, write_multiple=multiple)
    await driver.open()
    for point, (value, raw) in WRITES.items():
        assert await driver.write("plc", point, Decimal(value)) == raw
    frame = await driver.poll(driver.groups[0])
    names = [column.name for column in driver.groups[0].layout.columns]
    found = dict(zip(names, frame.values, strict=True))
    await driver.close()
    assert {point: found[point] for point in WRITES} == {point: raw for point, (_, raw) in WRITES.items()}


@pytest.mark.parametrize(
    ("point", "value", "functions"),
    [
        ("pump", 1, ("05", "0f")),
        ("setpoint", 21, ("06", "10")),
        ("wide", 1, ("10", "10")),
    ],
)
def test_the_function_follows_from_the_point_and_the_device(point, value, functions):
    """One cell has a function of its own unless the device knows only those for several."""
    for multiple, function in zip((False, True), functions, strict=True):
        assert ordered(point, value, write_multiple=multiple).pdu[:1].hex() == function


def test_the_bytes_are_those_of_the_specification():
    """Modbus Application Protocol V1.1b3, 6.5, 6.6, 6.11 and 6.12."""
    assert ordered("pump", 1).pdu.hex() == "050003ff00"
    assert ordered("pump", 0).pdu.hex() == "0500030000"
    assert ordered("setpoint", 21).pdu.hex() == "06000100d2"
    assert ordered("pump", 1, write_multiple=True).pdu.hex() == "0f000300010101"
    assert ordered("wide", 66000).pdu.hex() == "10000400020400 0101d0".replace(" ", "")


@pytest.mark.parametrize(
    ("point", "value", "code"),
    [
        ("nothing", 1, "drivers.no-such-point"),
        ("read_only", 1, "drivers.not-writable"),
        ("setpoint", "4.99", "drivers.beyond-limits"),
        ("setpoint", "80.01", "drivers.beyond-limits"),
        ("setpoint", "NaN", "drivers.beyond-limits"),
        ("setpoint", "Infinity", "drivers.beyond-limits"),
        ("wide", "-1", "drivers.beyond-type"),
        ("digits", "10000", "drivers.beyond-type"),
        ("half", "70000", "drivers.beyond-type"),
    ],
)
async def test_what_may_not_be_written_is_refused_before_the_wire(clock, point, value, code):
    """The driver is not even open: a pure check refuses."""
    driver = driver_of(1, clock)
    with pytest.raises(WriteRefused) as caught:
        await driver.write("plc", point, Decimal(value))
    assert caught.value.code == code


async def test_an_unknown_device_is_refused(clock):
    """By its name."""
    with pytest.raises(WriteRefused) as caught:
        await driver_of(1, clock).write("none", "pump", Decimal(1))
    assert caught.value.code == "drivers.no-such-point"


def test_rounding_does_not_carry_a_value_over_its_limit():
    """The raw value nearest to 80.04 would be 80.0, nearest to 79.96 too; nearest to 5.06 of a limit of 5.06 is 5.1."""
    points = {"p": {"holding": 0, "scale": "0.1", "writable": {"min": "5.04", "max": "5.06"}}}
    with pytest.raises(WriteRefused) as caught:
        order("d", device(points=points), "p", Decimal("5.06"))
    assert caught.value.code == "drivers.beyond-type"


@given(st.integers(50, 800))
def test_every_value_within_limits_is_written_as_its_nearest_raw_number(tenths):
    """Exact arithmetic: no float stands between."""
    told = ordered("setpoint", Decimal(tenths) / 10)
    assert told.raw == tenths
    assert struct.unpack(">H", told.pdu[3:])[0] == tenths


async def test_a_device_that_holds_something_else_is_a_bad_answer(slave, clock):
    """Read back after every write."""
    answer = slave.pdu
    slave.pdu = lambda unit, pdu: pdu if pdu[0] == 6 else answer(unit, pdu)
    driver = driver_of(slave.port, clock, slave.host)
    await driver.open()
    with pytest.raises(BadAnswer) as caught:
        await driver.write("plc", "setpoint", Decimal(21))
    await driver.close()
    assert caught.value.code == "modbus.write-unconfirmed"
    assert (caught.value.fields["wrote"], caught.value.fields["found"]) == (210, 1)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (lambda pdu: bytes((pdu[0] | 0x80, 4)), "modbus.write-rejected"),
        (lambda pdu: pdu[:3] + b"\0\0", "modbus.bad-answer"),
    ],
)
async def test_a_write_that_is_refused_or_answered_with_nonsense_is_a_bad_answer(slave, clock, said, error):
    """Nobody may believe that it was done."""
    slave.pdu = lambda _, pdu: said(pdu)
    driver = driver_of(slave.port, clock, slave.host)
    await driver.open()
    with pytest.raises(BadAnswer) as caught:
        await driver.write("plc", "setpoint", Decimal(21))
    await driver.close()
    assert caught.value.code == error


async def test_a_write_that_nobody_answers_is_no_answer_and_a_closed_wire_link_down(slave, clock):
    """As with questions."""
    driver = driver_of(slave.port, clock, slave.host)
    with pytest.raises(LinkDown):
        await driver.write("plc", "setpoint", Decimal(21))
    slave.pdu = lambda _, __: None
    await driver.open()
    with pytest.raises(NoAnswer):
        await driver.write("plc", "setpoint", Decimal(21))
    await driver.close()


async def test_a_write_on_a_serial_line_is_confirmed(slave, rtu):
    """The answer to a write is eight bytes, which nothing in it announces."""
    answer, held = slave.pdu, {}

    def pdu(unit, question):
        if question[0] == 6:
            held[0] = slave.contents[1] = int.from_bytes(question[3:], "big")
            return question
        return answer(unit, question)

    slave.pdu = pdu
    driver = rtu({"setpoint": POINTS["setpoint"]})
    await driver.open()
    assert await driver.write("meter", "setpoint", Decimal("21.5")) == 215
    await driver.close()
    assert held == {0: 215}


async def test_a_driver_that_cannot_write_refuses(clock):
    """The default of the contract; neither does it park or know the load of its wire."""

    class Reader(Driver[Link]):
        async def open(self):
            """Nothing."""

        async def close(self):
            """Nothing."""

    driver = Reader("bus", Link(driver="x", devices={}), clock)
    driver.groups = (Group("d", "main", Layout("bus", "d", "x", 1, (Column("a", "bool"),))),)
    with pytest.raises(WriteRefused) as caught:
        await driver.write("d", "a", Decimal(1))
    assert caught.value.code == "drivers.no-writes"
    assert (driver.parked(), driver.planned_load()) == ((), None)
