"""From a server's value to the column's, or to the status that says why there is none. Pure.

What is always true here: a value fits a column if the column can keep it exactly. A whole number fits a float up to
its mantissa; a double fits a float32 only where nothing is lost; a boolean is no number; an array fits nothing. What
does not fit leaves no value and BadDecodingError. A good status without a value, and NaN, become BadNoData. A status
of the server's own that is not good is kept to the last bit, with the value beside it if there is one.
"""

import math
import struct
from typing import NamedTuple

from buffer import status
from buffer.frame import Kind, Value
from drivers.plausible import EVERYTHING, RawRange

_INTEGERS: dict[str, tuple[int, int]] = {
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
}
_FLOATS = {"float16": ">e", "float32": ">f", "float64": ">d"}


class Fit(NamedTuple):
    """What a column takes: its kind, and the plausible range of its raw values."""

    kind: Kind
    plausible: RawRange = EVERYTHING

    def __call__(self, value: object, code: int) -> tuple[Value, int]:
        """Give the column's value and status for a value and a StatusCode of the server."""
        if value is None:
            return None, code or status.BAD_NO_DATA
        kept = convert(self.kind, value)
        if kept is None:
            return None, code if status.is_bad(code) else status.BAD_DECODING_ERROR
        if isinstance(kept, float) and math.isnan(kept):
            return None, code if status.is_bad(code) else status.BAD_NO_DATA
        if status.is_good(code) and not self._is_plausible(kept):
            return kept, status.BAD_OUT_OF_RANGE
        return kept, code

    def _is_plausible(self, value: Value) -> bool:
        return self.plausible is EVERYTHING or (isinstance(value, int | float) and self.plausible.holds(value))


def convert(kind: Kind, value: object) -> Value:
    """Give a value as its column keeps it, or None where it cannot exactly."""
    if kind in _FLOATS:
        return _as_float(_FLOATS[kind], value)
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        whole = isinstance(value, int) and not isinstance(value, bool)
        return int(value) if whole and low <= value <= high else None  # type: ignore[call-overload, operator]  # whole
    kept = {"bool": bool, "text": str, "bytes": bytes}[kind]
    return value if isinstance(value, kept) else None  # type: ignore[return-value]  # of the kind just looked up


def _as_float(code: str, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        (kept,) = struct.unpack(code, struct.pack(code, value))
    except (OverflowError, struct.error):
        return None
    return float(kept) if kept == value or value != value else None  # noqa: PLR0124 - NaN alone differs from itself
