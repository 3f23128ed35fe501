"""What the tests of all drivers share: a real clock, and the recorded plant data."""

import time
from pathlib import Path

import pytest

from drivers.simulated.replay import Recording, read_recording

DATA = Path(__file__).parents[1] / "data"


class BootClock:
    """CLOCK_BOOTTIME, as a driver is given it."""

    def boot_ns(self) -> int:
        """Give CLOCK_BOOTTIME in nanoseconds."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@pytest.fixture
def clock() -> BootClock:
    """Give the real clock."""
    return BootClock()


@pytest.fixture(scope="session")
def data() -> Path:
    """Give the folder of recorded data."""
    return DATA


@pytest.fixture(scope="session")
def wwtp() -> Recording:
    """Give a day of a wastewater plant."""
    return read_recording(DATA / "wwtp.csv")


@pytest.fixture(scope="session")
def skab() -> Recording:
    """Give five minutes of a pump rig."""
    return read_recording(DATA / "skab.csv")
