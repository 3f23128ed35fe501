"""The plan of a group: the requests that cover its points for the least time on the wire. Pure.

What is always true of a plan:

- Every span lies whole inside exactly one request of its table, or inside more only where spans overlap.
- No request is longer than the device bears (`Limits`), nor than the protocol allows: 125 registers, 2000 bits
  (Modbus Application Protocol V1.1b3, 6.1 to 6.4).
- No request reads a cell that is to be avoided, nor across a seam; a hole is read along only where `Limits.bridge`
  allows it, and only because that is cheaper than another request.
- Under those rules no plan of registers costs less; one of bits at most a byte a request more than the best.

How: spans inside other spans are left out, so that what is further on also ends further on. Then the cheapest way to
cover the first n spans is the cheapest way to cover the first k and one request from there, for the best k. The cost of
that request is linear in both ends, so the best k within the window of allowed ones is the front of a queue kept in
order, and a plan takes time in proportion to its points.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from drivers.modbus.cost import Cost
from drivers.modbus.points import Table


class Span(NamedTuple):
    """The cells of one point: `width` bits or registers from `address`."""

    table: Table
    address: int
    width: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.width


Avoid = Span
"""Cells that no request may read. With a width of 0 it is a seam: no request may read across its address."""


class Limits(NamedTuple):
    """What one request may ask of a device. `bridge` is in registers, and counts sixteenfold for bits."""

    max_registers: int = 125
    max_bits: int = 2000
    bridge: int | None = None
    one_point_per_request: bool = False
    avoid: tuple[Avoid, ...] = ()

    def longest(self, table: Table) -> int:
        """Give the most cells of a request."""
        return self.max_bits if table in ("coil", "discrete") else self.max_registers

    def widest_hole(self, table: Table) -> int:
        """Give the most unwanted cells in a row of a request."""
        if self.bridge is None:
            return self.longest(table)
        return self.bridge * (16 if table in ("coil", "discrete") else 1)


class Request(NamedTuple):
    """One question: `quantity` bits or registers from `address`. `holes` says that some are wanted by no point."""

    table: Table
    address: int
    quantity: int
    holes: bool = False


def plan(spans: Iterable[Span], limits: Limits, cost: Cost) -> tuple[Request, ...]:
    """Cover the spans for the least cost, in order of table and address."""
    wanted = sorted(set(spans))
    if limits.one_point_per_request:
        return tuple(Request(*span) for span in wanted)
    return tuple(
        request
        for _, mine in groupby(wanted, lambda span: span.table)
        for request in _of_table(list(mine), limits, cost)
    )


def covers(request: Request, span: Span) -> bool:
    """Say whether a request brings all cells of a span."""
    return (
        request.table == span.table
        and request.address <= span.address
        and span.end <= request.address + request.quantity
    )


def total_s(requests: Iterable[Request], cost: Cost) -> float:
    """Give the seconds that requests cost together."""
    return sum(cost.of(request.table, request.quantity) for request in requests)


def _of_table(sorted_spans: Sequence[Span], limits: Limits, cost: Cost) -> list[Request]:
    spans = _outermost(sorted_spans)
    firsts = _window_starts(spans, limits)
    table = spans[0].table
    cell_s = cost.byte_s * (1 / 8 if table in ("coil", "discrete") else 2)
    best = [0.0]
    cut = [0] * len(spans)
    queue: deque[tuple[float, int]] = deque()
    for j, span in enumerate(spans):
        candidate = best[j] - cell_s * span.address
        while queue and queue[-1][0] > candidate:
            queue.pop()
        queue.append((candidate, j))
        while queue[0][1] < firsts[j]:
            queue.popleft()
        least, cut[j] = queue[0]
        best.append(least + cost.request_s + cell_s * span.end)
    return _requests(spans, cut)


def _outermost(sorted_spans: Sequence[Span]) -> list[Span]:
    """Leave out spans that lie inside an earlier one; of what remains, ends grow and addresses never fall."""
    kept: list[Span] = []
    for span in sorted_spans:
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _window_starts(spans: Sequence[Span], limits: Limits) -> list[int]:
    """Give for each span the first one that the same request may begin with."""
    walls = _Walls(spans[0].table, limits)
    longest = limits.longest(spans[0].table)
    first, firsts = 0, []
    for j, span in enumerate(spans):
        if j and walls.between(spans[j - 1], span):
            first = j
        while first < j and span.end - spans[first].address > longest:
            first += 1
        firsts.append(first)
    return firsts


class _Walls:
    """What keeps two neighbours out of one request."""

    def __init__(self, table: Table, limits: Limits) -> None:
        self._widest = limits.widest_hole(table)
        mine = [avoid for avoid in limits.avoid if avoid.table == table]
        self._seams = sorted(avoid.address for avoid in mine if not avoid.width)
        self._cells = _merged(sorted((avoid.address, avoid.end) for avoid in mine if avoid.width))

    def between(self, one: Span, other: Span) -> bool:
        if other.address - one.end > self._widest:
            return True
        at = bisect_left(self._seams, one.address + 1)
        if at < len(self._seams) and self._seams[at] <= other.address:
            return True
        at = bisect_left(self._cells, (other.address,)) - 1
        return at >= 0 and other.address > one.end and self._cells[at][1] > one.end


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in ranges:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def _requests(spans: Sequence[Span], cut: Sequence[int]) -> list[Request]:
    requests: list[Request] = []
    last = len(spans) - 1
    while last >= 0:
        first = cut[last]
        mine = spans[first : last + 1]
        holes = any(one.end < other.address for one, other in pairwise(mine))
        requests.append(Request(mine[0].table, mine[0].address, mine[-1].end - mine[0].address, holes))
        last = first - 1
    return requests[::-1]
