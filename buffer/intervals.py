"""A set of integers kept as closed intervals: what an uplink has acknowledged, what a reader has seen.

What is always true here:

- The intervals are sorted, disjoint, and never touch: 1-3 and 4-5 are 1-5. So the memory grows with the gaps alone.
- Adding twice changes nothing; the order of adding does not matter.

Pure. Anyone may enter.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """A growing set of integers."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.update(ranges)

    @classmethod
    def from_list(cls, flat: list[int]) -> "Intervals":
        """Make from what `as_list` gave. Raises ValueError for anything else."""
        if len(flat) % 2 or flat != sorted(flat):
            raise ValueError("not a list of intervals")
        return cls(zip(flat[::2], flat[1::2], strict=True))

    def as_list(self) -> list[int]:
        """Give `[first, last, first, last, ...]`."""
        return [bound for pair in self for bound in pair]

    def add(self, number: int) -> None:
        """Add one number."""
        self.add_range(number, number)

    def add_range(self, first: int, last: int) -> None:
        """Add every number from `first` to `last`, both included. Raises ValueError where `last` is before `first`."""
        if last < first:
            raise ValueError(f"interval ends before it begins: {first}..{last}")
        start = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if start < end:
            first = min(first, self._firsts[start])
            last = max(last, self._lasts[end - 1])
        self._firsts[start:end] = [first]
        self._lasts[start:end] = [last]

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add every number of these intervals."""
        for first, last in ranges:
            self.add_range(first, last)

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """Give what is missing from `first` to `last`, both included."""
        missing = []
        at = bisect_left(self._lasts, first)
        while first <= last and at < len(self._firsts):
            if self._firsts[at] > first:
                missing.append((first, min(self._firsts[at] - 1, last)))
            first = self._lasts[at] + 1
            at += 1
        return [*missing, (first, last)] if first <= last else missing

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """Give what is in from `first` to `last`, both included."""
        at = bisect_left(self._lasts, first)
        end = bisect_right(self._firsts, last)
        return [(max(first, self._firsts[i]), min(last, self._lasts[i])) for i in range(at, end)]

    def overlap(self, other: "Intervals") -> "Intervals":
        """Give the numbers that are in both."""
        return Intervals(pair for first, last in self for pair in other.within(first, last))

    def union(self, other: "Intervals") -> "Intervals":
        """Give the numbers that are in one or both."""
        return Intervals((*self, *other))

    def cut(self, last: int) -> None:
        """Forget every number beyond `last`."""
        end = bisect_right(self._firsts, last)
        del self._firsts[end:], self._lasts[end:]
        if end and self._lasts[-1] > last:
            self._lasts[-1] = last

    def covers(self, first: int, last: int) -> bool:
        """Say whether every number from `first` to `last` is in."""
        at = bisect_left(self._lasts, last)
        return at < len(self._firsts) and self._firsts[at] <= first

    def upto(self, last: int) -> "Intervals":
        """Give a set of its own without the numbers beyond `last`."""
        return Intervals((first, min(end, last)) for first, end in self if first <= last)

    def count(self) -> int:
        """Count the numbers."""
        return sum(last - first + 1 for first, last in self)

    def copy(self) -> "Intervals":
        """Give a set of its own with the same numbers."""
        return Intervals(self)

    def __contains__(self, number: int) -> bool:
        """Say whether a number is in."""
        return self.covers(number, number)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Go over (first, last), ascending."""
        return zip(self._firsts, self._lasts, strict=True)

    def __bool__(self) -> bool:
        """Say whether anything is in."""
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        """Say whether both hold the same numbers."""
        return isinstance(other, Intervals) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the intervals."""
        return f"Intervals({list(self)})"
