"""Which payloads go next. Payloads of kind 1 and 2 never do: they explain the rest.

What is always true here:

- Candidates come from what is stored, each proven by its signature; nothing is changed here.
- A stretch that was looked at and holds nothing more to evict is not looked at again while the store is open. A look is
  bounded, so that it never holds up a seal; what it did not reach, the next one will.
- `thin` goes from the oldest to the newest and keeps every 2nd block by seq; at the end it begins again with every 4th,
  8th, and so on: the whole outage stays visible, ever more coarsely.

Pure but for reading. The agent's housekeeping enters.
"""

from collections.abc import Mapping

from buffer.block import KIND_DATA, Header, open_envelope
from buffer.changes import Account, Change, Eviction, Thinned
from buffer.errors import BlockInvalid
from buffer.holes import THIN_EVERY, THIN_UPTO
from buffer.intervals import Intervals
from buffer.tables import Tables

BATCH = 64
"""Payloads that go with one event: some ten milliseconds of proving, and an event costs a few bytes a block."""
LOOK = 4096
"""Rows that one look walks over at most."""
MOST_THINNED = 1 << 20
THIN_LOOKS = 4
"""Looks that one slice of thinning takes: where a commit waits for room, the end of a round must not be all it gets."""
_NEWEST_STAY = 16
"""So many blocks at the end of a stream stay, whatever the policy: they may be on their way."""


class Evictor:
    """Finds what may go, for one opening of the store."""

    def __init__(self, tables: Tables, trusted: Mapping[bytes, bytes]) -> None:
        self._tables = tables
        self._trusted = trusted
        self._bare: dict[str, Intervals] = {}

    def oldest(self, stream: str, within: Intervals, reason: str, least: int = 1) -> Eviction | None:
        """Give the oldest payloads among these positions; None where there are fewer than `least`, or none yet."""
        bare = self._bare.setdefault(stream, Intervals())
        for first, last in within:
            for a, b in bare.gaps(first, last):
                b = min(b, a + LOOK - 1)  # noqa: PLW2901 - a look is bounded
                rows = self._tables.payloads(stream, a, b, BATCH)
                if 0 < len(rows) < least:
                    return None
                bare.add_range(a, rows[-1][0] if len(rows) == BATCH else b)
                return _eviction(stream, self._proven(stream, rows), reason)
        return None

    def oldest_candidate(self, stream: str, within: Intervals) -> int:
        """Give the first of these positions that may still have a payload, 0 where there is none."""
        bare = self._bare.get(stream, Intervals())
        return next((a for first, last in within for a, _ in bare.gaps(first, last)), 0)

    def newest(self, stream: str, within: Intervals) -> Eviction | None:
        """Give the newest payloads among these positions, but for the last few."""
        bare = self._bare.setdefault(stream, Intervals())
        end = self._tables.last_position(stream) - _NEWEST_STAY
        gaps = [gap for first, last in within if first <= end for gap in bare.gaps(first, min(last, end))]
        found: list[tuple[int, Header]] = []
        for a, b in reversed(gaps):
            a = max(a, b - LOOK + 1)  # noqa: PLW2901 - a look is bounded
            room = BATCH - len(found)
            rows = self._tables.payloads(stream, a, b, room, newest=True)
            bare.add_range(rows[0][0] if len(rows) == room else a, b)
            found = self._proven(stream, rows) + found
            if len(found) >= BATCH or b - a + 1 == LOOK:
                break
        return _eviction(stream, found, "newest")

    def thin(self, stream: str, within: Intervals) -> tuple[Change, ...]:
        """Give the next payloads that thinning takes, and how far it has come then."""
        number, end = self._tables.number(stream), self._tables.last_position(stream) - _NEWEST_STAY
        begun = every, upto = (
            self._tables.note(f"{THIN_EVERY}-{number}", 2),
            self._tables.note(f"{THIN_UPTO}-{number}"),
        )
        found: dict[int, Header] = {}
        for _ in range(THIN_LOOKS):
            left = within.overlap(Intervals([(upto + 1, end)] if upto < end else []))
            if not left and (every >= MOST_THINNED or not upto):
                break
            if not left:
                every, upto = every * 2, 0
                continue
            first, last = next(iter(left))
            last = min(last, first + LOOK - 1)
            rows = self._tables.payloads(stream, first, last, BATCH, keep_every=every)
            upto = rows[-1][0] if len(rows) == BATCH else last
            found.update(self._proven(stream, rows))
            if len(found) >= BATCH:
                break
        eviction = _eviction(stream, sorted(found.items()), "thin")
        thinned = [Thinned(stream, every, upto)] if (every, upto) != begun else []
        return (*([eviction] if eviction else []), *thinned)

    def _proven(self, stream: str, rows: list[tuple[int, bytes]]) -> list[tuple[int, Header]]:
        """Keep what is data. What is not proven is left to the scrub, which sets it aside."""
        found = []
        for position, envelope in rows:
            try:
                header = open_envelope(envelope, self._trusted)
            except BlockInvalid:
                continue
            if header.kind == KIND_DATA and (header.stream, header.seq) == (stream, position):
                found.append((position, header))
        return found


def _eviction(stream: str, found: list[tuple[int, Header]], reason: str) -> Eviction | None:
    if not found:
        return None
    headers = [header for _, header in found]
    account = Account(
        stream,
        headers[0].seq,
        headers[-1].seq,
        len(headers),
        sum(header.readings for header in headers),
        headers[0].wall_ns,
        headers[-1].wall_ns,
    )
    return Eviction(account, tuple(position for position, _ in found), reason)
