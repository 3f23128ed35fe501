"""Polling over TCP: frames, partial answers, late answers, lost connections."""

import asyncio
import gc
import struct

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from buffer import status
from config.judge import judged
from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.driver import ModbusDriver

HUNDRED = {f"r{n}": {"holding": n} for n in range(100)}


async def polled(driver, times=1):
    """Open, poll the first group some times, close, give the last frame."""
    await driver.open()
    try:
        for _ in range(times):
            frame = await driver.poll(driver.groups[0])
        return frame
    finally:
        await driver.close()


async def test_a_hundred_registers_are_one_question_and_one_good_frame(slave, tcp, clock):
    """The frame holds the raw values in the order of the file, and its time is that of the answer."""
    before_ns = clock.boot_ns()
    frame = await polled(tcp(HUNDRED))
    assert frame.values == tuple(range(100))
    assert frame.statuses is None
    assert slave.questions == [(1, 3, 0, 100)]
    assert before_ns // 1000 * 1000 <= frame.t_boot_ns - frame.span_ns + 1000
    assert frame.t_boot_ns <= clock.boot_ns()
    assert (frame.t_boot_ns % 1000, frame.span_ns % 1000) == (0, 0)
    assert frame.span_ns > 0


async def test_all_tables_are_read_and_come_in_the_order_of_the_file(tcp, slave):
    """Four tables are four questions; values stand where the file put them."""
    points = {
        "holding": {"holding": 7},
        "coil": {"coil": 3},
        "wide": {"input": 5, "type": "uint32"},
        "discrete": {"discrete": 8},
        "low": {"holding": 2},
        "flags": {"holding": 5, "bits": {"zero": 0, "one": 1, "two": 2}},
    }
    frame = await polled(tcp(points))
    assert frame.values == (7, True, (5 << 16) + 6, False, 2, True, False, True)
    assert sorted(function for _, function, _, _ in slave.questions) == [1, 2, 3, 4]


async def test_a_server_of_another_make_is_read(clock):
    """Pymodbus's own server, with values it encoded itself."""
    contents = [
        SimData(0, values=[-3.5, 2.25], datatype=DataType.FLOAT32),
        SimData(4, values=-123456, datatype=DataType.INT32),
    ]
    server = ModbusTcpServer(SimDevice(1, contents), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        points = {"a": {"holding": 0, "type": "float32"}, "b": {"holding": 2, "type": "float32"}}
        points["c"] = {"register": 40005, "type": "int32"}
        devices = {"meter": {"unit": 1, "every": "1s", "points": points}}
        link = {"driver": "modbus", "host": "127.0.0.1", "port": port, "devices": devices}
        frame = await polled(ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock))
        assert frame.values == (-3.5, 2.25, -123456)
    finally:
        await server.shutdown()


async def test_a_refused_request_costs_its_own_points_only(slave, tcp):
    """An illegal address gives its points a status and no value; the others are in the same frame."""
    slave.refused = {500: 2}
    frame = await polled(tcp({"good": {"holding": 0}, "bad": {"holding": 500}, "also": {"input": 3}}))
    assert frame.values == (0, None, 3)
    assert frame.statuses == (status.GOOD, status.BAD_NODE_ID_UNKNOWN, status.GOOD)


@pytest.mark.parametrize(
    ("exception", "code"),
    [
        (1, status.BAD_NOT_SUPPORTED),
        (2, status.BAD_NODE_ID_UNKNOWN),
        (3, status.BAD_CONFIGURATION_ERROR),
        (4, status.BAD_DEVICE_FAILURE),
        (5, status.BAD_WAITING_FOR_INITIAL_DATA),
        (6, status.BAD_WAITING_FOR_INITIAL_DATA),
        (7, status.BAD_NOT_SUPPORTED),
        (8, status.BAD_DEVICE_FAILURE),
        (10, status.BAD_NO_COMMUNICATION),
        (99, status.BAD_COMMUNICATION_ERROR),
    ],
)
async def test_each_exception_becomes_its_status(slave, tcp, exception, code):
    """The table of the README, one by one; a unit that refuses everything still answered."""
    slave.refused = {0: exception}
    frame = await polled(tcp({"a": {"holding": 0}}))
    assert (frame.values, frame.statuses) == ((None,), (code,))


