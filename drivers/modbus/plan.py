"""The plan of a group: the fewest requests that cover its points. Pure.

What is always true of a plan:

- Every span lies whole inside exactly one request of its table.
- No request is longer than the device bears (`Limits`), nor than the protocol allows: 125 registers, 2000 bits
  (Modbus Application Protocol V1.1b3, 6.1 to 6.4).
- No two neighbouring spans of one request are further apart than `Limits.bridge` allows.
- Under those rules no plan has fewer requests: from the left, each takes all it may.
"""

from collections.abc import Iterable
from typing import NamedTuple

from drivers.modbus.settings import Table


class Span(NamedTuple):
    """The cells of one point: `width` bits or registers from `address`."""

    table: Table
    address: int
    width: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.width


class Limits(NamedTuple):
    """What one request may ask of a device. `bridge` is in registers and counts sixteenfold for bits."""

    max_registers: int = 125
    max_bits: int = 2000
    bridge: int = 8


class Request(NamedTuple):
    """One question: `quantity` bits or registers from `address`. `holes` says that some are wanted by no point."""

    table: Table
    address: int
    quantity: int
    holes: bool = False


def plan(spans: Iterable[Span], limits: Limits) -> tuple[Request, ...]:
    """Cover the spans with the fewest requests, in order of table and address."""
    requests: list[Request] = []
    for span in sorted(set(spans)):
        joined = _join(requests[-1], span, limits) if requests else None
        if joined is None:
            requests.append(Request(span.table, span.address, span.width))
        else:
            requests[-1] = joined
    return tuple(requests)


def _join(request: Request, span: Span, limits: Limits) -> Request | None:
    """Lengthen a request to take in the next span, or say that it may not."""
    bits = span.table in ("coil", "discrete")
    end = request.address + request.quantity
    gap = max(0, span.address - end)
    count = max(end, span.end) - request.address
    longest = limits.max_bits if bits else limits.max_registers
    if span.table != request.table or gap > limits.bridge * (16 if bits else 1) or count > longest:
        return None
    return Request(request.table, request.address, count, request.holes or gap > 0)


def covers(request: Request, span: Span) -> bool:
    """Say whether a request brings all cells of a span."""
    return (
        request.table == span.table
        and request.address <= span.address
        and span.end <= request.address + request.quantity
    )
