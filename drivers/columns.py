"""What every driver says of a point in the layout, whatever protocol brings it.

What is always true here: unit, scale, offset, range and note are the technician's exact text; nothing is rounded.

Drivers enter.
"""

from buffer.frame import Column, Kind
from config.model import Point


def column_of(name: str, kind: Kind, point: Point, address: str, order: str = "") -> Column:
    """Give the column of a point. `address` is the driver's way to name its place, `order` its word order if any."""
    low, high = point.range or ("", "")
    return Column(
        name=name,
        kind=kind,
        unit=point.unit,
        scale=point.scale or "",
        offset=point.offset or "",
        address=address,
        order=order,
        low=low,
        high=high,
        note=point.note,
    )