async def test_a_gateway_that_reports_a_silent_target_is_a_silent_target(slave, tcp):
    """Exception 11 is not an answer of the unit."""
    slave.refused = {0: 11}
    with pytest.raises(NoAnswer) as caught:
        await polled(tcp({"a": {"holding": 0}}))
    assert caught.value.code == "modbus.target-silent"


async def test_a_refused_hole_is_not_read_again(slave, tcp):
    """The first poll bridges the hole, is refused and asks for both sides; from the second on only these are asked."""
    slave.refused = {3: 2}
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 6}})
    await driver.open()
    first = await driver.poll(driver.groups[0])
    second = await driver.poll(driver.groups[0])
    await driver.close()
    assert (first.values, first.statuses) == ((0, 6), None)
    assert (second.values, second.statuses) == ((0, 6), None)
    assert slave.questions == [(1, 3, 0, 7), *[(1, 3, 0, 1), (1, 3, 6, 1)] * 2]


async def test_total_silence_is_no_answer_and_costs_one_time_out(slave, tcp):
    """However many requests a group needs, a dead unit is asked once a poll."""
    slave.silent_units = {1}
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 500}, "c": {"input": 0}})
    await driver.open()
    started = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswer) as caught:
        await driver.poll(driver.groups[0])
    assert 0.14 < asyncio.get_running_loop().time() - started < 0.29
    assert len(slave.questions) == 1
    assert caught.value.fields["unit"] == 1
    await driver.close()


async def test_one_silent_request_is_found_out_and_the_rest_delivered(slave, tcp):
    """A unit that is silent on one address: the next poll begins elsewhere, and delivers the others."""
    slave.silent_at = {0}
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 500}, "c": {"input": 7}})
    await driver.open()
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    for _ in range(2):
        frame = await driver.poll(driver.groups[0])
        assert frame.values == (None, 500, 7)
        assert frame.statuses == (status.BAD_TIMEOUT, status.GOOD, status.GOOD)
    await driver.close()


async def test_a_unit_that_dies_within_a_poll_is_asked_twice_more_at_most(slave, tcp):
    """After the second silence the rest of the group is given up."""
    slave.silent_at = {200, 400, 600, 800}
    driver = tcp({f"r{n}": {"holding": n} for n in (0, 200, 400, 600, 800)})
    frame = await polled(driver)
    assert frame.values == (0, None, None, None, None)
    assert frame.statuses == (0, *[status.BAD_TIMEOUT] * 4)
    assert len(slave.questions) == 3


async def test_another_unit_on_the_wire_is_untouched_by_a_dead_one(slave, tcp):
    """Silence concerns its device."""
    slave.silent_units = {2}
    devices = {f"d{unit}": {"unit": unit, "every": "1s", "points": {"a": {"holding": unit}}} for unit in (1, 2, 3)}
    driver = tcp(devices=devices)
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values == (1,)
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[1])
    assert (await driver.poll(driver.groups[2])).values == (3,)
    await driver.close()


async def test_a_late_answer_is_never_given_to_the_next_question(slave, tcp):
    """Both questions have the same shape; the answer to the first arrives while the second waits."""
    devices = {f"d{at}": {"unit": 1, "every": "1s", "points": {"a": {"holding": at}}} for at in (100, 200)}
    driver = tcp(devices=devices)
    await driver.open()
    slave.delays_s = [0.2, 0.1]
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    assert (await driver.poll(driver.groups[1])).values == (200,)
    assert (await driver.poll(driver.groups[0])).values == (100,)
    await driver.close()


async def test_late_answers_in_one_burst_do_not_hide_the_right_one(slave, tcp):
    """Two full-size late answers and the right one arrive together."""
    points = {f"r{n}": {"holding": n} for n in range(125)}
    driver = tcp(points)
    await driver.open()
    slave.delays_s = [0.4, 0.25, 0.1]
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await driver.poll(driver.groups[0])
    assert (await driver.poll(driver.groups[0])).values == tuple(range(125))
    await driver.close()


