"""What a unit refuses is found out, remembered, avoided, and tried again in its time."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer import status
from drivers.modbus.parking import FIRST_RETRY_NS, Parking
from drivers.modbus.plan import Span

GONE = status.BAD_NODE_ID_UNKNOWN
S = 10**9
HUNDRED = {f"r{n}": {"holding": n} for n in range(100)}


class Later:
    """A clock that a test moves on."""

    def __init__(self, clock):
        self.clock = clock
        self.ahead_ns = 0

    def boot_ns(self):
        """Give boot time, and what the test added."""
        return self.clock.boot_ns() + self.ahead_ns


@pytest.fixture
def later(clock, tcp):
    """Give a clock to move on; the drivers of `tcp` go by it."""
    moved = Later(clock)

    def make(points, **device):
        driver = tcp(points, **device)
        driver.clock = moved
        return driver, moved

    return make


async def test_one_missing_register_among_a_hundred_costs_its_own_point_only(slave, tcp):
    """In the same frame, and from the next poll on it is not asked for again."""
    slave.refused = {37: 2}
    driver = tcp(HUNDRED, timeout="5s")
    await driver.open()
    first = await driver.poll(driver.groups[0])
    asked = len(slave.questions)
    second = await driver.poll(driver.groups[0])
    await driver.close()
    for frame in (first, second):
        assert frame.values == tuple(None if n == 37 else n for n in range(100))
        assert frame.statuses == tuple(GONE if n == 37 else 0 for n in range(100))
    assert asked <= 1 + 2 * 7
    assert slave.questions[asked:] == [(1, 3, 0, 37), (1, 3, 38, 62)]


async def test_several_missing_registers_are_all_found_in_one_poll(slave, tcp):
    """Each search is logarithmic."""
    missing = {5, 50, 51, 99}
    slave.refused = dict.fromkeys(missing, 2)
    driver = tcp(HUNDRED, timeout="5s")
    await driver.open()
    frame = await driver.poll(driver.groups[0])
    assert frame.values == tuple(None if n in missing else n for n in range(100))
    slave.questions.clear()
    await driver.poll(driver.groups[0])
    assert [(at, count) for _, _, at, count in slave.questions] == [(0, 5), (6, 44), (52, 47)]
    assert [(parked.address, parked.points) for parked in driver.parked()] == [(n, (f"r{n}",)) for n in sorted(missing)]
    await driver.close()


async def test_a_refused_hole_is_parked_between_its_neighbours(slave, tcp):
    """Both sides answer, so the hole is what is refused; it has no points."""
    slave.refused = {3: 2}
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 6}, "c": {"holding": 8}}, timeout="5s")
    await driver.open()
    assert (await driver.poll(driver.groups[0])).statuses is None
    slave.questions.clear()
    await driver.poll(driver.groups[0])
    await driver.close()
    assert [(at, count) for _, _, at, count in slave.questions] == [(0, 1), (6, 3)]
    (parked,) = driver.parked()
    assert (parked.device, parked.table, parked.address, parked.count) == ("meter", "holding", 1, 5)
    assert (parked.points, parked.reason) == ((), "modbus.parked-address")


async def test_a_device_that_bears_fewer_registers_than_it_was_said_is_asked_for_fewer(slave, tcp):
    """ILLEGAL DATA VALUE for a quantity: the halves answer, so a seam is kept between them."""
    answer = slave.pdu
    slave.pdu = lambda unit, pdu: b"\x83\x03" if pdu[4] > 60 else answer(unit, pdu)
    driver = tcp(HUNDRED, timeout="5s")
    await driver.open()
    for _ in range(2):
        frame = await driver.poll(driver.groups[0])
        assert (frame.values, frame.statuses) == (tuple(range(100)), None)
    slave.questions.clear()
    await driver.poll(driver.groups[0])
    await driver.close()
    assert [(at, count) for _, _, at, count in slave.questions] == [(0, 50), (50, 50)]
    (parked,) = driver.parked()
    assert (parked.address, parked.count, parked.reason) == (50, 0, "modbus.parked-quantity")


async def test_a_search_ends_with_its_time_and_goes_on_in_the_next_poll(slave, tcp):
    """An interval of 60 ms and 25 ms a question: a few questions a poll, and yet the culprit is found."""
    slave.refused = {77: 2}
    driver = tcp(HUNDRED, timeout="1s", every="60ms")
    await driver.open()
    for _ in range(12):
        slave.delays_s = [0.025] * 20
        asked = len(slave.questions)
        frame = await driver.poll(driver.groups[0])
        assert len(slave.questions) - asked <= 8
    await driver.close()
    assert frame.values == tuple(None if n == 77 else n for n in range(100))
    assert [(at, count) for _, _, at, count in slave.questions[asked:]] == [(0, 77), (78, 22)]


async def test_a_parked_point_is_tried_again_after_a_minute_and_comes_back(slave, later):
    """Its first good answer is in the same frame, and then it is one of the others again."""
    slave.refused = {2: 2}
    driver, clock = later({"a": {"holding": 1}, "b": {"holding": 2}, "c": {"holding": 3}})
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values == (1, None, 3)
    clock.ahead_ns += 61 * S
    assert (await driver.poll(driver.groups[0])).values == (1, None, 3)
    assert slave.questions[-1] == (1, 3, 2, 1)
    slave.refused = {}
    clock.ahead_ns += 61 * S
    assert (await driver.poll(driver.groups[0])).values == (1, None, 3)
    clock.ahead_ns += 61 * S
    back = await driver.poll(driver.groups[0])
    assert (back.values, back.statuses) == ((1, 2, 3), None)
    await driver.poll(driver.groups[0])
    assert slave.questions[-1] == (1, 3, 1, 3)
    assert driver.parked() == ()
    await driver.close()


async def test_a_hole_is_tried_again_after_the_configured_interval(slave, later):
    """`retry_parked`; the frame is whole all the while."""
    slave.refused = {3: 2}
    driver, clock = later({"a": {"holding": 0}, "b": {"holding": 6}}, retry_parked="10m", timeout="5s")
    await driver.open()
    await driver.poll(driver.groups[0])
    for wait_s, first in ((300, (1, 3, 0, 1)), (301, (1, 3, 0, 7))):
        clock.ahead_ns += wait_s * S
        asked = len(slave.questions)
        assert (await driver.poll(driver.groups[0])).values == (0, 6)
        assert slave.questions[asked] == first
    await driver.close()


async def test_a_new_driver_knows_nothing_of_what_was_parked(slave, tcp):
    """After a restart everything is tried again."""
    slave.refused = {2: 2}
    points = {"a": {"holding": 1}, "b": {"holding": 2}}
    for _ in range(2):
        driver = tcp(points)
        await driver.open()
        asked = len(slave.questions)
        await driver.poll(driver.groups[0])
        assert slave.questions[asked] == (1, 3, 1, 2)
        await driver.close()


async def test_groups_of_a_device_share_what_is_known_of_it(slave, tcp):
    """A hole that one group found refused is not read by another."""
    slave.refused = {3: 2}
    points = {"a": {"holding": 0}, "b": {"holding": 6}}
    points |= {f"slow_{name}": {**point, "every": "1m"} for name, point in points.items()}
    driver = tcp(points)
    await driver.open()
    await driver.poll(driver.groups[0])
    slave.questions.clear()
    await driver.poll(driver.groups[1])
    await driver.close()
    assert [(at, count) for _, _, at, count in slave.questions] == [(0, 1), (6, 1)]


async def test_a_group_of_which_everything_is_refused_still_asks_whether_the_unit_is_there(slave, tcp):
    """One question a poll; silence is then NoAnswer as ever."""
    slave.refused = dict.fromkeys(range(10), 2)
    driver = tcp({f"r{n}": {"holding": n} for n in range(4)})
    await driver.open()
    for _ in range(2):
        frame = await driver.poll(driver.groups[0])
        assert frame.statuses == (GONE,) * 4
    slave.questions.clear()
    await driver.poll(driver.groups[0])
    assert slave.questions == [(1, 3, 0, 1)]
    slave.refused = {}
    assert (await driver.poll(driver.groups[0])).values == (0, None, None, None)
    await driver.close()


async def test_silence_in_a_search_ends_it(slave, tcp):
    """A unit that falls silent is not asked for every half."""
    slave.refused = {0: 2}
    slave.silent_at = set(range(8, 16))
    answer = slave.pdu

    def pdu(unit, question):
        return b"\x83\x02" if question[4] == 32 else answer(unit, question)

    slave.pdu = pdu
    driver = tcp({f"r{n}": {"holding": n} for n in range(32)}, timeout="60ms", every="10s")
    await driver.open()
    frame = await driver.poll(driver.groups[0])
    await driver.close()
    assert frame.values[16:] == tuple(range(16, 32))
    assert frame.statuses[8:16] == (status.BAD_TIMEOUT,) * 8 or GONE in frame.statuses[:16]


async def test_a_busy_half_is_marked_and_nothing_is_parked_for_it(slave, tcp):
    """Exception 6 says nothing of addresses."""
    slave.refused = {0: 6, 3: 2}
    driver = tcp({f"r{n}": {"holding": n} for n in range(4)}, timeout="5s")
    await driver.open()
    answer = slave.pdu
    slave.pdu = lambda unit, pdu: b"\x83\x02" if pdu[4] == 4 else answer(unit, pdu)
    frame = await driver.poll(driver.groups[0])
    await driver.close()
    busy = status.BAD_WAITING_FOR_INITIAL_DATA
    assert frame.values == (None, None, 2, None)
    assert frame.statuses == (busy, busy, 0, GONE)
    assert [parked.address for parked in driver.parked()] == [3]


async def test_a_pause_between_requests_is_kept(slave, tcp):
    """Between requests of one poll and of two."""
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 500}}, pause="40ms")
    await driver.open()
    began = time.monotonic()
    for _ in range(2):
        await driver.poll(driver.groups[0])
    assert time.monotonic() - began >= 0.119
    await driver.close()


async def test_one_point_per_request_asks_for_each_point_alone(slave, tcp):
    """For devices that know no blocks."""
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 1}, "c": {"holding": 2}}, one_point_per_request=True)
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values == (0, 1, 2)
    await driver.close()
    assert [count for _, _, _, count in slave.questions] == [1, 1, 1]


async def test_a_forbidden_range_is_never_read_along(slave, tcp):
    """Whatever that costs."""
    driver = tcp({"a": {"holding": 0}, "b": {"holding": 4}}, forbidden={"holding": [[2, 2]]})
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values == (0, 4)
    await driver.close()
    assert [(at, count) for _, _, at, count in slave.questions] == [(0, 1), (4, 1)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.sets(st.integers(0, 120), min_size=1, max_size=30), missing=st.sets(st.integers(0, 120), max_size=12))
async def test_whatever_is_missing_every_other_point_is_delivered_in_the_first_frame(slave, tcp, wanted, missing):
    """And after a few polls no question is refused any more but that of a group with nothing else to ask."""
    slave.refused = dict.fromkeys(missing, 2)
    driver = tcp({f"r{n}": {"holding": n} for n in sorted(wanted)}, timeout="30s", every="30s")
    await driver.open()
    expected = tuple(None if n in missing else n for n in sorted(wanted))
    for _ in range(len(missing) + 2):
        assert (await driver.poll(driver.groups[0])).values == expected
    slave.questions.clear()
    await driver.poll(driver.groups[0])
    await driver.close()
    refused = [q for q in slave.questions if missing.intersection(range(q[2], q[2] + q[3]))]
    assert not refused or (wanted <= missing and len(slave.questions) == 1)


def test_retries_double_up_to_the_configured_interval():
    """A minute, two, four, and then every five."""
    parking, span, now_ns = Parking(5 * FIRST_RETRY_NS), Span("input", 3, 2), 0
    for minutes in (1, 2, 4, 5, 5):
        parking.refused(span, 2, now_ns)
        assert parking.next_ns == now_ns + minutes * FIRST_RETRY_NS
        assert parking.due([span], now_ns) is None
        now_ns = parking.next_ns
        assert parking.due([span], now_ns) == span
    assert parking.version == 1


def test_a_split_for_a_search_is_forgotten_after_a_poll_without_refusals():
    """It said nothing of the unit, only that time was short."""
    parking = Parking(S)
    parking.halved(Span("input", 50, 1))
    assert parking.avoid == (Span("input", 50, 0),)
    assert parking.held() == ()
    parking.searched()
    assert parking.avoid == ()


async def test_a_parked_point_that_is_busy_when_tried_again_stays_parked(slave, later):
    """Exception 6 says nothing of its address."""
    slave.refused = {2: 2}
    driver, clock = later({"a": {"holding": 1}, "b": {"holding": 2}})
    await driver.open()
    await driver.poll(driver.groups[0])
    slave.refused = {2: 6}
    clock.ahead_ns += 61 * S
    frame = await driver.poll(driver.groups[0])
    assert (frame.values, frame.statuses) == ((1, None), (0, GONE))
    slave.refused = {}
    assert (await driver.poll(driver.groups[0])).values == (1, 2)
    await driver.close()
