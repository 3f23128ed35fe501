"""Proving a chain, with nothing but blocks and public keys: a buffer file in order, or a live topic in disorder.

What is always true here:

- Nothing of a block is believed before its signature; one that is not proven only adds to the list of faults.
- Proven blocks are kept as *runs*: stretches in which each block names the one before by its digest, numbers grow by
  one and totals add up. A block extends a run, joins two, or begins one; so memory grows with the gaps alone.
- A number of a stream belongs to one block, whatever its epoch. A second, different one is a fork: two blocks of one
  identity, or two that name one predecessor. The same bytes again are a repeat, which at-least-once delivery allows.
- Which of the two it was is known of the last `RECENT` blocks, or of all with `remember`; else it is `again`, and
  unexplained.
- A payload that is gone leaves a signed hole; a block that is gone leaves a gap, with its readings and two edges.
- A tail that is cut off cannot be seen from inside: `expect_head` says what the last block must be.

The tools enter, and the store at start.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from buffer.block import Block, Header, Totals, check_payload, open_envelope, payload_bytes, trust
from buffer.columnar import Payload, decode_payload
from buffer.errors import BlockInvalid
from buffer.frame import Layout
from buffer.intervals import Intervals

RECENT = 4096
MAX_FAULTS = 1000
"""Faults beyond this are counted and not described."""

Verdict = Literal["complete", "unexplained", "unreadable"]
"""All there and every hole signed; something is missing or wrong; nothing at all could be proven."""


class Edge(NamedTuple):
    """A block next to something worth naming."""

    epoch: bytes
    seq: int
    boot_id: bytes
    boot_ns: int
    wall_ns: int
    interval: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Blocks that are missing. `before` is None where the stream's beginning is.

    `readings` is how many they held, by the totals on both sides.
    """

    gateway: str
    stream: str
    first_seq: int
    last_seq: int
    readings: int
    before: Edge | None
    after: Edge


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not be.

    Of the bytes: envelope-size, not-sign1, wrong-type, foreign-key, bad-signature, header, version, do-not-interpret,
    payload-length, payload-digest. Of the chain: fork, again, broken-link, misnumbered, totals, head-missing.
    `at` is the label the block was fed with; the names and the number are empty where nothing was proven.
    """

    reason: str
    at: object = None
    gateway: str = ""
    stream: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What was proven of one epoch of a stream."""

    gateway: str
    stream: str
    epoch: bytes
    blocks: int
    readings: int
    evicted: int
    first: Edge
    last: Edge


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `heads` are the digests of the last blocks, by (gateway, stream)."""

    verdict: Verdict
    blocks: int
    readings: int
    evicted: int
    repeats: int
    faults: tuple[Fault, ...]
    fault_count: int
    gaps: tuple[Gap, ...]
    epochs: tuple[EpochReport, ...]
    heads: dict[tuple[str, str], bytes]

    def count(self, *reasons: str) -> int:
        """Count the described faults of these reasons."""
        return sum(fault.reason in reasons for fault in self.faults)


@dataclass(slots=True)
class _Run:
    """A proven stretch. `before` are the totals before its first block."""

    prev: bytes | None
    first: Edge
    before: int
    last: Edge
    digest: bytes
    totals: Totals


@dataclass(slots=True)
class _Epoch:
    first: Edge
    last: Edge
    blocks: int = 0
    readings: int = 0
    evicted: int = 0


@dataclass(slots=True)
class _Chain:
    """Everything known of one stream."""

    seen: Intervals = field(default_factory=Intervals)
    tails: dict[bytes, _Run] = field(default_factory=dict)
    fronts: dict[bytes | None, _Run] = field(default_factory=dict)
    epochs: dict[bytes, _Epoch] = field(default_factory=dict)


class Verifier:
    """Takes blocks and gives a report, at any time.

    `trusted` are raw public keys. `whole` says that the beginning of every stream must be there. `remember` keeps the
    digest of every block (32 bytes each), so that a late repeat and a late fork can be told apart.
    """

    def __init__(self, trusted: Iterable[bytes], *, whole: bool = True, remember: bool = False) -> None:
        self._keys = trust(tuple(trusted))
        self._whole = whole
        self._remember = remember
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._recent: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._expected: dict[bytes, bool] = {}
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._repeats = 0

    def feed(self, envelope: bytes, payload: bytes | None, at: object = None) -> Header | None:
        """Take a block; give its header if the envelope is proven. `at` labels it in faults."""
        try:
            header = open_envelope(envelope, self._keys)
        except BlockInvalid as error:
            self._fault(Fault(error.reason, at))
            return None
        block = Block(envelope, payload)
        chain = self._chains.setdefault((header.gateway, header.stream), _Chain())
        digest = block.digest
        if header.seq in chain.seen:
            self._judge_again(header, block, digest, at)
        else:
            self._note(header, digest)
            chain.seen.add(header.seq)
            self._link(chain, header, digest, at)
            self._count(chain, header, block, at)
        return header

    def expect_head(self, digest: bytes) -> None:
        """Say that the block of this digest must be among those fed, before or after."""
        ends = {run.digest for chain in self._chains.values() for run in chain.tails.values()}
        self._expected[digest] = digest in ends or digest in self._recent.values()

    def report(self) -> Report:
        """Say what is known by now."""
        chains = sorted(self._chains.items())
        missing = [Fault("head-missing", digest) for digest, found in self._expected.items() if not found]
        broken = [fault for name, chain in chains for fault in _broken_links(name, chain)]
        gaps = tuple(gap for name, chain in chains for gap in _gaps(name, chain, self._whole))
        epochs = tuple(_epoch_report(name, key, epoch) for name, chain in chains for key, epoch in chain.epochs.items())
        faults = (*self._faults, *broken, *missing)
        blocks = sum(epoch.blocks for epoch in epochs)
        verdict: Verdict = "unexplained" if faults or gaps else "complete"
        return Report(
            verdict=verdict if blocks else "unreadable",
            blocks=blocks,
            readings=sum(epoch.readings for epoch in epochs),
            evicted=sum(epoch.evicted for epoch in epochs),
            repeats=self._repeats,
            faults=faults,
            fault_count=self._fault_count + len(broken) + len(missing),
            gaps=gaps,
            epochs=epochs,
            heads={name: _ordered(chain)[-1].digest for name, chain in chains},
        )

    def _fault(self, fault: Fault) -> None:
        self._fault_count += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(fault)

    def _blame(self, reason: str, header: Header, at: object) -> None:
        self._fault(Fault(reason, at, header.gateway, header.stream, header.seq))

    def _judge_again(self, header: Header, block: Block, digest: bytes, at: object) -> None:
        known = self._recent.get((header.gateway, header.stream, header.seq))
        if known is None:
            self._blame("again", header, at)
        elif known != digest:
            self._blame("fork", header, at)
        elif self._payload_good(header, block, at):
            self._repeats += 1

    def _note(self, header: Header, digest: bytes) -> None:
        self._recent[header.gateway, header.stream, header.seq] = digest
        if len(self._recent) > RECENT and not self._remember:
            self._recent.popitem(last=False)
        if digest in self._expected:
            self._expected[digest] = True

    def _payload_good(self, header: Header, block: Block, at: object) -> bool:
        try:
            check_payload(block, header)
        except BlockInvalid as error:
            if error.reason != "evicted":
                self._blame(error.reason, header, at)
                return False
        return True

    def _count(self, chain: _Chain, header: Header, block: Block, at: object) -> None:
        edge = _edge(header)
        epoch = chain.epochs.setdefault(header.epoch, _Epoch(edge, edge))
        epoch.first = min(epoch.first, edge, key=_seq)
        epoch.last = max(epoch.last, edge, key=_seq)
        epoch.blocks += 1
        epoch.readings += header.readings
        epoch.evicted += block.payload is None
        self._payload_good(header, block, at)

    def _link(self, chain: _Chain, header: Header, digest: bytes, at: object) -> None:
        """Extend the run that ends before this block, join it to the one that begins after it, or begin one."""
        before = header.totals.readings - header.readings
        run = _Run(header.prev, _edge(header), before, _edge(header), digest, header.totals)
        if (header.prev is None) != (header.seq == 1) or (header.prev is None and before):
            self._blame("misnumbered", header, at)
        if header.prev is not None and (left := chain.tails.pop(header.prev, None)) is not None:
            run = self._join(left, run, header, at)
        elif chain.fronts.setdefault(header.prev, run) is not run:
            self._blame("fork", header, at)
        if (right := chain.fronts.pop(digest, None)) is not None:
            run = self._join(run, right, header, at)
        chain.tails[run.digest] = run

    def _join(self, left: _Run, right: _Run, header: Header, at: object) -> _Run:
        """Make `left` reach to the end of `right`."""
        if right.first.seq != left.last.seq + 1:
            self._blame("misnumbered", header, at)
        if right.before != left.totals.readings or not _grows(left.totals, right.totals):
            self._blame("totals", header, at)
        left.last, left.digest, left.totals = right.last, right.digest, right.totals
        return left


def payload_of(block: Block, header: Header, layouts: Sequence[Layout]) -> Payload:
    """Give what a proven block holds. `layouts` are those of its catalogue, in order. Raises BlockInvalid.

    Reason `counts`: the header signs other numbers of frames or readings than the payload holds.
    """
    payload = decode_payload(payload_bytes(block, header), layouts)
    if (payload.count_frames(), payload.count_readings(layouts)) != (header.frames, header.readings):
        raise BlockInvalid("counts")
    return payload


def _edge(header: Header) -> Edge:
    return Edge(header.epoch, header.seq, header.boot_id, header.boot_ns, header.wall_ns, header.interval)


def _seq(edge: Edge) -> int:
    return edge.seq


def _grows(before: Totals, after: Totals) -> bool:
    return after.ticks_missed >= before.ticks_missed and after.readings_dropped >= before.readings_dropped


def _ordered(chain: _Chain) -> list[_Run]:
    return sorted(chain.tails.values(), key=lambda run: run.first.seq)


def _gaps(name: tuple[str, str], chain: _Chain, whole: bool) -> Iterator[Gap]:
    runs = _ordered(chain)
    first = runs[0]
    if whole and first.first.seq > 1:
        yield Gap(*name, 1, first.first.seq - 1, first.before, None, first.first)
    for left, right in pairwise(runs):
        if right.first.seq > left.last.seq + 1:
            missing = right.before - left.totals.readings
            yield Gap(*name, left.last.seq + 1, right.first.seq - 1, missing, left.last, right.first)


def _broken_links(name: tuple[str, str], chain: _Chain) -> Iterator[Fault]:
    """Give neighbours by number of which the later names another predecessor."""
    for left, right in pairwise(_ordered(chain)):
        if right.first.seq <= left.last.seq + 1:
            yield Fault("broken-link", None, *name, right.first.seq)


def _epoch_report(name: tuple[str, str], key: bytes, epoch: _Epoch) -> EpochReport:
    return EpochReport(*name, key, epoch.blocks, epoch.readings, epoch.evicted, epoch.first, epoch.last)
