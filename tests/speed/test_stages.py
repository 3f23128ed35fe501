"""The pure stages under pytest-benchmark: `make bench-stages`, to compare two states of the code on one machine.

They are not part of the ordinary suite: what they print is of the machine and the moment.
"""

import pytest
from speed.pure import PURE, Work


@pytest.mark.speed
@pytest.mark.parametrize("stage", PURE)
def test_stage(benchmark, stage):
    """One call, on one second of the nominal load (decode and gather: one frame of it)."""
    benchmark(getattr(Work(), stage))
