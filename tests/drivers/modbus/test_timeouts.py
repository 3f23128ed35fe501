"""How long to wait: bounds, the captured round trips, and what a slower unit or a dead one costs."""

import random

import pytest

from drivers.modbus.timeouts import Patience
from drivers.simulated.scripted_slave import captured_delays


def patience(*trips_s, low_s=0.1, high_s=1.0):
    """Make what is known of a unit that answered so."""
    known = Patience(low_s, high_s)
    for trip_s in trips_s:
        known.answered(trip_s)
    return known


def test_a_unit_that_is_not_known_has_the_whole_time_out():
    """Eight answers make it known."""
    assert patience().wait_s() == 1.0
    assert patience(*[0.001] * 7).wait_s() == 1.0
    assert patience(*[0.001] * 8).wait_s() == 0.1


def test_the_wait_follows_the_round_trips_between_its_bounds():
    """Twice the slowest lately seen, or RFC 6298 where that is more."""
    assert patience(*[0.15] * 50).wait_s() == pytest.approx(0.3, rel=0.01)
    assert patience(*[0.15] * 50, 0.3).wait_s() == pytest.approx(0.6, rel=0.01)
    assert patience(*[0.9] * 50).wait_s() == 1.0


def test_a_slow_answer_is_forgotten_in_time():
    """Some hundred answers later the wait is short again."""
    known = patience(*[0.05] * 8, 0.45)
    assert known.wait_s() == pytest.approx(0.9, rel=0.01)
    for _ in range(2000):
        known.answered(0.05)
    assert known.wait_s() < 0.12


def test_after_a_silence_the_whole_time_out_is_waited_until_the_next_answer():
    """A unit that grew slower costs one frame; a dead one is found out with full patience."""
    known = patience(*[0.05] * 20)
    known.missed()
    known.missed()
    assert known.wait_s() == 1.0
    known.answered(0.4)
    assert 0.79 < known.wait_s() < 1.0


def test_a_late_answer_is_learnt_from_but_is_none():
    """The wait that follows the next answer has room for it."""
    known = patience(*[0.05] * 20)
    known.missed()
    known.learnt(0.3)
    assert known.wait_s() == 1.0
    known.answered(0.05)
    assert known.wait_s() > 0.59


def test_what_the_captured_links_answer_is_waited_for(data):
    """Of the answers that a fixed time-out of a second would take, next to none is lost by a shorter wait."""
    draw = captured_delays(data / "modbus_pairs.jsonl", random.Random(7))
    known = Patience(0.25, 1.0)
    lost = waited_s = 0.0
    for _ in range(5000):
        trip_s, wait_s = draw(), known.wait_s()
        waited_s += wait_s
        if trip_s > wait_s:
            lost += 1
            known.missed()
        else:
            known.answered(trip_s)
    assert lost / 5000 < 0.005
    assert waited_s / 5000 < 0.8
