"""The plan covers every point with the fewest requests, and none is larger than the device bears."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import Limits, Request, Span, covers, plan

limits = st.builds(Limits, st.integers(4, 125), st.integers(1, 2000), st.integers(0, 20))
spans = st.lists(
    st.builds(Span, st.sampled_from(["input", "holding"]), st.integers(0, 600), st.sampled_from([1, 2, 4]))
    | st.builds(Span, st.sampled_from(["coil", "discrete"]), st.integers(0, 6000), st.just(1)),
    min_size=1,
    max_size=60,
)


@given(spans, limits)
def test_every_point_lies_whole_in_one_request(wanted, most):
    """Nothing that was asked for is left out or torn apart."""
    requests = plan(wanted, most)
    assert all(any(covers(request, span) for request in requests) for span in wanted)


@given(spans, limits)
def test_no_request_is_longer_than_the_device_bears(wanted, most):
    """The limits of the device hold for each request."""
    for request in plan(wanted, most):
        longest = most.max_bits if request.table in ("coil", "discrete") else most.max_registers
        assert 1 <= request.quantity <= longest


@given(spans, limits)
def test_holes_are_bridged_only_as_far_as_allowed_and_are_named(wanted, most):
    """Between wanted cells of a request lie no more unwanted ones than `bridge`; `holes` says whether any do."""
    for request in plan(wanted, most):
        mine = [span for span in wanted if covers(request, span)]
        cells = {cell for span in mine for cell in range(span.address, span.end)}
        unwanted = [c for c in range(request.address, request.address + request.quantity) if c not in cells]
        run = longest = 0
        for cell in range(request.address, request.address + request.quantity):
            run = 0 if cell in cells else run + 1
            longest = max(longest, run)
        assert longest <= most.bridge * (16 if request.table in ("coil", "discrete") else 1)
        assert request.holes == bool(unwanted)


@given(spans)
def test_without_bridging_nothing_unwanted_is_read(wanted):
    """A device that refuses addresses it does not have is asked for wanted ones alone."""
    assert not any(request.holes for request in plan(wanted, Limits(bridge=0)))


@given(spans, limits)
def test_the_order_of_the_file_does_not_change_the_plan(wanted, most):
    """The same points give the same requests."""
    assert plan(wanted, most) == plan(wanted[::-1], most)


def test_neighbours_are_asked_for_together():
    """A hundred registers are one request."""
    assert plan([Span("holding", n, 1) for n in range(100)], Limits()) == (Request("holding", 0, 100),)


def test_no_plan_has_fewer_requests():
    """126 registers need two requests, 250 too, 251 three."""
    for registers, needed in ((125, 1), (126, 2), (250, 2), (251, 3)):
        assert len(plan([Span("input", n, 1) for n in range(registers)], Limits())) == needed


def test_a_wide_point_is_not_torn_at_the_end_of_a_request():
    """The pair that begins in the last register moves to the next request whole."""
    requests = plan([*(Span("holding", n, 1) for n in range(124)), Span("holding", 124, 2)], Limits())
    assert requests == (Request("holding", 0, 124), Request("holding", 124, 2))


def test_a_hole_as_wide_as_the_bridge_is_read_along_and_a_wider_one_is_not():
    """Eight unwanted registers cost less than a request; nine are left out."""
    assert plan([Span("input", 0, 1), Span("input", 9, 1)], Limits()) == (Request("input", 0, 10, holes=True),)
    assert len(plan([Span("input", 0, 1), Span("input", 10, 1)], Limits())) == 2
