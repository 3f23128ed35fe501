"""The window, the rate, the brakes, the lanes and the route: pure rules."""

import random

import pytest

from agent.endpoint import Endpoint
from agent.lanes import Lanes
from agent.pacing import QUEUE_S, Brakes, Bucket, Window
from agent.route import FIRST_PAUSE_S, HEALTHY_SESSION_S, LONGEST_PAUSE_S, Route
from buffer.intervals import Intervals


def test_a_window_opens_from_one_by_one_with_each_acknowledgement_of_a_full_one() -> None:
    """Slow start after every connection, up to what settings and broker allow."""
    window = Window(4, 75)
    seen = [window.open]
    for at in range(6):
        window.acknowledged(0.05, at, full=True)
        seen.append(window.open)
    assert seen == [1, 2, 3, 4, 4, 4, 4]
    assert window.backlog == 3
    window = Window(64, 75)
    window.acknowledged(0.05, 0, full=False)
    assert (window.open, window.backlog) == (1, 1), "what was not used up says nothing"


def test_a_window_closes_while_acknowledgements_queue_and_opens_again_slowly() -> None:
    """A round trip a second above the shortest is a queue of our own; one cut for all that stood in it."""
    window = Window(64, 75)
    for at in range(63):
        window.acknowledged(0.05, at / 10, full=True)
    assert window.open == 64
    for _ in range(20):
        window.acknowledged(0.05 + QUEUE_S + 0.1, 10.0, full=True)
    assert window.open == 44
    window.acknowledged(2.0, 13.0, full=True)
    assert window.open == 31
    for at in range(31):
        window.acknowledged(0.05, 14.0 + at / 10, full=True)
    assert 31 <= window.open <= 33
    for at in range(100):
        window.acknowledged(9.0, 30.0 + 10 * at, full=True)
        if at < 3:
            assert window.open < 31
    assert window.open >= 1


def test_a_way_that_became_longer_is_no_queue_for_ever() -> None:
    """The shortest round trip counts for a minute or two."""
    window = Window(8, 100)
    window.acknowledged(0.05, 0.0, full=True)
    for at in range(1, 80):
        window.acknowledged(2.0, at * 10.0, full=True)
    assert window.open == 8


