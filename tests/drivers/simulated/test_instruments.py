"""Instruments are real servers that count exactly what they served, and survive their clients."""

import asyncio
import contextlib
import json
import signal
import struct
import sys
import textwrap

import pytest
from rig import until

from buffer import status
from config.judge import judged
from drivers.modbus.driver import ModbusDriver
from drivers.opcua.driver import OpcUaDriver
from drivers.simulated.modbus_bank import Bank
from drivers.simulated.modbus_rtu import PUMP, ModbusRtuInstrument, crc16, framed
from drivers.simulated.modbus_tcp import PLANT, ModbusTcpInstrument
from drivers.simulated.opcua_server import OpcUaInstrument

CLIENT = textwrap.dedent("""
    import asyncio, json, sys, time
    from importlib.metadata import entry_points
    from config.judge import judged

    class Clock:
        def boot_ns(self):
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def emit(changes):
        for change in changes:
            if change.point == 0:
                print(change.value, flush=True)

    async def main(link):
        made = entry_points(group="trambien.drivers")[link["driver"]].load()
        driver = made("bus", judged(made.Settings, link), Clock())
        await driver.open()
        (group,) = driver.groups
        if group.layout.every_ns is None:
            await driver.listen(group, emit)
        while True:
            print((await driver.poll(group)).values[0], flush=True)
            await asyncio.sleep(0.005)

    asyncio.run(main(json.loads(sys.argv[1])))
""")


async def client_killed_after(link, readings):
    """Run a client as a process of its own, kill it after some readings, give the serials it had read."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, json.dumps(link), stdout=asyncio.subprocess.PIPE
    )
    lines = [await asyncio.wait_for(process.stdout.readline(), 60) for _ in range(readings)]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines()
    await process.wait()
    return [int(line) for line in lines]


@pytest.fixture(params=["tcp", "rtu"])
async def instrument(request, wwtp, skab):
    """Give a running Modbus instrument, one of each kind."""
    made = ModbusTcpInstrument(wwtp) if request.param == "tcp" else ModbusRtuInstrument(skab)
    await made.start()
    yield made
    await made.stop()


def driver_of(link, clock):
    """Make the driver of a link."""
    return ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)


async def test_what_is_read_is_the_recording_row_by_row(instrument, clock):
    """Answer n carries number n and row n, in the units and scales that `link` says."""
    driver = driver_of(instrument.link(), clock)
    await driver.open()
    group = driver.groups[0]
    columns = group.layout.columns[1:]
    recording = instrument.bank.channels
    rows = instrument_rows(instrument)
    for number in range(1, 200):
        frame = await driver.poll(group)
        assert frame.values[0] == number
        row = rows(number)
        for i, (channel, column) in enumerate(zip(recording, columns, strict=True), start=1):
            expected, scale = row[channel.column], float(column.scale or 1)
            if expected is None:
                assert (frame.values[i], frame.statuses[i]) == (None, status.BAD_NO_DATA)
            else:
                assert frame.values[i] * scale == pytest.approx(expected, abs=scale, rel=1e-6) or saturated(frame, i)
    await driver.close()
    assert [served.serial for served in instrument.served] == list(range(1, 200))


def saturated(frame, i):
    """Say whether a value stands at the end of a 16-bit register's range."""
    return frame.values[i] in (0, 65534)


def instrument_rows(instrument):
    """Give the row of the recording that an answer carries, by column."""
    recording = instrument.recording
    return lambda number: dict(zip(recording.names, recording.row(number), strict=True))


async def test_one_poll_is_one_answer(instrument, clock):
    """All registers are read in one question, so every answer has its number."""
    driver = driver_of(instrument.link(), clock)
    await driver.open()
    for number in range(1, 6):
        assert (await driver.poll(driver.groups[0])).values[0] == number
        assert len(instrument.served) == number
    await driver.close()


async def test_an_instrument_survives_a_killed_client_and_counts_what_it_served(instrument):
    """Everything the client read was served; what was served and not read is at most the answer on its way."""
    link = instrument.link()
    first = await client_killed_after(link, 20)
    second = await client_killed_after(link, 20)
    served = [served.serial for served in instrument.served]
    assert served == sorted(set(served))
    assert set(first) | set(second) <= set(served)
    assert len(set(served) - set(first) - set(second)) <= 2
    assert second[0] > first[-1]
    times = [served.t_boot_ns for served in instrument.served]
    assert times == sorted(times)


async def test_an_instrument_can_be_stopped_and_started_again(wwtp, clock):
    """On the same port; the counter goes on."""
    instrument = ModbusTcpInstrument(wwtp)
    await instrument.start()
    driver = driver_of(instrument.link(), clock)
    await driver.open()
    await driver.poll(driver.groups[0])
    await instrument.stop()
    await instrument.stop()
    await driver.close()
    await instrument.start()
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values[0] == 2
    await driver.close()
    await instrument.stop()


async def test_a_terminal_has_a_stable_name_where_one_is_given(skab, tmp_path, clock):
    """Like /dev/serial/by-id, it outlives the number of the terminal."""
    instrument = ModbusRtuInstrument(skab, link_path=tmp_path / "port")
    for number in (1, 2):
        await instrument.start()
        assert instrument.port == str(tmp_path / "port")
        driver = driver_of(instrument.link(), clock)
        await driver.open()
        assert (await driver.poll(driver.groups[0])).values[0] == number
        await driver.close()
        await instrument.stop()
    await instrument.stop()
    assert not (tmp_path / "port").exists()


def asked(bank, unit=1, function=4, address=0, quantity=2):
    """Ask a bank."""
    return bank.answer(unit, struct.pack(">BHH", function, address, quantity))