async def test_half_an_answer_left_on_the_connection_takes_the_link_down(slave, tcp):
    """What follows could not be told apart any more."""
    driver = tcp({"a": {"holding": 0}})
    await driver.open()
    slave.rewrite = lambda adu: adu[:8]
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    assert caught.value.code == "modbus.out-of-step"
    slave.rewrite = lambda adu: adu
    assert (await polled(driver)).values == (0,)


@pytest.mark.parametrize(
    ("what", "rewrite"),
    [
        ("a transaction id of zero", lambda adu: b"\0\0" + adu[2:]),
        ("another function", lambda adu: adu[:7] + b"\x04" + adu[8:]),
        ("a wrong byte count", lambda adu: adu[:8] + b"\x04" + adu[9:]),
        ("too few registers", lambda adu: adu[:4] + b"\0\x04" + adu[6:7] + b"\x03\x01\x07"),
        ("an unknown function", lambda adu: adu[:7] + b"\x65" + adu[8:]),
        ("an exception without a code", lambda adu: adu[:4] + b"\0\x02" + adu[6:7] + b"\x83"),
        ("an exception of another function", lambda adu: adu[:4] + b"\0\x03" + adu[6:7] + b"\x84\x02"),
    ],
)
async def test_nonsense_is_a_bad_answer_and_the_link_stays_open(slave, tcp, what, rewrite):
    """What cannot be an answer is none, and harms nothing after it."""
    driver = tcp({"a": {"holding": 9}})
    await driver.open()
    slave.rewrite = rewrite
    with pytest.raises(BadAnswer):
        await driver.poll(driver.groups[0])
    slave.rewrite = lambda adu: adu
    assert (await driver.poll(driver.groups[0])).values == (9,), what
    await driver.close()


async def test_one_bad_answer_among_good_ones_costs_its_own_points(slave, tcp):
    """The frame comes with a status where nonsense was said."""
    slave.rewrite = lambda adu: adu if adu[8] == 4 else adu[:8] + b"\x09" + adu[9:]
    frame = await polled(tcp({"a": {"holding": 9}, "b": {"input": 3, "type": "uint32"}}))
    assert frame.values == (None, (3 << 16) + 4)
    assert frame.statuses == (status.BAD_COMMUNICATION_ERROR, status.GOOD)


async def test_an_answer_of_another_unit_is_not_taken(slave, tcp):
    """A gateway that mixes its units up leaves the question unanswered."""
    slave.rewrite = lambda adu: adu[:6] + b"\x02" + adu[7:]
    with pytest.raises(NoAnswer):
        await polled(tcp({"a": {"holding": 9}}))


async def test_a_foreign_protocol_takes_the_link_down_at_once(slave, tcp):
    """Bytes that are no MBAP header can never be followed by one that is known to be."""
    slave.rewrite = lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"
    driver = tcp({"a": {"holding": 0}}, timeout="5s")
    await driver.open()
    started = asyncio.get_running_loop().time()
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    assert caught.value.code == "modbus.out-of-step"
    assert asyncio.get_running_loop().time() - started < 1
    await driver.close()


async def test_a_connection_lost_while_waiting_is_link_down_at_once(slave, tcp):
    """Nobody waits for an answer that cannot come."""
    slave.silent_units = {1}
    driver = tcp({"a": {"holding": 0}}, timeout="5s")
    await driver.open()
    asyncio.get_running_loop().call_later(0.05, slave.connections[0].transport.abort)
    started = asyncio.get_running_loop().time()
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    assert asyncio.get_running_loop().time() - started < 1
    assert caught.value.code == "modbus.lost"
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])
    await driver.close()


async def test_a_refused_connection_says_where(clock):
    """The fields name host and port."""
    devices = {"m": {"unit": 1, "every": "1s", "points": {"a": {"holding": 0}}}}
    link = {"driver": "modbus", "host": "127.0.0.1", "port": 1, "devices": devices}
    driver = ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)
    with pytest.raises(LinkDown) as caught:
        await driver.open()
    assert caught.value.code == "modbus.refused"
    assert (caught.value.fields["host"], caught.value.fields["port"]) == ("127.0.0.1", 1)


