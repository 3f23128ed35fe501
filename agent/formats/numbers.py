"""Engineering values, exactly, and JSON that keeps them so.

What is always true here:

- A value is `raw * scale + offset`, computed in decimal without any rounding, from the exact text of the layout.
- The raw value of a float is the shortest decimal that names it among the floats of its width: 0.1 for the float32 that
  is nearest to 0.1. So it can be read, and rounding it to the width gives the very bits. A whole number is itself.
- What is no finite number (NaN, infinities) is text, never a number; bytes are hexadecimal text.
- JSON is written without spaces, in the order given, in UTF-8, and numbers have the digits they have.

Pure. Formats enter.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow

from buffer.frame import Column, Layout, Value
from buffer.layout import once_a_layout
from buffer.status import is_bad

Number = bool | int | Decimal | str | None
"""What a value is told as: text where it is text, bytes, or no finite number."""

_EXACT = Context(prec=5000, traps=[Inexact, InvalidOperation, Overflow])
_PLAIN_DIGITS = 40
"""Numbers of more digits than this, or smaller, are written with an exponent."""
_FLOATS = {"float16": ("<e", 5), "float32": ("<f", 9)}

_WHOLE = 1e16
"""Below this `repr` gives a whole number with all its digits."""

Scaling = Callable[[Value], Number]


def raw_decimal(raw: float, kind: str) -> Decimal:
    """Give the shortest decimal that names a finite float among those of its width; a whole number is itself."""
    if kind not in _FLOATS or (raw.is_integer() and abs(raw) < _WHOLE):
        return Decimal(repr(raw))
    form, most = _FLOATS[kind]
    bits = struct.pack(form, raw)
    for digits in range(1, most):
        text = f"{raw:.{digits}g}"
        try:
            if struct.pack(form, float(text)) == bits:
                return Decimal(text)
        except OverflowError:  # rounded up beyond the largest of the width
            continue
    return Decimal(f"{raw:.{most}g}")


def scaling(column: Column) -> Scaling:
    """Give the function that makes a column's raw values engineering values."""
    scale = Decimal(column.scale) if column.scale else None
    offset = Decimal(column.offset) if column.offset else None
    return lambda raw: engineering(raw, column.kind, scale, offset)


def engineering(raw: Value, kind: str, scale: Decimal | None = None, offset: Decimal | None = None) -> Number:
    """Give `raw * scale + offset`, or what stands for a value that is no finite number."""
    if raw is None or isinstance(raw, bool | str):
        return raw
    if isinstance(raw, bytes):
        return raw.hex()
    if isinstance(raw, float) and not math.isfinite(raw):
        return "NaN" if math.isnan(raw) else "Infinity" if raw > 0 else "-Infinity"
    if isinstance(raw, int) and scale is None and offset is None:
        return raw
    number = raw_decimal(raw, kind) if isinstance(raw, float) else Decimal(raw)
    try:
        scaled = number if scale is None else _EXACT.multiply(number, scale)
        return scaled if offset is None else _EXACT.add(scaled, offset)
    except DecimalException:  # thousands of digits: nothing is rounded, the formula itself is told
        return f"{number}*{scale or 1}+{offset or 0}"


@once_a_layout
def scalings(layout: Layout) -> tuple[Scaling, ...]:
    """Give the scaling of each column of a layout."""
    return tuple(map(scaling, layout.columns))


def usable(value: Number, status: int) -> bool:
    """Say whether a value may stand as a plain number beside good ones."""
    return value is not None and not is_bad(status)


def number_text(number: Decimal) -> str:
    """Write a finite decimal as a JSON number, all its digits, with an exponent only where it would be long."""
    return format(number, "f") if abs(number.adjusted()) <= _PLAIN_DIGITS else str(number)


def dumps(value: object) -> str:
    """Write JSON. Takes None, bool, int, Decimal, str, mappings with text keys, and sequences of these."""
    if isinstance(value, Decimal):
        return number_text(value)
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{dumps(key)}:{dumps(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(dumps, value)) + "]"
    raise TypeError(type(value).__name__)
