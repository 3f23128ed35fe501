"""Statuses and frames say plainly whether a value may be used."""

import pytest
from chains import METER

from buffer import status
from buffer.frame import Frame, fault_frame, good


@pytest.mark.parametrize(
    ("code", "is_good", "is_bad"),
    [
        (status.GOOD, True, False),
        (0x00A20000, True, False),
        (0x40940000, False, False),
        (status.BAD_TIMEOUT, False, True),
    ],
)
def test_the_two_top_bits_are_the_severity(code, is_good, is_bad):
    """Good, Uncertain, Bad, whatever the detail."""
    assert (status.is_good(code), status.is_bad(code)) == (is_good, is_bad)


def test_a_status_has_its_standard_name():
    """Or its number, where a server sent one that this page does not list."""
    assert status.name(status.BAD_TIMEOUT) == "BadTimeout"
    assert status.name(0x80AB0000) == "0x80AB0000"


def test_a_fault_frame_is_not_good():
    """It has a status for every point and a value for none."""
    frame = fault_frame(METER, 5, status.BAD_TIMEOUT)
    assert not good(frame)
    assert frame.values == (None, None)
    assert good(Frame(1, 1, (1, 2.0)))
