"""Which headers and events go when they take too much: the oldest unbroken run whose data is gone.

What is always true here:

- A header goes only after its payload (B5). What explains the chain stays: layouts, keys, breaks (a `start` after a
  loss, `damaged`, `lost`) and prunings. So does everything behind the first payload that is still held, and the clock
  anchors of its boot, by which its time is placed.
- The `pruned` event names the run's last digest, so the chain stays linked over it, and the Merkle tree hash of all its
  digests, so that a header kept elsewhere can be proven to have been there.
- The run is proven by one signature, its last, and by the links: each block names the one before.
- Where an `evicted` goes that speaks of a header which stays, its word is said again.

Pure but for reading. The agent's housekeeping enters.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from buffer.accounts import Accounts
from buffer.block import KIND_DATA, KIND_EVENTS, Block, Header, open_envelope, payload_bytes, read_header
from buffer.changes import DAMAGED, DELIVERED, GONE, LOST, PRUNED, REASON, Account, Again, Pruning
from buffer.columnar import decode_payload
from buffer.errors import BlockInvalid
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.tables import Tables

BATCH = 256
"""Headers that one event replaces: some ten milliseconds of hashing."""
LEAST = 8
"""A shorter run between two blocks that stay is left there: its event would take as much."""
LOOK = 4096
"""Rows over which one look for the first payload walks at most."""
_STAY = frozenset({PRUNED, DAMAGED, LOST, "key-rotated", "key-lost", "key-enrolled"})
_ANCHORS = frozenset({"clock-synchronised", "clock-held"})

_Row = tuple[int, Block, int | None]


class _Pruned(NamedTuple):
    header: Header
    digest: bytes
    lost: bool
    """Whether its payload was evicted undelivered, or damaged."""
    events: tuple[Event, ...]


class Pruner:
    """Finds what may go, for one opening of the store."""

    def __init__(self, tables: Tables, trusted: Mapping[bytes, bytes]) -> None:
        self._tables = tables
        self._trusted = trusted
        self._begin: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def oldest(self, stream: str, within: Intervals) -> Pruning | None:
        """Give the oldest run among these positions; None where there is none, or none yet: a look is bounded."""
        begin, boot = self._begin.get(stream, 1), self._oldest_boot(stream)
        if boot is None:
            return None
        for a, b in within:
            if b < begin:
                continue
            rows = self._tables.marked_rows(stream, max(a, begin), b, BATCH)
            run, self._begin[stream] = _first_run(rows, max(a, begin), boot)
            return self._pruning(stream, run)
        return None

    def _oldest_boot(self, stream: str) -> bytes | None:
        """Give the boot of the oldest data that is held, of the last block where none is; None where more is to see."""
        end = self._tables.last_position(stream)
        first = self._held.get(stream, 1)
        last = min(end, first + LOOK - 1)
        for position, envelope in self._tables.payloads(stream, first, last, LOOK):
            header = _header(position, Block(envelope, None))
            if header is not None and header.kind == KIND_DATA:
                self._held[stream] = position
                return header.boot_id
        self._held[stream] = last
        if last < end:
            return None
        headers = (_header(position, block) for position, block in self._tables.rows(stream, end, end))
        return next((header.boot_id for header in headers if header is not None), b"")

    def _pruning(self, stream: str, run: Sequence[_Pruned]) -> Pruning | None:
        if not run or not self._chained(stream, run):
            return None
        headers = [one.header for one in run]
        readings = sum(header.readings for header in headers)
        account = Account(
            stream, headers[0].seq, headers[-1].seq, len(run), readings, headers[0].wall_ns, headers[-1].wall_ns
        )
        root = merkle_root([one.digest for one in run])
        again = tuple(self._standing(stream, run))
        return Pruning(account, run[-1].digest, root, sum(one.lost for one in run), again)

    def _standing(self, stream: str, run: Sequence[_Pruned]) -> Iterator[Again]:
        """Give the words of a run that rows before it still need."""
        for reason, spoken in _spoken(run).items():
            for first, last in spoken.upto(run[0].header.seq - 1):
                while rows := self._tables.gone(stream, first, last, LOOK):
                    found = [position for position, gone in rows if gone == GONE[reason]]
                    if found:
                        yield Again(Account(stream, found[0], found[-1], len(found), None), reason)
                    first = rows[-1][0] + 1  # noqa: PLW2901 - a look is bounded

    def _chained(self, stream: str, run: Sequence[_Pruned]) -> bool:
        end = run[-1].header.seq
        for _, block in self._tables.rows(stream, end, end):
            try:
                open_envelope(block.envelope, self._trusted)
            except BlockInvalid:
                return False
        linked = all(after.header.prev == before.digest for before, after in pairwise(run))
        return linked and all(one.header.stream == stream for one in run)


def merkle_root(digests: Sequence[bytes]) -> bytes:
    """Give the Merkle tree hash of RFC 9162, section 2.1.1, with SHA-256."""
    if not digests:
        return sha256().digest()
    if len(digests) == 1:
        return sha256(b"\0" + digests[0]).digest()
    half = 1 << (len(digests) - 1).bit_length() - 1
    return sha256(b"\1" + merkle_root(digests[:half]) + merkle_root(digests[half:])).digest()


def _first_run(rows: Iterable[_Row], first: int, boot: bytes) -> tuple[list[_Pruned], int]:
    """Give the first run that is long enough, and where the next look begins."""
    run: list[_Pruned] = []
    position = first - 1
    for position, block, gone in rows:
        header = _header(position, block)
        if header is not None and header.kind == KIND_DATA and block.payload is not None:
            return (run, position) if len(run) >= LEAST else ([], _again(run, position))
        events = None if header is None else _going(header, block, boot)
        broken = bool(run) and position != run[-1].header.seq + 1
        if run and (broken or events is None):
            if len(run) >= LEAST:
                return run, position
            run = []
        if header is not None and events is not None:
            lost = REASON.get(gone or 0, DELIVERED) != DELIVERED
            run.append(_Pruned(header, block.digest, lost, events))
    return (run, position + 1) if len(run) >= LEAST else ([], _again(run, position + 1))


def _again(run: Sequence[_Pruned], position: int) -> int:
    """Say where the next look begins: with a run that may still grow, else there."""
    return run[0].header.seq if run else position


def _spoken(run: Iterable[_Pruned]) -> dict[str, Intervals]:
    """Give the numbers that the events of a run say were evicted, by reason."""
    accounts = Accounts()
    for one in run:
        for event in one.events:
            accounts.note(event, one.header.seq)
    return {reason: numbers for reason, numbers in accounts.evicted.items() if reason in GONE}


def _header(position: int, block: Block) -> Header | None:
    """Read a header by itself; None where it is damaged, which stays for the scrub to find."""
    try:
        header = read_header(block.envelope)
    except BlockInvalid:
        return None
    return header if header.seq == position else None


def _going(header: Header, block: Block, boot: bytes) -> tuple[Event, ...] | None:
    """Give the events of what may go, None where it stays."""
    if header.kind == KIND_DATA:
        return () if block.payload is None else None
    if header.kind != KIND_EVENTS:
        return None
    try:
        events = decode_payload(payload_bytes(block, header), ()).events
    except BlockInvalid:
        return None
    anchors = _ANCHORS if header.boot_id == boot else frozenset()
    return None if any(_stays(event) or event.type in anchors for event in events) else tuple(events)


def _stays(event: Event) -> bool:
    return event.type in _STAY or (event.type == "start" and dict(event.data).get("known") == "lost")