async def test_an_unknown_host_is_named(clock):
    """A name that nobody resolves is not the same as a machine that does not answer."""
    devices = {"m": {"unit": 1, "every": "1s", "points": {"a": {"holding": 0}}}}
    link = {"driver": "modbus", "host": "no-such-host.invalid", "timeout": "5s", "devices": devices}
    driver = ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)
    with pytest.raises(LinkDown) as caught:
        await driver.open()
    assert caught.value.code in ("modbus.unknown-host", "modbus.unreachable")


async def test_ipv6_is_reached(slave, clock):
    """A host may be an IPv6 address."""
    server = await asyncio.start_server(slave.serve, "::1", 0)
    devices = {"m": {"unit": 1, "every": "1s", "points": {"a": {"holding": 5}}}}
    port = server.sockets[0].getsockname()[1]
    link = {"driver": "modbus", "host": "::1", "port": port, "devices": devices}
    assert (await polled(ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock))).values == (5,)
    server.close()
    await server.wait_closed()


async def test_a_closed_driver_is_link_down(tcp):
    """Asking without opening is no bug of the wire."""
    driver = tcp({"a": {"holding": 0}})
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    assert caught.value.code == "modbus.closed"


async def test_an_implausible_value_and_a_sentinel_are_marked_in_the_frame(slave, tcp):
    """Judging happens in the frame, beside what failed."""
    slave.contents = {0: 400, 1: 0xFFFF}
    slave.refused = {300: 2}
    points = {
        "high": {"holding": 0, "range": [0, 300]},
        "none": {"holding": 1, "nan": 0xFFFF},
        "fine": {"holding": 2},
        "gone": {"holding": 300},
    }
    frame = await polled(tcp(points))
    assert frame.values == (400, None, 2, None)
    assert frame.statuses == (status.BAD_OUT_OF_RANGE, status.BAD_NO_DATA, 0, status.BAD_NODE_ID_UNKNOWN)


async def test_an_order_applies_to_what_failed_too(slave, tcp):
    """With points out of address order, statuses stand beside their own points."""
    slave.refused = {10: 2}
    frame = await polled(tcp({"late": {"holding": 500}, "early": {"holding": 10}}))
    assert frame.values == (500, None)
    assert frame.statuses == (0, status.BAD_NODE_ID_UNKNOWN)


async def test_a_float_in_registers_is_read_as_sent(slave, tcp):
    """A float32 comes back bit for bit."""
    high, low = struct.unpack(">HH", struct.pack(">f", 230.1))
    slave.contents = {10: low, 11: high}
    frame = await polled(tcp({"u": {"input": 10, "type": "float32", "order": "CDAB"}}))
    assert frame.values == struct.unpack(">f", struct.pack(">f", 230.1))


async def test_a_connection_lost_between_polls_is_link_down_and_leaves_nothing_behind(slave, tcp, caplog):
    """Nobody waited when it broke, so nothing may be reported to nobody."""
    driver = tcp({"a": {"holding": 0}})
    await driver.open()
    await driver.poll(driver.groups[0])
    slave.connections[0].transport.abort()
    await asyncio.sleep(0.05)
    with pytest.raises(LinkDown) as caught:
        await driver.poll(driver.groups[0])
    await driver.close()
    gc.collect()
    assert caught.value.code == "modbus.lost"
    assert not caplog.records


async def test_a_dead_unit_never_costs_the_others_their_connection(slave, tcp):
    """However long one unit behind a gateway is silent, the connection is the same."""
    slave.silent_units = {2}
    devices = {f"d{unit}": {"unit": unit, "every": "1s", "points": {"a": {"holding": unit}}} for unit in (1, 2)}
    driver = tcp(devices=devices, timeout="30ms")
    await driver.open()
    for _ in range(8):
        with pytest.raises(NoAnswer):
            await driver.poll(driver.groups[1])
    assert (await driver.poll(driver.groups[0])).values == (1,)
    assert len(slave.connections) == 1
    await driver.close()