def test_a_bucket_lets_its_rate_pass() -> None:
    """Over time, never more than a second's worth at once beyond the last block."""
    bucket = Bucket(1000, 0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.spend(2500)
    assert bucket.wait_s(0.0) == pytest.approx(2.5)
    assert bucket.wait_s(1.0) == pytest.approx(1.5)
    assert bucket.wait_s(100.0) == 0
    bucket.spend(1500)
    assert bucket.wait_s(100.0) == pytest.approx(0.5)
    assert Bucket(None, 0.0).wait_s(5.0) == 0


def test_a_brake_lets_one_block_try_after_each_pause_and_the_pauses_grow() -> None:
    """What was under way together counts once; success ends it."""
    brakes = Brakes()
    for _ in range(5):
        brakes.refuse("main", (2.0, 5.0), 0.0)
    assert brakes.stopped(1.9) == {"main"}
    assert brakes.wait_s(0.5) == 1.5
    assert not brakes.stopped(2.0)
    brakes.sent("main")
    assert brakes.stopped(2.0) == {"main"}
    assert brakes.wait_s(2.0) is None
    brakes.refuse("main", (2.0, 5.0), 2.0)
    assert brakes.stopped(6.9) == {"main"}
    assert not brakes.stopped(7.0)
    brakes.sent("main")
    brakes.untried()
    assert not brakes.stopped(7.0)
    brakes.sent("side")
    brakes.release("main")
    assert brakes.wait_s(0.0) is None


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_backlog_goes_from_the_end_that_was_asked_for_and_nothing_twice(newest_first: bool) -> None:
    """Against a plain list: settled, taken, given back, landed, parked, committed, in random order."""
    rng = random.Random(7)
    for _ in range(200):
        settled = Intervals((first, first + rng.randrange(3)) for first in rng.sample(range(1, 28), 4))
        head = 30
        lanes = Lanes({"main": (settled, head)}, newest_first=newest_first)
        pending = {position for position in range(1, head + 1) if position not in settled}
        out: set[int] = set()
        for _ in range(60):
            what = rng.randrange(5)
            if what <= 1:
                run = lanes.take_backlog(rng.randrange(1, 5))
                if run is None:
                    assert not pending
                    continue
                positions = list(run[1])
                assert set(positions) <= pending
                assert (max if newest_first else min)(pending) in positions
                pending -= set(positions)
                out |= set(positions)
            elif what == 2 and out:
                position = out.pop()
                lanes.give_back("main", position)
                pending.add(position)
            elif what == 3 and out:
                position = out.pop()
                settled.add(position)
                lanes.settle("main", position)
            elif what == 4:
                head += 1
                lanes.committed("main", head, fresh=bool(rng.randrange(2)))
                fresh = lanes.take_fresh()
                (out if fresh else pending).add(head)
        lanes.give_back_all()
        while run := lanes.take_backlog(8):
            out -= set(run[1])
            pending -= set(run[1])
        assert not out
        assert not pending


def test_what_has_landed_stays_so_when_the_session_ends() -> None:
    """It waits for the platform's word; what was in flight is pending again."""
    lanes = Lanes({"main": (Intervals(), 3)})
    lanes.take_backlog(3)
    lanes.land("main", 2)
    lanes.give_back_all()
    assert lanes.take_backlog(3) == ("main", range(1, 2))
    assert lanes.take_backlog(3) == ("main", range(3, 4))
    lanes.give_back("main", 2)
    assert lanes.take_backlog(3) == ("main", range(2, 3))


def test_a_stopped_stream_is_passed_over_in_both_lanes() -> None:
    """Others go on."""
    lanes = Lanes({"a": (Intervals(), 1), "b": (Intervals(), 1)})
    lanes.committed("a", 2, fresh=True)
    lanes.committed("b", 2, fresh=True)
    assert lanes.take_fresh({"a"}) == ("b", 2)
    assert lanes.take_backlog(4, {"a"}) == ("b", range(1, 2))
    assert lanes.take_backlog(4, {"a"}) is None
    assert lanes.take_fresh() == ("a", 2)


def route(*hosts: str) -> Route:
    """Give a route over some addresses."""
    return Route([Endpoint(host, 1, "x") for host in hosts], random.Random(1))


def test_back_off_has_full_jitter_within_a_bound_that_doubles() -> None:
    """Two thousand stations that lost one broker do not come back together."""
    for failures, bound in ((1, 2.0), (2, 4.0), (4, 16.0), (5, LONGEST_PAUSE_S), (5000, LONGEST_PAUSE_S)):
        one = route("a")
        for _ in range(failures):
            one.unreachable()
        pauses = [one.pause_s() for _ in range(2000)]
        assert min(pauses) < bound / 50
        assert bound * 0.98 < max(pauses) <= bound
        assert 0.45 * bound < sum(pauses) / len(pauses) < 0.55 * bound


def test_a_session_that_dies_within_a_minute_counts_as_a_failure() -> None:
    """One that lasted ends the count."""
    one = route("a")
    for _ in range(5):
        one.ended(HEALTHY_SESSION_S - 1)
    assert (one.failures, one.short_sessions) == (5, 5)
    one.ended(HEALTHY_SESSION_S)
    assert (one.failures, one.short_sessions) == (0, 0)
    assert max(one.pause_s() for _ in range(500)) <= FIRST_PAUSE_S


def test_addresses_are_tried_in_order_and_only_a_whole_round_is_followed_by_a_pause() -> None:
    """After a session that lasted, the first one comes first again."""
    one = route("a", "b")
    assert (one.endpoint.host, one.first) == ("a", None)
    one.unreachable()
    assert (one.endpoint.host, one.pause_s()) == ("b", 0.0)
    assert one.first is not None
    assert one.first.host == "a"
    one.unreachable()
    assert (one.endpoint.host, one.failures) == ("a", 1)
    one.unreachable()
    one.ended(HEALTHY_SESSION_S)
    assert one.endpoint.host == "a"
    one.unreachable()
    one.restart()
    assert (one.endpoint.host, one.failures) == ("a", 0)


def test_what_an_outage_lost_takes_no_memory_a_block():
    """A run of positions that cannot be carried is one interval, and comes back as one."""
    lanes = Lanes({"main": (Intervals(), 50_000)})
    while run := lanes.take_backlog(32):
        for position in run[1]:
            lanes.park("main", position, "volatile" if position > 10 else "too-large")
    assert {reason: list(found) for reason, found in lanes._streams["main"].parked.items()} == {
        "too-large": [(1, 10)],
        "volatile": [(11, 50_000)],
    }
    assert lanes.unpark("too-large") == {"main": 10}
    assert lanes.take_backlog(32) == ("main", range(1, 11))
    assert lanes.take_backlog(32) is None
