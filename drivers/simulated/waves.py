"""The waves of the simulated driver: the n-th value of a point. Pure, and the same for the same seed.

- `sine`: level + amplitude * sin(2 pi t / period); `ramp`: level to level + amplitude within a period, then again;
  `constant`: level; `walk`: random steps of up to a tenth of the amplitude, kept within level +- amplitude.
- t is the number of the poll times its interval: the wave knows no clock, so a test can foretell it.
- Integers are rounded and held within their type; a bool is true above the level; a float32 is one.
"""

import math
import random
import struct
from collections.abc import Iterator

from buffer.frame import Value
from drivers.simulated.settings import SimulatedPoint


def wave(point: SimulatedPoint, every_ns: int, seed: str) -> Iterator[Value]:
    """Give the values of a point, poll after poll, without end."""
    level = float(point.level)
    for value in _values(point, every_ns, seed):
        yield _typed(point.type, value, level)


def _values(point: SimulatedPoint, every_ns: int, seed: str) -> Iterator[float]:
    level, amplitude = float(point.level), float(point.amplitude)
    step = every_ns / point.period
    dice = random.Random(seed)  # noqa: S311 - a wave, not a secret
    number, walked = 0, 0.0
    while True:
        turn = number * step
        if point.wave == "sine":
            yield level + amplitude * math.sin(2 * math.pi * turn)
        elif point.wave == "ramp":
            yield level + amplitude * (turn % 1)
        elif point.wave == "walk":
            yield level + walked
            walked += dice.uniform(-0.1, 0.1) * amplitude
            walked = max(-abs(amplitude), min(abs(amplitude), walked))
        else:
            yield level
        number += 1


def _typed(kind: str, value: float, level: float) -> Value:
    if kind == "bool":
        return value > level
    if kind == "float64":
        return value
    if kind == "float32":
        return float(struct.unpack(">f", struct.pack(">f", value))[0])
    bits = int(kind.lstrip("uint"))
    low, high = (0, (1 << bits) - 1) if kind.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return max(low, min(high, round(value)))
