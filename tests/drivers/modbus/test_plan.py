"""The plan covers every point for the least time on the wire, and no request is larger than the device bears."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.judge import judged
from config.model import Serial
from drivers.modbus.cost import cost
from drivers.modbus.groups import readings
from drivers.modbus.pace import pace
from drivers.modbus.plan import Limits, Request, Span, covers, plan, total_s
from drivers.modbus.settings import ModbusLink

BITS = ("coil", "discrete")


def line(baud, turnaround_s=None):
    """Give what requests cost on a serial line."""
    return cost(pace(judged(Serial, {"port": "/dev/ttyS0", "baud": baud}), "rtu"), turnaround_s)


NETWORK = cost(pace(None, "tcp"), 0.08)
SLOW = line(9600)
costs = st.sampled_from([NETWORK, SLOW, line(115200), line(9600, 0.2)])
tables = st.sampled_from(["input", "holding", "coil", "discrete"])
avoids = st.lists(
    st.builds(Span, tables, st.integers(0, 600), st.integers(0, 9)),
    max_size=6,
).map(tuple)
limits = st.builds(
    Limits, st.integers(4, 125), st.integers(1, 2000), st.none() | st.integers(0, 20), st.booleans(), avoids
)
spans = st.lists(
    st.builds(Span, st.sampled_from(["input", "holding"]), st.integers(0, 600), st.sampled_from([1, 2, 4]))
    | st.builds(Span, st.sampled_from(BITS), st.integers(0, 600), st.just(1)),
    min_size=1,
    max_size=60,
)


def allowed(wanted, most):
    """Leave out what stands in forbidden cells: that is a fault of the configuration, or parked."""
    return [span for span in wanted if not any(overlap(span, avoid) for avoid in most.avoid)] or [Span("input", 900, 1)]


def overlap(one, other):
    """Say whether two spans share a cell."""
    return one.table == other.table and one.address < other.end and other.address < one.end


@given(spans, limits, costs)
def test_every_point_lies_whole_in_a_request(wanted, most, price):
    """Nothing that was asked for is left out or torn apart."""
    requests = plan(wanted, most, price)
    assert all(any(covers(request, span) for request in requests) for span in wanted)


@given(spans, limits, costs)
def test_a_point_is_read_once_unless_points_overlap(wanted, most, price):
    """No cell that only one point wants is asked for twice."""
    requests = plan(wanted, most, price)
    for span in wanted:
        if not any(overlap(span, other) for other in wanted if other != span):
            assert sum(covers(request, span) for request in requests) == 1


@given(spans, limits, costs)
def test_no_request_is_longer_than_the_device_bears(wanted, most, price):
    """The limits of the device hold for each request."""
    for request in plan(wanted, most, price):
        assert 1 <= request.quantity <= most.longest(request.table)


@given(spans, limits, costs)
def test_nothing_forbidden_is_read_and_no_seam_is_crossed(wanted, most, price):
    """Not even as a hole between two points."""
    for request in plan(allowed(wanted, most), most, price):
        for avoid in most.avoid:
            if avoid.width:
                assert not overlap(Span(*request[:3]), avoid)
            elif request.table == avoid.table and not most.one_point_per_request:
                inside = [span for span in allowed(wanted, most) if covers(request, span)]
                crossed = any(one.address < avoid.address < one.end for one in inside)
                assert crossed or not request.address < avoid.address < request.address + request.quantity


@given(spans, limits, costs)
def test_no_plan_costs_more_than_a_request_for_each_point(wanted, most, price):
    """The worst master asks for one tag at a time."""
    singles = [Request(*span) for span in set(wanted)]
    assert total_s(plan(wanted, most, price), price) <= total_s(singles, price) + 1e-9


def cheapest(wanted, most, price):
    """Try every way to cut spans that do not overlap, and give the least cost."""
    if not wanted:
        return 0.0
    best = float("inf")
    for count in range(1, len(wanted) + 1):
        mine = wanted[:count]
        request = Request(mine[0].table, mine[0].address, mine[-1].end - mine[0].address)
        holes = [other.address - one.end for one, other in pairwise(mine)]
        if request.quantity > most.longest(request.table) or max(holes, default=0) > most.widest_hole(request.table):
            break
        best = min(best, price.of(request.table, request.quantity) + cheapest(wanted[count:], most, price))
    return best


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 4])), min_size=1, max_size=11),
    st.integers(4, 60),
    st.none() | st.integers(0, 20),
    costs,
)
def test_no_plan_of_registers_costs_less(steps, longest, bridge, price):
    """Compared with every way to cut there is."""
    wanted, at = [], 0
    for hole, width in steps:
        wanted.append(Span("holding", at + hole, width))
        at += hole + width
    most = Limits(max_registers=longest, bridge=bridge)
    assert total_s(plan(wanted, most, price), price) == pytest.approx(cheapest(wanted, most, price))


@given(spans, limits, costs)
def test_holes_are_bridged_only_as_far_as_allowed_and_are_named(wanted, most, price):
    """Between wanted cells of a request lie no more unwanted ones than `bridge`; `holes` says whether any do."""
    for request in plan(wanted, most, price):
        mine = [span for span in wanted if covers(request, span)]
        cells = {cell for span in mine for cell in range(span.address, span.end)}
        unwanted = [c for c in range(request.address, request.address + request.quantity) if c not in cells]
        run = longest = 0
        for cell in range(request.address, request.address + request.quantity):
            run = 0 if cell in cells else run + 1
            longest = max(longest, run)
        assert longest <= most.widest_hole(request.table)
        assert request.holes == bool(unwanted)


@given(spans, costs)
def test_without_bridging_nothing_unwanted_is_read(wanted, price):
    """A device that refuses addresses it does not have is asked for wanted ones alone."""
    assert not any(request.holes for request in plan(wanted, Limits(bridge=0), price))


@given(spans, limits, costs)
def test_the_order_of_the_file_does_not_change_the_plan(wanted, most, price):
    """The same points give the same requests."""
    assert plan(wanted, most, price) == plan(wanted[::-1], most, price)


def test_neighbours_are_asked_for_together():
    """A hundred registers are one request."""
    assert plan([Span("holding", n, 1) for n in range(100)], Limits(), SLOW) == (Request("holding", 0, 100),)


def test_no_plan_has_fewer_requests():
    """126 registers need two requests, 250 too, 251 three."""
    for registers, needed in ((125, 1), (126, 2), (250, 2), (251, 3)):
        assert len(plan([Span("input", n, 1) for n in range(registers)], Limits(), SLOW)) == needed


def test_a_wide_point_is_not_torn_at_the_end_of_a_request():
    """The pair around the longest request stands in one of the two."""
    pair = Span("holding", 124, 2)
    requests = plan([*(Span("holding", n, 1) for n in range(124)), pair], Limits(), SLOW)
    assert len(requests) == 2
    assert any(covers(request, pair) for request in requests)


def test_a_request_too_many_is_saved_by_cutting_between_neighbours():
    """Four blocks of 63 registers with a hole between them fit three requests only where a block is cut."""
    wanted = [Span("input", block * 64 + n, 1) for block in range(4) for n in range(63)]
    assert len(plan(wanted, Limits(), SLOW)) == 3


def pair(hole):
    """Give two registers with a hole between them."""
    return [Span("input", 0, 1), Span("input", 1 + hole, 1)]


def widest_bridged(price):
    """Find the widest hole that is read along."""
    return max(hole for hole in range(124) if len(plan(pair(hole), Limits(), price)) == 1)


def test_how_wide_a_hole_is_bridged_depends_on_the_wire():
    """At 9600 baud a register costs 2.1 ms and a request 20.8 ms; behind a slow network a request costs 80 ms."""
    assert widest_bridged(SLOW) == 10
    assert widest_bridged(line(9600, 0.05)) == 32
    assert widest_bridged(line(115200)) == 26
    assert widest_bridged(NETWORK) == 123


def test_a_bound_on_bridging_is_kept_where_the_wire_would_bridge_more():
    """Eight registers are read along, nine are not."""
    most = Limits(bridge=8)
    assert plan(pair(8), most, NETWORK) == (Request("input", 0, 10, holes=True),)
    assert len(plan(pair(9), most, NETWORK)) == 2


def test_one_point_per_request_is_just_that():
    """For devices that give one value at a time; bits of one register are one question."""
    wanted = [Span("input", 0, 2), Span("input", 2, 2), Span("input", 2, 2)]
    requests = plan(wanted, Limits(one_point_per_request=True), SLOW)
    assert requests == (Request("input", 0, 2), Request("input", 2, 2))


@pytest.mark.parametrize("table", ["holding", "coil"])
def test_the_largest_layout_is_planned_at_once(table):
    """4096 points with holes between them take less than 0.2 s of CPU."""
    wanted = [Span(table, n * 3 + n % 2, 1) for n in range(4096)]
    began = time.process_time()
    plan(wanted, Limits(), SLOW)
    assert time.process_time() - began < 0.2


def test_a_point_inside_another_is_not_read_twice():
    """Eleven registers of which the last two are also one number: eleven are asked for, in two requests of ten."""
    wanted = [*(Span("input", n, 1) for n in range(10)), Span("input", 9, 2)]
    requests = plan(wanted, Limits(max_registers=10), SLOW)
    assert sum(request.quantity for request in requests) == 11


@pytest.mark.parametrize(
    ("addresses", "least"),
    [(range(100), True), ([*range(50), *range(60, 100)], False), (range(200), False)],
)
def test_a_plan_of_one_request_without_a_hole_is_the_best_at_any_turnaround(addresses, least):
    """So it is not made anew when the measured turnaround changes; any other may be."""
    points = {f"r{address}": {"holding": address} for address in addresses}
    device = {"unit": 1, "every": "1s", "points": points}
    link = judged(ModbusLink, {"driver": "modbus", "host": "10.0.0.9", "devices": {"meter": device}})
    (reading,) = readings("bus", link)
    plans = [reading.plan(reading.requests(turnaround_s=turnaround_s)) for turnaround_s in (None, 0.0, 0.001, 1.0)]
    assert plans[0].least == least
    if least:
        assert len({tuple(part.request for part in one.parts) for one in plans}) == 1
