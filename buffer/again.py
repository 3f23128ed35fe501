"""Which words must be said again: those of holes that stay, where the block that held the word has gone.

What is always true here:

- What a damaged block said cannot be read any more. So all holes are told again that any block up to the last one may
  have spoken of: from the marks of the rows, and from `absent`.
- That goes in slices. `Owed` notes in the file how far it has come, and up to which block no word is needed any more:
  what is damaged at or before it has been, or will be, said again behind it. So a rotten medium is walked over once.
- Evictions are told as they were first: a word of one reason may span rows that hold their payload, never rows that
  lost it for another reason. All else is told to the number.

Pure but for reading. `agent.telling` and housekeeping enter.
"""

from collections.abc import Iterator
from itertools import groupby

from buffer.changes import DAMAGED, LOST, PRUNED, REASON, Account, Again, Change, Owed
from buffer.holes import AGAIN_FIRST, AGAIN_UPTO
from buffer.intervals import Intervals
from buffer.tables import Tables

LOOK = 1024
"""Rows that one slice walks over: some milliseconds."""
MOST = 256
"""Words a slice: about ten kilobytes."""


def owed(tables: Tables, stream: str) -> tuple[int, int]:
    """Give the first position whose words are owed, and the last one; none are where the first is behind the last."""
    number = tables.number(stream)
    return tables.note(f"{AGAIN_FIRST}-{number}", 1), tables.note(f"{AGAIN_UPTO}-{number}")


def hurt(tables: Tables, stream: str, position: int) -> tuple[Change, ...]:
    """Give the first slice of what must be said again because a block is damaged; none where it is under way."""
    if position <= owed(tables, stream)[1]:
        return ()
    return due(tables, stream, 1, tables.last_position(stream))


def due(tables: Tables, stream: str, first: int, upto: int) -> tuple[Change, ...]:
    """Give the next slice of what is owed from a position on; nothing where nothing is."""
    if first > upto:
        return ()
    rows = tables.gone(stream, first, upto, LOOK)
    last = rows[-1][0] if len(rows) == LOOK else upto
    words = sorted((*_evicted(stream, rows), *_absent(tables, stream, first, last, rows)), key=_begin)
    if len(words) > MOST:
        last = _begin(words[MOST]) - 1
    return (*words[:MOST], Owed(stream, last + 1, upto))


def _begin(word: Again) -> int:
    return word.account.first


def _evicted(stream: str, rows: list[tuple[int, object]]) -> Iterator[Again]:
    """Give a word for each stretch whose payloads went for one reason."""
    marked = [(position, _reason(gone)) for position, gone in rows]
    bare = [(position, reason) for position, reason in marked if reason not in ("", DAMAGED)]
    for reason, run in groupby(bare, key=lambda item: item[1]):
        positions = [position for position, _ in run]
        yield Again(Account(stream, positions[0], positions[-1], len(positions), None), reason)


def _absent(tables: Tables, stream: str, first: int, last: int, rows: list[tuple[int, object]]) -> Iterator[Again]:
    """Give a word for each run that is not there at all, or whose payload is damaged."""
    bare = Intervals((position, position) for position, gone in rows if _reason(gone) == DAMAGED)
    for reason in (DAMAGED, LOST, PRUNED):
        found = tables.absent(stream, first, last, reason)
        for a, b in found.union(bare) if reason == DAMAGED else found:
            yield Again(Account(stream, a, b, b - a + 1, None), reason)


def _reason(gone: object) -> str:
    return REASON.get(gone, "") if isinstance(gone, int) else ""
