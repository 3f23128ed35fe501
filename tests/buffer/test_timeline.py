"""The timeline: any schedule of boots, steps and anchors; what is placed lies within its bound."""

from dataclasses import dataclass

import pytest
from chains import SECOND, WALL, Station
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import timeline
from buffer.block import ClockQuality, Header, read_header
from buffer.frame import Event
from buffer.timeline import Bracket, Placed, Timeline

HOUR = 3600 * SECOND
TEMPLATE: Header = read_header(Station().blocks(1)[0].envelope)
UNKNOWN = ClockQuality("unsynchronised", None, "kernel")


def header(
    boot: int, boot_ns: int, wall_ns: int = 0, clock: ClockQuality = UNKNOWN, first: int | None = None
) -> Header:
    """Give a header of boot number so and so."""
    facts = {name: getattr(TEMPLATE, name) for name in TEMPLATE.__slots__}
    interval = None if first is None else (first, boot_ns)
    changes = {"boot_id": bytes([boot]) * 16, "boot_ns": boot_ns, "wall_ns": wall_ns, "clock": clock}
    return Header(**facts | changes | {"interval": interval})


def synced(boot: int, boot_ns: int, wall_ns: int, error_ns: int = 0) -> Header:
    """Give a header that is an anchor."""
    return header(boot, boot_ns, wall_ns, ClockQuality("synchronised", error_ns, "kernel"))


def anchor_event(boot_ns: object, wall_ns: object, error_ns: object, kind: str = "clock-synchronised") -> Event:
    """Give an anchor event."""
    data = (("source", "kernel"), ("boot_ns", boot_ns), ("wall_ns", wall_ns), ("max_error_ns", error_ns))
    return Event(kind, 0, b"E" * 8, data)


def told(*headers: Header) -> Timeline:
    """Give a timeline of these headers."""
    found = Timeline()
    for one in headers:
        found.note(one)
    return found


def at(line: Timeline, boot: int, boot_ns: int) -> Placed | Bracket | None:
    """Place a moment of boot number so and so."""
    return line.place(bytes([boot]) * 16, boot_ns)


