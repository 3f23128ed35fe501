"""A port for the serial driver."""

import pytest
from serial_end import Wire


@pytest.fixture
def wire():
    """A port that is taken away at the end."""
    made = Wire()
    yield made
    made.cut()
