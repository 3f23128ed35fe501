"""The plausible range of a point, carried from engineering units into the raw values on the wire. Pure.

What is always true here: bounds are carried over once, beforehand and exactly, so that judging a value is one
comparison of raw numbers and says what the technician wrote: `low <= raw * scale + offset <= high`.
"""

import math
from fractions import Fraction
from typing import NamedTuple

from config.model import Point


class RawRange(NamedTuple):
    """What a raw value may be, both ends included."""

    low: int | float
    high: int | float

    def holds(self, value: float) -> bool:
        """Say whether a raw value is plausible; NaN is not."""
        return self.low <= value <= self.high


EVERYTHING = RawRange(-math.inf, math.inf)


def raw_range(point: Point, *, whole: bool) -> RawRange:
    """Give the raw range of a point; `whole` says that its raw values are integers. Its scale is not zero."""
    if point.range is None:
        return EVERYTHING
    scale, offset = Fraction(point.scale or 1), Fraction(point.offset or 0)
    low, high = sorted((Fraction(text) - offset) / scale for text in point.range)
    if whole:
        return RawRange(math.ceil(low), math.floor(high))
    return RawRange(_float_within(low, up=True), _float_within(high, up=False))


def _float_within(bound: Fraction, *, up: bool) -> float:
    """Give the float nearest to a bound that does not lie outside it."""
    try:
        near = float(bound)
    except OverflowError:
        return math.inf if bound > 0 else -math.inf
    outside = Fraction(near) < bound if up else Fraction(near) > bound
    return math.nextafter(near, math.inf if up else -math.inf) if outside else near
