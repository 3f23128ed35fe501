"""How much room the buffer may take, and how old what it keeps must get.

What is always true here:

- `limit` bounds the file, its free pages included. `reserve` is free space of the file system that the file never
  takes, and at least what the log and the next opening need: as others take it, the bound comes down to the pages the
  file has, and eviction goes on inside them.
- Room is made before it is needed: a commit always finds `headroom` free, so a full disk is not met in the middle of
  one.
- Age is accumulated running time, never wall time. A block's age is that of the first mark behind it, so it is never
  taken for older than it is.

Pure. Anyone may enter.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from buffer.tables import Space

HEADER_BYTES = 512
"""What a block without payload takes of the file."""
PRUNE_ABOVE = 10
"""Headers may take this part of `limit`: a tenth."""
LEAST_SPARE = 3 << 20
"""What is left free however small the reserve: a log of a megabyte and a commit, its index, room to open the file."""
_MOST_HEADROOM, _LEAST_HEADROOM = 16 << 20, 256 << 10


@dataclass(frozen=True, slots=True)
class Quota:
    """What the technician's file says: bytes, nanoseconds of running time, and what goes of the undelivered first."""

    limit: int
    keep_ns: int
    reserve: int
    when_full: str = "oldest"

    def headroom(self, space: Space) -> int:
        """Bytes that are kept free for the next commits: never more than a quarter of what the file may have by now."""
        most = min(self.limit, space.most * space.page_size)
        return min(max(_LEAST_HEADROOM, self.limit // 64), _MOST_HEADROOM, self.limit // 8, most // 4)

    def pages(self, space: Space, disk_free: int) -> int:
        """Give the pages that the file may have. `disk_free` are the bytes free on its file system."""
        by_disk = space.pages + max(0, disk_free - max(self.reserve, LEAST_SPARE)) // space.page_size
        return min(self.limit // space.page_size, by_disk)

    def short(self, space: Space) -> bool:
        """Say whether room must be made."""
        return space.room * space.page_size < self.headroom(space)

    def too_many_headers(self, bare: int) -> bool:
        """Say whether so many blocks without payload are more than a tenth of the limit."""
        return bare * HEADER_BYTES > self.limit // PRUNE_ABOVE

    def expired(self, ages: Sequence[tuple[int, int]], running_ns: int) -> int:
        """Give the last position that is surely older than `keep`, 0 where there is none."""
        at = bisect_right(ages, running_ns - self.keep_ns, key=lambda age: age[1])
        return ages[at - 1][0] if at else 0
