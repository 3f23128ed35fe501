"""Proving a chain, with nothing but blocks and public keys: a buffer file in order, or a live topic in disorder.

What is always true here:

- Nothing of a block is believed before its signature; one that is not proven only adds to the list of faults.
- A number of a stream belongs to one block, whatever its epoch. A second, different one is a fork: two blocks of one
  identity, or two that name one predecessor. The same bytes again are a repeat, which at-least-once delivery allows.
- Which of the two it was is known of the last `RECENT` blocks, or of all with `remember`; else it is `again`, and
  unexplained.
- Volatile blocks stand on a branch of their own until a block that is not names their last one. A branch that shares
  numbers with the chain was abandoned: no fork.
- A payload that is gone leaves a signed hole; a block that is gone leaves a gap, signed where an event covers it.
- A tail that is cut off cannot be seen from inside: `expect_head` says what the last block must be.
- Memory grows with gaps, holes and epochs, not with blocks.

The tools enter, and the store at start.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from buffer.accounts import events_of
from buffer.block import Block, Header, check_payload, open_envelope, payload_bytes
from buffer.columnar import Payload, decode_payload
from buffer.errors import BlockInvalid
from buffer.findings import Findings, Named, report
from buffer.frame import Layout
from buffer.line import Line
from buffer.report import Abandoned, Edge, EpochReport, Fault, Gap, Hole, Ledger, Report, Verdict
from buffer.trust import KeyRing

__all__ = [
    "Abandoned", "Edge", "EpochReport", "Fault", "Gap", "Hole", "Ledger", "Report", "Verdict", "Verifier", "payload_of",
]  # fmt: skip

RECENT = 4096
MAX_FAULTS = 1000
"""Faults beyond this are counted and not described."""

_Identity = tuple[int, bytes, int]
"""Of a chain, the epoch where the block is volatile, and the number."""


@dataclass(slots=True)
class _Chain:
    """One stream: its line, and the volatile branches that nothing goes on from yet."""

    number: int
    main: Line = field(default_factory=Line)
    branches: dict[bytes, Line] = field(default_factory=dict)
    confirmed: set[bytes] = field(default_factory=set)

    def line_of(self, header: Header) -> Line:
        """Give the line that a block belongs to."""
        if not header.volatile or header.epoch in self.confirmed:
            return self.main
        return self.branches.setdefault(header.epoch, Line())

    def confirm(self, header: Header) -> tuple[list[Fault], list[str]]:
        """Make branches that a block goes on from part of the chain; give what is wrong in them and where they meet."""
        found = [epoch for epoch, branch in self.branches.items() if branch.runs.ends_in(header.prev)]
        self.confirmed.update(found)
        gone = [self.branches.pop(epoch) for epoch in found]
        return [fault for line in gone for fault in line.wrong], [
            one for line in gone for one in self.main.absorb(line)
        ]

    def ends_in(self, digest: bytes) -> bool:
        """Say whether a stretch of the chain, or of a branch, ends in this block."""
        return any(line.runs.ends_in(digest) for line in self._lines())

    def begins_behind(self, digest: bytes) -> bool:
        """Say whether a stretch of the chain, or of a branch, begins right behind this block."""
        return any(line.runs.begins_behind(digest) for line in self._lines())

    def join(self, other: "_Chain") -> bool:
        """Take in a chain that was this one under another label; refuse where both hold blocks of one number."""
        if self.main.overlaps(other.main) or self.branches.keys() & other.branches.keys():
            return False
        self.main.absorb(other.main)
        self.branches.update(other.branches)
        self.confirmed.update(other.confirmed)
        return True

    def _lines(self) -> tuple[Line, ...]:
        return (self.main, *self.branches.values())


class Verifier:
    """Takes blocks and gives a report, at any time.

    `trusted` are raw public keys. `whole` says that the beginning of every stream must be there. `remember` keeps the
    digest of every block (32 bytes each), so that a late repeat and a late fork can be told apart.
    """

    def __init__(self, trusted: Iterable[bytes], *, whole: bool = True, remember: bool = False) -> None:
        self._ring = KeyRing(trusted)
        self._whole = whole
        self._remember = remember
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._recent: OrderedDict[_Identity, bytes] = OrderedDict()
        self._expected: dict[bytes, bool] = {}
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._repeats = 0
        self._renamed: list[tuple[str, str, str]] = []

    def feed(self, envelope: bytes, payload: bytes | None, at: object = None) -> Header | None:
        """Take a block; give its header if the envelope is proven. `at` labels it in faults."""
        try:
            header = open_envelope(envelope, self._ring.keys)
        except BlockInvalid as error:
            self._fault(Fault(error.reason, at))
            return None
        block = Block(envelope, payload)
        chain = self._chain(header, block.digest)
        identity = (chain.number, header.epoch if header.volatile else b"", header.seq)
        line = chain.line_of(header)
        if header.seq in line.seen:
            self._judge_again(line, identity, header, block, at)
        else:
            self._add(chain, line, identity, header, block, at)
        return header

    def expect_head(self, digest: bytes) -> None:
        """Say that the block of this digest must be among those fed, before or after."""
        known = any(chain.ends_in(digest) for chain in self._chains.values())
        self._expected[digest] = known or digest in self._recent.values()

    def report(self) -> Report:
        """Say what is known by now."""
        missing = [Fault("head-missing", digest) for digest, found in self._expected.items() if not found]
        told = (*self._faults, *missing)
        named: Named = {}
        for name, chain in self._chains.items():
            named.setdefault(chain.number, (name, chain.main, chain.branches))
            named[chain.number] = (name, *named[chain.number][1:])
        findings = Findings(told, self._fault_count + len(missing), self._repeats, tuple(self._renamed))
        return self._with_keys(report(named, findings, whole=self._whole))

    def _with_keys(self, found: Report) -> Report:
        """Add what is wrong with keys to a report."""
        abandoned = {branch.epoch for branch in found.abandoned}
        faults = [Fault(one.reason, None, *one[1:]) for one in islice(self._ring.faults(abandoned), MAX_FAULTS)]
        if not faults:
            return found
        count = found.fault_count + self._ring.count_faults(abandoned)
        return replace(found, verdict="unexplained", faults=(*found.faults, *faults), fault_count=count)

    def _chain(self, header: Header, digest: bytes) -> _Chain:
        """Give the chain of a block: the same under every label that it goes on with, or that goes on with it."""
        name = (header.gateway, header.stream)
        chain = self._chains.get(name)
        for gateway, other, follows in self._relatives(header, digest, chain):
            if chain is None or other is chain or chain.join(other):
                self._rekey(other, chain or other)
                chain = chain or other
                names = (header.gateway, gateway) if follows else (gateway, header.gateway)
                self._renamed.append((header.stream, *names))
        self._chains[name] = chain or _Chain(len(self._chains))
        return self._chains[name]

    def _relatives(self, header: Header, digest: bytes, chain: _Chain | None) -> Iterator[tuple[str, _Chain, bool]]:
        """Give the chains of the stream under other labels that meet this block, and whether they follow it."""
        for (gateway, stream), other in tuple(self._chains.items()):
            if stream == header.stream and other is not chain:
                follows = other.begins_behind(digest)
                if follows or (header.prev is not None and other.ends_in(header.prev)):
                    yield gateway, other, follows

    def _rekey(self, gone: _Chain, kept: _Chain) -> None:
        """Let one chain stand for another that it has taken in."""
        if gone is kept:
            return
        self._chains = {name: kept if one is gone else one for name, one in self._chains.items()}
        self._recent = OrderedDict(
            ((kept.number if number == gone.number else number, epoch, seq), digest)
            for (number, epoch, seq), digest in self._recent.items()
        )

    def _fault(self, fault: Fault) -> None:
        self._fault_count += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(fault)

    def _blame(self, reasons: Iterable[str], header: Header, at: object) -> None:
        for reason in reasons:
            self._fault(Fault(reason, at, header.gateway, header.stream, header.seq))

    def _judge_again(self, line: Line, identity: _Identity, header: Header, block: Block, at: object) -> None:
        known = self._recent.get(identity)
        if known is None:
            self._blame(["again"], header, at)
        elif known != block.digest:
            self._blame(["fork"], header, at)
        elif self._payload_good(header, block, at):
            self._repeats += 1
            self._learn(line, header, block)
            if block.payload is not None:
                line.fill(header)

    def _add(self, chain: _Chain, line: Line, identity: _Identity, header: Header, block: Block, at: object) -> None:
        digest = block.digest
        self._note(identity, digest)
        self._ring.note(header)
        if not header.volatile:
            inside, met = chain.confirm(header)
            for fault in inside:
                self._fault(fault)
            self._blame(met, header, at)
        wrong = line.add(header, digest, evicted=block.payload is None)
        if line is chain.main:
            self._blame(wrong, header, at)
        else:
            line.wrong += [Fault(reason, at, header.gateway, header.stream, header.seq) for reason in wrong]
        if self._payload_good(header, block, at):
            self._learn(line, header, block)

    def _learn(self, line: Line, header: Header, block: Block) -> None:
        """Learn keys and accounts from the signed payload, whenever it comes."""
        events = events_of(block, header)
        self._ring.learn(header, events)
        for event in events:
            line.accounts.note(event, header.seq)

    def _note(self, identity: _Identity, digest: bytes) -> None:
        self._recent[identity] = digest
        if len(self._recent) > RECENT and not self._remember:
            self._recent.popitem(last=False)
        if digest in self._expected:
            self._expected[digest] = True

    def _payload_good(self, header: Header, block: Block, at: object) -> bool:
        try:
            check_payload(block, header)
        except BlockInvalid as error:
            if error.reason != "evicted":
                self._blame([error.reason], header, at)
                return False
        return True


def payload_of(block: Block, header: Header, layouts: Sequence[Layout]) -> Payload:
    """Give what a proven block holds. `layouts` are those of its catalogue, in order. Raises BlockInvalid.

    Reason `counts`: the header signs other numbers of frames or readings than the payload holds.
    """
    payload = decode_payload(payload_bytes(block, header), layouts)
    if (payload.count_frames(), payload.count_readings(layouts)) != (header.frames, header.readings):
        raise BlockInvalid("counts")
    return payload
