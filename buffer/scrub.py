"""Scrubbing: every row is proven again, a few at a time, and what does not hold is named.

What is always true here:

- SQLite is not relied upon to notice damage: one flipped bit goes unseen by `integrity_check` nine times in ten.
- A row is sound where its envelope is proven, its stream and seq are those of its place, and its payload is the signed
  one, or is gone for a reason that stands beside it. A place without a row is sound where `absent` says why.
- Nothing is changed here: what was found is told by an event and taken away in the same commit.

Pure but for reading. `buffer.store` enters.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from buffer.block import KIND_DATA, Block, Header, check_payload, open_envelope
from buffer.changes import DAMAGED, LOST, NO_ROW, PRUNED, REASON, Account, Damage
from buffer.errors import BlockInvalid
from buffer.tables import Tables


class Scrubbed(NamedTuple):
    """Rows up to `last` were looked at, and these were not sound."""

    last: int
    damages: tuple[Damage, ...]


class _Fault(NamedTuple):
    position: int
    reason: str
    header: Header | None
    """None where the envelope is not proven; else only the payload is damaged."""


def scrub(tables: Tables, trusted: Mapping[bytes, bytes], stream: str, first: int, most: int) -> Scrubbed:
    """Prove at most so many rows of a stream from a position on."""
    end = tables.last_position(stream)
    rows = tables.marked_rows(stream, first, end, most)
    last = rows[-1][0] if len(rows) == most else end
    faults = [_Fault(position, NO_ROW, None) for position in _missing(tables, stream, first, last, rows)]
    for position, block, gone in rows:
        if position <= last and (fault := judge(trusted, stream, position, block, gone)) is not None:
            faults.append(fault)
    return Scrubbed(last, tuple(_damages(stream, sorted(faults, key=lambda fault: fault.position))))


def judge(trusted: Mapping[bytes, bytes], stream: str, position: int, block: Block, gone: int | None) -> _Fault | None:
    """Say what is wrong with a row, None where it is sound."""
    try:
        header = open_envelope(block.envelope, trusted)
    except BlockInvalid as error:
        return _Fault(position, error.reason, None)
    if (header.stream, header.seq) != (stream, position):
        return _Fault(position, "misnumbered", None)
    explains = header.kind != KIND_DATA
    if block.payload is None:
        reason = "withheld" if explains else "" if REASON.get(gone or 0) else "evicted"
    else:
        try:
            check_payload(block, header)
        except BlockInvalid as error:
            reason = error.reason
        else:
            reason = ""
    return _Fault(position, reason, None if explains else header) if reason else None


def _missing(
    tables: Tables, stream: str, first: int, last: int, rows: list[tuple[int, Block, int | None]]
) -> list[int]:
    there = {position for position, _, _ in rows}
    if len(there) == last - first + 1:
        return []
    known = tables.absent(stream, first, last, DAMAGED, LOST, PRUNED)
    return [position for a, b in known.gaps(first, last) for position in range(a, b + 1) if position not in there]


def _damages(stream: str, faults: list[_Fault]) -> list[Damage]:
    """Make one damage of a run that is wrong for one reason; a payload alone is a damage of its own."""
    found = []
    for _, run in groupby(
        enumerate(faults), key=lambda item: (item[1].position - item[0], item[1].reason, _own(item[1]))
    ):
        members = [fault for _, fault in run]
        header = members[0].header
        account = Account(
            stream,
            members[0].position,
            members[-1].position,
            len(members),
            None if header is None else header.readings,
        )
        found.append(Damage(account, members[0].reason, envelope_good=header is not None))
    return found


def _own(fault: _Fault) -> int:
    return fault.position if fault.header is not None else 0
