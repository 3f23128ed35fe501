"""How long a line must be silent: the numbers of the standard, and the longest reply seen."""

import pytest

from config.judge import judged
from config.model import Serial
from drivers.modbus.pace import pace
from drivers.modbus.quiet import Quiet

UNIT, OTHER = 1, 2
TEN = bytes.fromhex("030064000a")
OTHER_TEN = bytes.fromhex("0300c8000a")
FIVE = bytes.fromhex("0300c80005")


def line(baud=9600, timeout_s=1.0, **keys):
    """Make the follower of a line."""
    serial = judged(Serial, {"port": "/dev/ttyS0", "baud": baud, **keys})
    return Quiet(pace(serial, "rtu").gap_s, timeout_s)


def test_a_fresh_line_is_quiet():
    """The first question waits for nothing."""
    assert line().remaining_s(0.0, UNIT, TEN) <= 0


@pytest.mark.parametrize(
    ("keys", "gap_s"),
    [
        ({"baud": 9600}, 3.5 * 10 / 9600),
        ({"baud": 9600, "parity": "even"}, 3.5 * 11 / 9600),
        ({"baud": 115200}, 0.00175),
    ],
)
def test_frames_are_three_and_a_half_characters_apart(keys, gap_s):
    """Modbus over Serial Line 2.5.1.1; 1.75 ms above 19200 baud."""
    quiet = line(**keys)
    quiet.asked(10.0)
    quiet.heard(10.1)
    assert quiet.remaining_s(10.1, UNIT, TEN) == pytest.approx(gap_s)


def test_before_any_reply_a_missed_one_is_waited_for_a_whole_time_out():
    """Nothing is known of this line yet."""
    quiet = line()
    quiet.asked(0.0)
    quiet.missed(1.0, UNIT, TEN)
    assert quiet.owes(UNIT)
    assert quiet.remaining_s(1.0, UNIT, TEN) == pytest.approx(1.0)
    assert quiet.remaining_s(2.5, UNIT, TEN) <= 0


def test_a_missed_reply_is_waited_for_as_long_as_the_longest_seen():
    """A line that answers in 50 ms owes its answer no longer than that."""
    quiet = line()
    for at, heard in ((0.0, 0.05), (1.0, 1.02)):
        quiet.asked(at)
        quiet.heard(heard)
        quiet.answered(UNIT)
    quiet.asked(2.0)
    quiet.missed(3.0, UNIT, TEN)
    assert quiet.remaining_s(3.0, UNIT, TEN) == pytest.approx(0.05)


def test_other_units_do_not_wait_for_what_one_owes():
    """A late reply bears the id of its unit; only a question to that unit could be given it."""
    quiet = line()
    quiet.asked(0.0)
    quiet.missed(1.0, UNIT, TEN)
    assert quiet.remaining_s(1.0, OTHER, TEN) <= 0
    quiet.asked(1.0)
    quiet.heard(1.3)
    quiet.answered(OTHER)
    assert quiet.remaining_s(1.3, OTHER, TEN) == pytest.approx(quiet.gap_s)
    assert quiet.remaining_s(1.25, UNIT, TEN) == pytest.approx(0.05 + quiet.gap_s)
    assert quiet.owes(UNIT)
    assert not quiet.owes(OTHER)


def test_bytes_heard_after_a_time_out_begin_the_silence_anew():
    """A late reply both counts as the longest seen and must have ended."""
    quiet = line()
    quiet.asked(0.0)
    quiet.heard(0.05)
    quiet.answered(UNIT)
    quiet.asked(1.0)
    quiet.missed(2.0, UNIT, TEN)
    quiet.heard(2.04)
    assert quiet.remaining_s(2.04, UNIT, TEN) == pytest.approx(1.0)


def test_noise_on_an_idle_line_is_no_reply():
    """A spark an hour after the last answer says nothing about how slow units are."""
    quiet = line()
    quiet.asked(0.0)
    quiet.heard(0.05)
    quiet.answered(UNIT)
    quiet.heard(3600.0)
    quiet.asked(3601.0)
    quiet.missed(3602.0, UNIT, TEN)
    assert quiet.remaining_s(3602.0, UNIT, TEN) == pytest.approx(0.05)


def test_an_answered_question_owes_nothing():
    """The next question waits for the gap alone."""
    quiet = line()
    quiet.asked(0.0)
    quiet.missed(1.0, UNIT, TEN)
    quiet.asked(3.0)
    quiet.heard(3.1)
    quiet.answered(UNIT)
    assert quiet.remaining_s(3.1, UNIT, TEN) == pytest.approx(quiet.gap_s)


def test_cells_that_could_be_taken_for_those_that_are_owed_wait_the_whole_time_out():
    """A late answer of ten registers is no answer to a question of five, and is one to ten others."""
    quiet = line()
    quiet.asked(0.0)
    quiet.heard(0.05)
    quiet.answered(UNIT)
    quiet.asked(1.0)
    quiet.missed(2.0, UNIT, TEN)
    assert quiet.remaining_s(2.0, UNIT, OTHER_TEN) == pytest.approx(1.0)
    assert quiet.remaining_s(2.0, UNIT, FIVE) == pytest.approx(0.05)
    assert quiet.remaining_s(2.0, UNIT, TEN) == pytest.approx(0.05)