def test_beside_an_anchor_the_bound_grows_by_100_ppm():
    """On both sides."""
    line = told(synced(1, HOUR, WALL, 5_000_000))
    for distance in (-HOUR, 0, HOUR):
        assert at(line, 1, HOUR + distance) == Placed(WALL + distance, 5_000_000 + abs(distance) // 10_000)


def test_between_two_anchors_both_bounds_are_interpolated():
    """Half way between two anchors that differ by 20 ms in an hour, 10 ms is added."""
    line = told(synced(1, 0, WALL, 2_000_000), synced(1, HOUR, WALL + HOUR + 20_000_000, 4_000_000))
    middle = at(line, 1, HOUR // 2)
    assert middle.utc_ns == WALL + HOUR // 2 + 10_000_000
    assert middle.bound_ns - (3_000_000 + HOUR // 2 // 10_000) in (0, 1)
    assert not middle.disputed


def test_an_event_is_an_anchor_of_the_boot_whose_header_came_last():
    """What is no sound anchor, or comes before any header, is passed over."""
    line = Timeline()
    line.note_event(anchor_event(0, WALL, 0))
    line.note(header(1, 100 * SECOND))
    assert at(line, 1, 0) is None
    for event in (
        anchor_event(None, WALL, 0),
        anchor_event(0, WALL, None),
        anchor_event(0, WALL, -1),
        anchor_event(0, "x", 0),
        anchor_event(0, WALL, 0, "clock-stepped"),
    ):
        line.note_event(event)
    assert at(line, 1, 0) is None
    line.note_event(anchor_event(50 * SECOND, WALL, 7))
    assert at(line, 1, 50 * SECOND) == Placed(WALL, 7)
    assert at(line, 2, 0) is None


@pytest.mark.parametrize("quality", ["holdover", "unsynchronised", "unknown"])
def test_a_header_that_is_not_synchronised_is_no_anchor(quality):
    """Nor is one that knows no bound."""
    line = told(header(1, 0, WALL, ClockQuality(quality, 5, "kernel")))
    line.note(header(1, 5, WALL, ClockQuality("synchronised", None, "kernel")))
    assert at(line, 1, 0) is None


def test_a_boot_without_anchors_lies_between_its_neighbours():
    """After the last moment of the one before, before the first of the one after, less what passed in between."""
    hour, ppm = HOUR, HOUR // 10_000
    line = told(synced(1, hour, WALL), header(2, 3 * hour, first=hour), header(3, hour, first=0))
    assert at(line, 2, 2 * hour) == Bracket(WALL + hour - ppm, None)
    assert at(line, 3, hour) == Bracket(WALL + 3 * (hour - ppm), None)
    line.note(synced(4, 9 * hour, WALL + 100 * hour))
    first = WALL + 100 * hour
    assert at(line, 2, 2 * hour) == Bracket(WALL + hour - ppm, first - 2 * (hour - ppm))
    assert at(line, 3, hour) == Bracket(WALL + 3 * (hour - ppm), first)
    assert at(line, 3, hour) == at(line, 3, hour)
    assert at(told(header(2, 0), synced(4, 0, WALL)), 2, 0) == Bracket(None, WALL)


def test_anchors_that_contradict_widen_the_bound_to_both_and_are_named():
    """A time server that lies by an hour for a while: whoever was right is inside the bound."""
    line = told(*(synced(1, n * HOUR, WALL + n * HOUR + (HOUR if n in (3, 4) else 0), 1000) for n in range(8)))
    for moment_ns in range(0, 8 * HOUR, HOUR // 2):
        placed = at(line, 1, moment_ns)
        assert placed.disputed
        for claim_ns in (WALL + moment_ns, WALL + moment_ns + HOUR):
            assert abs(claim_ns - placed.utc_ns) <= placed.bound_ns
    named = [(dispute.before.boot_ns // HOUR, dispute.after.boot_ns // HOUR) for dispute in line.disputes()]
    assert named == [(2, 3), (4, 5)]
    assert at(line, 1, HOUR // 2 * 5).utc_ns == WALL + HOUR // 2 * 5


def test_boots_that_contradict_their_order_are_disputed():
    """A boot that says it was ten years after the next one: both bounds reach the other's claim."""
    decade = 10 * 365 * 24 * HOUR
    line = told(synced(1, 0, WALL), synced(2, HOUR, WALL + decade), synced(3, 0, WALL + 2 * HOUR))
    second, third = at(line, 2, HOUR), at(line, 3, 0)
    assert second.disputed
    assert second.utc_ns - second.bound_ns <= WALL
    assert third.disputed
    assert third.utc_ns + third.bound_ns >= WALL + decade
    assert not at(line, 1, 0).disputed


def test_repeats_and_events_out_of_order_change_nothing():
    """The same event stands in every stream; a block's header comes before its events."""
    line = told(synced(1, 0, WALL), synced(1, HOUR, WALL + HOUR), synced(1, 2 * HOUR, WALL + 2 * HOUR))
    for _ in range(3):
        line.note_event(anchor_event(HOUR, WALL + HOUR, 0))
        line.note_event(anchor_event(HOUR + SECOND, WALL + HOUR + SECOND, 0))
        line.note_event(anchor_event(SECOND, WALL + SECOND, 0))
    boot = line._boots[bytes([1]) * 16]
    assert [anchor.boot_ns for anchor in boot.anchors] == [0, SECOND, HOUR, HOUR + SECOND, 2 * HOUR]


def test_headers_close_together_are_one_anchor_and_the_last():
    """A header every five seconds costs an anchor in ten minutes."""
    line = told(*(synced(1, n * 5 * SECOND, WALL + n * 5 * SECOND, 1000) for n in range(7200)))
    assert len(line._boots[bytes([1]) * 16].anchors) <= 62


@pytest.mark.parametrize("lie_ns", [0, HOUR])
def test_memory_is_bounded_and_thinning_only_widens(monkeypatch, lie_ns):
    """However many anchors, also where every second one lies: the truth stays inside."""
    monkeypatch.setattr(timeline, "MAX_ANCHORS", 40)
    monkeypatch.setattr(timeline, "ANCHORS_A_BOOT", 16)
    monkeypatch.setattr(timeline, "MAX_BOOTS", 8)
    line = Timeline()
    for boot in range(12):
        for hour in range(50):
            true_ns = WALL + (boot * 100 + hour) * HOUR
            line.note(synced(boot, hour * HOUR, true_ns + lie_ns * (hour % 2), 1000))
    assert line.forgotten == 4
    assert sum(len(boot.anchors) for boot in line._boots.values()) <= 40
    assert at(line, 0, 0) is None
    assert bool(list(line.disputes())) == bool(lie_ns)
    for boot in range(4, 12):
        for hour in range(50):
            placed = at(line, boot, hour * HOUR)
            assert placed.disputed == bool(lie_ns)
            assert abs(WALL + (boot * 100 + hour) * HOUR - placed.utc_ns) <= placed.bound_ns


@dataclass
class World:
    """A station whose true time is known: a crystal within 100 ppm, a wall clock that anyone may set."""

    true_ns: int = WALL
    boot: int = 0
    boot_ns: int = 0
    offset_ns: int = -WALL

    def run(self, seconds: int, ppm: int) -> None:
        """Let boot time pass, and true time at its own rate."""
        elapsed_ns = seconds * SECOND
        self.boot_ns += elapsed_ns
        self.true_ns += elapsed_ns + elapsed_ns * ppm // 10**6


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 90_000), st.integers(-100, 100)),
        st.tuples(st.just("anchor"), st.integers(-(10**9), 10**9), st.integers(0, 10**9)),
        st.tuples(st.just("event"), st.integers(-(10**9), 10**9), st.integers(0, 10**9)),
        st.tuples(st.just("step"), st.integers(-(10**18), 10**18), st.just(0)),
        st.tuples(st.just("boot"), st.integers(0, 10**6), st.integers(0, 100)),
        st.tuples(st.just("read"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(ACTIONS, st.integers(2, 6))
def test_what_honest_anchors_place_lies_within_the_bound(actions, cap):
    """Any schedule of boots, steps and anchors; the order of the chain is the order of true time."""
    world, line, moments = World(), Timeline(), []
    line._cap = cap
    line.note(header(0, 0))
    for action, one, two in actions:
        match action:
            case "run":
                world.run(one, two)
            case "anchor" | "event":
                shown_ns, error_ns = world.true_ns + one, abs(one) + two
                if action == "anchor":
                    line.note(synced(world.boot, world.boot_ns, shown_ns, error_ns))
                else:
                    line.note(header(world.boot, world.boot_ns, world.boot_ns + world.offset_ns))
                    line.note_event(anchor_event(world.boot_ns, shown_ns, error_ns))
            case "step":
                world.offset_ns += one
            case "boot":
                world.true_ns += one * SECOND
                world.boot, world.boot_ns = world.boot + 1, two * SECOND
                line.note(header(world.boot, world.boot_ns, world.boot_ns + world.offset_ns))
        line.note(header(world.boot, world.boot_ns, world.boot_ns + world.offset_ns))
        moments.append((world.boot, world.boot_ns, world.true_ns))
    for boot, boot_ns, true_ns in moments:
        match at(line, boot, boot_ns):
            case Placed(utc_ns, bound_ns, disputed):
                assert not disputed
                assert abs(true_ns - utc_ns) <= bound_ns
            case Bracket(early_ns, late_ns):
                assert early_ns is None or early_ns <= true_ns
                assert late_ns is None or true_ns <= late_ns


def test_an_anchor_that_is_less_sure_than_its_neighbours_is_not_left_out():
    """A daemon knew that the clock was 9 s off and slewed it back: what it claimed meanwhile stays claimed."""
    sure, slewed = 1000, 9 * SECOND
    line = told(*(synced(1, n * SECOND, WALL + n * SECOND, slewed if n == 250 else sure) for n in range(500)))
    assert at(line, 1, 250 * SECOND).bound_ns >= slewed
    line._boots[bytes([1]) * 16].thin(2)
    assert at(line, 1, 250 * SECOND).bound_ns >= slewed // 2
    assert not at(line, 1, 250 * SECOND).disputed


def test_anchors_of_one_moment_have_an_order_of_their_own():
    """By offset, whichever is told first; and no truth value is a number."""
    one, other = anchor_event(HOUR, WALL + HOUR, 10), anchor_event(HOUR, WALL + HOUR + 5, 10)
    for events in ((one, other), (other, one), (other, one, other, one)):
        line = told(header(1, HOUR))
        for event in (*events, anchor_event(True, WALL, 0), anchor_event(0, WALL, True)):
            line.note_event(event)
        assert at(line, 1, HOUR).utc_ns == WALL + HOUR + 5


def test_a_boot_is_as_long_as_its_headers_say():
    """What an event says of another time makes it no longer."""
    line = told(synced(1, HOUR, WALL), header(2, 2 * HOUR, first=HOUR))
    before = at(line, 2, 2 * HOUR)
    line.note_event(anchor_event(True, 0, 0))
    line.note(header(3, HOUR))
    line.note_event(anchor_event(9 * HOUR, WALL + 100 * HOUR, 0))
    assert at(line, 2, 2 * HOUR).not_before_ns == before.not_before_ns
    assert at(line, 2, 2 * HOUR).not_after_ns == WALL + 92 * HOUR + 8 * HOUR // 10_000