def test_only_an_answer_that_carries_the_number_is_counted(wwtp):
    """A question beside it repeats the row before and is no answer of its own."""
    bank = Bank(wwtp, PLANT, 1, "input")
    assert asked(bank).serial == 1
    assert asked(bank, address=2).serial is None
    assert asked(bank, quantity=1).serial is None
    assert asked(bank).serial == 2


def test_a_bank_refuses_as_the_standard_says(wwtp):
    """Function, quantity and address, in this order; another unit is silent."""
    bank = Bank(wwtp, PLANT, 1, "input")
    assert asked(bank, unit=2) is None
    assert asked(bank, function=6).pdu == bytes.fromhex("8601")
    assert bank.answer(1, b"\x04\x00").pdu == bytes.fromhex("8403")
    assert asked(bank, quantity=0).pdu == bytes.fromhex("8403")
    assert asked(bank, quantity=126).pdu == bytes.fromhex("8403")
    assert asked(bank, address=bank.registers - 1).pdu == bytes.fromhex("8402")
    assert bank.serial == 0


async def test_a_line_answers_what_is_meant_for_it_and_nothing_else(skab):
    """Noise, a wrong CRC and other units draw no answer and are not counted; the next question does."""
    instrument = ModbusRtuInstrument(skab)
    await instrument.start()
    answers = bytearray()
    reading = asyncio.get_running_loop()
    with open(instrument.port, "r+b", buffering=0) as line:  # noqa: PTH123 - a terminal
        reading.add_reader(line, lambda: answers.extend(line.read(256)))
        good = framed(1, struct.pack(">BHH", 3, 0, 2))
        line.write(b"\x00\x01\x03" + good[:-1] + bytes((good[-1] ^ 1,)))
        line.write(framed(2, struct.pack(">BHH", 3, 0, 2)))
        await asyncio.sleep(0.05)
        assert not answers
        line.write(b"\x55" + good)
        await until(lambda: len(answers) >= 9)
        assert answers[:3] == bytes.fromhex("010304")
        assert crc16(answers) == 0
        line.write(good[:3])
        await asyncio.sleep(0.3)
        line.write(good)
        await until(lambda: len(answers) >= 18)
        reading.remove_reader(line)
    await instrument.stop()
    assert [served.serial for served in instrument.served] == [1, 2]


async def test_a_foreign_protocol_is_hung_up_on(wwtp):
    """What is no MBAP header is no Modbus."""
    instrument = ModbusTcpInstrument(wwtp)
    await instrument.start()
    reader, writer = await asyncio.open_connection(instrument.host, instrument.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert reader.at_eof() or reader.exception()
    writer.close()
    await instrument.stop()


async def test_questions_may_arrive_in_pieces_and_together(wwtp):
    """Two in one segment and a third in two draw three answers; a refusal is an answer, and is not counted."""
    instrument = ModbusTcpInstrument(wwtp)
    await instrument.start()
    reader, writer = await asyncio.open_connection(instrument.host, instrument.port)
    question = struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 0, 2)
    another_unit = struct.pack(">HHHBBHH", 8, 0, 6, 2, 4, 0, 2)
    writer.write(question + another_unit + question + question[:9])
    await asyncio.sleep(0.05)
    writer.write(question[9:])
    answers = [await reader.readexactly(13) for _ in range(3)]
    assert [struct.unpack(">I", answer[9:])[0] for answer in answers] == [1, 2, 3]
    writer.write(struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 0, 2))
    assert (await reader.readexactly(9))[7:] == bytes.fromhex("8301")
    assert [served.serial for served in instrument.served] == [1, 2, 3]
    writer.close()
    await instrument.stop()


def test_missing_values_have_a_pattern_of_their_own():
    """No measured value is ever encoded as the sentinel."""
    signed = next(channel for channel in PUMP if channel.kind == "int16")
    unsigned = next(channel for channel in PUMP if channel.kind == "uint16")
    assert signed.pack(None) == b"\x80\x00"
    assert unsigned.pack(None) == b"\xff\xff"
    assert signed.pack(-1e9) == b"\x80\x01"
    assert unsigned.pack(1e9) == b"\xff\xfe"


async def test_an_opcua_instrument_counts_what_was_acknowledged_and_nothing_else(skab):
    """A killed client had read every serial that stands in `served`, and perhaps one notification more."""
    instrument = OpcUaInstrument(skab, period_s=0.02)
    await instrument.start()
    link = instrument.link(subscribe="50ms")
    first = await client_killed_after(link, 30)
    served_first = {served.serial for served in instrument.served}
    second = await client_killed_after(link, 30)
    await instrument.stop()
    served = [served.serial for served in instrument.served]
    assert len(served) == len(set(served))
    assert served_first <= set(first)
    assert set(served) <= set(first) | set(second)
    assert len(served) >= 20
    assert instrument.serial >= max(second)
    await instrument.stop()


async def test_an_opcua_instrument_marks_what_the_recording_misses(skab, clock):
    """A row of None is a row of bad statuses."""
    recording = skab._replace(rows=((None,) * len(skab.names),))
    instrument = OpcUaInstrument(recording, period_s=None)
    await instrument.start()
    await instrument.write_row()
    link = instrument.link()
    device = link["devices"]["line"]
    del device["subscribe"]
    device["every"] = "1s"
    driver = OpcUaDriver("plc", judged(OpcUaDriver.Settings, link), clock)
    await driver.open()
    frame = await driver.poll(driver.groups[0])
    await driver.close()
    await instrument.stop()
    assert frame.values[0] == 1
    assert set(frame.statuses[1:]) == {status.BAD_SENSOR_FAILURE}
