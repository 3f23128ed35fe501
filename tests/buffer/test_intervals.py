"""Intervals behave as the set of integers they stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.intervals import Intervals

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(RANGES, st.integers(0, 70), st.integers(0, 70))
def test_intervals_are_a_set(ranges, one, other):
    """Every question has the answer that a plain set gives."""
    found = Intervals(ranges)
    plain = {number for first, last in ranges for number in range(first, last + 1)}
    first, last = sorted((one, other))
    asked = set(range(first, last + 1))
    missing = {number for start, end in found.gaps(first, last) for number in range(start, end + 1)}
    assert [number for start, end in found for number in range(start, end + 1)] == sorted(plain)
    assert missing == asked - plain
    assert found.covers(first, last) == (asked <= plain)
    assert (one in found) == (one in plain)
    assert found.count() == len(plain)
    assert bool(found) == bool(plain)


@given(RANGES)
def test_intervals_never_touch(ranges):
    """Neighbours are one interval, so memory grows with the gaps alone."""
    flat = Intervals(ranges).as_list()
    assert all(first - last > 1 for last, first in zip(flat[1::2], flat[2::2], strict=False))


@given(RANGES)
def test_intervals_come_back_from_their_list(ranges):
    """What is stored is what is read."""
    found = Intervals(ranges)
    assert Intervals.from_list(found.as_list()) == found
    assert found.copy() == found
    assert found != "something else"


def test_a_copy_is_a_set_of_its_own():
    """Adding to one does not add to the other."""
    found = Intervals([(1, 2)])
    found.copy().add(9)
    assert repr(found) == "Intervals([(1, 2)])"


@pytest.mark.parametrize("flat", [[1], [2, 1], [1, 3, 2, 4]])
def test_a_list_that_is_none_is_refused(flat):
    """Odd, backwards or overlapping."""
    with pytest.raises(ValueError, match="interval"):
        Intervals.from_list(flat)


def test_an_interval_that_ends_before_it_begins_is_refused():
    """Rather than quietly holding nothing."""
    with pytest.raises(ValueError, match="before"):
        Intervals().add_range(2, 1)


def test_a_set_is_cut_and_joined():
    """Cut inside a run, behind one, and before all."""
    found = Intervals([(1, 4), (7, 9)])
    assert found.union(Intervals([(5, 5), (20, 21)])) == Intervals([(1, 5), (7, 9), (20, 21)])
    for last, left in ((8, [(1, 4), (7, 8)]), (6, [(1, 4)]), (0, [])):
        found.cut(last)
        assert found == Intervals(left)
