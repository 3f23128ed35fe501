"""From what a verifier knows to its report: what is missing, what explains it, what adds up.

What is always true here:

- A volatile branch that shares no number with the chain is its end; one that does was abandoned.
- A stretch that is missing is signed as far as events of account cover it, and a gap for the rest.
- Nothing known is changed by reporting it.

The verifier enters.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

from buffer.accounts import DAMAGED, LOST, PRUNED
from buffer.intervals import Intervals
from buffer.line import Line
from buffer.report import Abandoned, EpochReport, Fault, Gap, Hole, Ledger, Report, Verdict
from buffer.runs import Run, grows

Name = tuple[str, str]
"""Gateway and stream."""
Named = dict[int, tuple[Name, Line, Mapping[bytes, Line]]]
"""By chain: its latest name, its line, and its volatile branches by epoch."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was told while blocks came."""

    faults: tuple[Fault, ...]
    fault_count: int
    repeats: int
    renamed: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class _Account:
    """One stream, judged."""

    name: Name
    line: Line
    runs: tuple[Run, ...]
    faults: tuple[Fault, ...]
    gaps: tuple[Gap, ...]
    holes: tuple[Hole, ...]
    abandoned: tuple[Abandoned, ...]

    def ledger(self) -> Ledger:
        """Say what became of its blocks."""
        last = self.runs[-1].last.seq
        evicted: dict[str, int] = {}
        gone = dict.fromkeys((DAMAGED, LOST, PRUNED), 0)
        for hole in self.holes:
            blocks = hole.last_seq - hole.first_seq + 1
            if hole.reason in gone:
                gone[hole.reason] += blocks
            else:
                evicted[hole.reason] = evicted.get(hole.reason, 0) + blocks
        missing = sum(gap.last_seq - gap.first_seq + 1 for gap in self.gaps)
        firsts = [gap.first_seq for gap in self.gaps] + [hole.first_seq for hole in self.holes]
        first = min(self.runs[0].first.seq, *firsts) if firsts else self.runs[0].first.seq
        sealed = last - first + 1
        held = sealed - sum(evicted.values()) - sum(gone.values()) - missing
        return Ledger(sealed, held, evicted, gone[DAMAGED], gone[LOST], gone[PRUNED], missing)


def report(named: Named, findings: Findings, *, whole: bool) -> Report:
    """Make the report of some chains."""
    accounts = [_account(*chain, whole=whole) for chain in sorted(named.values(), key=lambda chain: chain[0])]
    faults = (*findings.faults, *(fault for account in accounts for fault in account.faults))
    fault_count = findings.fault_count + len(faults) - len(findings.faults)
    gaps = tuple(gap for account in accounts for gap in account.gaps)
    epochs = tuple(epoch for account in accounts for epoch in _epochs(account))
    blocks = sum(epoch.blocks for epoch in epochs)
    verdict: Verdict = "unexplained" if fault_count or gaps else "complete"
    return Report(
        verdict=verdict if blocks else "unreadable",
        blocks=blocks,
        readings=sum(epoch.readings for epoch in epochs),
        evicted=sum(epoch.evicted for epoch in epochs),
        repeats=findings.repeats,
        faults=faults,
        fault_count=fault_count,
        gaps=gaps,
        holes=tuple(hole for account in accounts for hole in account.holes),
        epochs=epochs,
        abandoned=tuple(branch for account in accounts for branch in account.abandoned),
        heads={account.name: account.runs[-1].digest for account in accounts},
        ledgers={account.name: account.ledger() for account in accounts},
        renamed=findings.renamed,
    )


def _account(name: Name, main: Line, branches: Mapping[bytes, Line], *, whole: bool) -> _Account:
    line, faults, abandoned = _with_branches(name, main, branches)
    runs = tuple(line.runs)
    found = [*_missing(name, runs, line, whole=whole), *_evicted(name, line)]
    return _Account(
        name,
        line,
        runs,
        (*faults, *_broken(name, runs, line), *_withheld(name, line)),
        tuple(part for part in found if isinstance(part, Gap)),
        tuple(part for part in found if isinstance(part, Hole)),
        abandoned,
    )


def _with_branches(
    name: Name, main: Line, branches: Mapping[bytes, Line]
) -> tuple[Line, list[Fault], tuple[Abandoned, ...]]:
    """Give the line with the branches that are its end, and those that were abandoned."""
    if not branches:
        return main, [], ()
    line, faults, abandoned = deepcopy(main), [], []
    for epoch, branch in sorted(branches.items(), key=lambda item: _place(item[1])):
        if any(line.seen.within(first, last) for first, last in branch.seen):
            tally = branch.epochs[epoch]
            abandoned.append(Abandoned(*name, epoch, tally.blocks, tally.readings, tally.first, tally.last))
        else:
            met = line.absorb(deepcopy(branch))
            faults += [*branch.wrong, *(Fault(reason, None, *name, _place(branch)[0]) for reason in met)]
    return line, faults, tuple(abandoned)


def _place(branch: Line) -> tuple[int, int]:
    """Give where a branch begins; of two that begin at one number the longer comes first."""
    first, last = next(iter(branch.seen))
    return first, -last


def _missing(name: Name, runs: tuple[Run, ...], line: Line, *, whole: bool) -> Iterator[Gap | Hole]:
    """Give what is missing before and between runs, as far as it is signed a hole, else a gap."""
    if runs and whole and runs[0].first.seq > 1:
        yield from _between(name, None, runs[0], line)
    for left, right in pairwise(runs):
        if right.first.seq > left.last.seq + 1:
            yield from _between(name, left, right, line)


def _between(name: Name, left: Run | None, right: Run, line: Line) -> Iterator[Gap | Hole]:
    first, last = (left.last.seq if left else 0) + 1, right.first.seq - 1
    before = left.last if left else None
    spans = list(line.accounts.of_gap(first, last))
    readings = right.before - (left.totals.readings if left else 0) if len(spans) == 1 else None
    for span in spans:
        if span.reason is None:
            yield Gap(*name, span.first, span.last, readings, before, right.first)
        else:
            yield Hole(*name, span.first, span.last, readings, span.reason, before, right.first)


def _evicted(name: Name, line: Line) -> Iterator[Hole]:
    """Give the payloads that are gone, by reason."""
    for stretch in line.holes:
        missing = line.filled.gaps(stretch.first.seq, stretch.last.seq)
        spans = [span for first, last in missing for span in line.accounts.of_hole(first, last)]
        whole = len(spans) == 1 and spans[0][:2] == (stretch.first.seq, stretch.last.seq)
        for span in spans:
            readings = stretch.readings if whole else None
            yield Hole(*name, span.first, span.last, readings, span.reason or "", stretch.first, stretch.last)


def _withheld(name: Name, line: Line) -> Iterator[Fault]:
    """Give the blocks of layouts or events whose payload is gone though nothing says that it was damaged."""
    excused = Intervals([*line.filled, *line.accounts.gone[DAMAGED]])
    for first, last in line.withheld:
        for start, end in excused.gaps(first, last):
            for seq in range(start, end + 1):
                yield Fault("withheld", None, *name, seq)


def _broken(name: Name, runs: tuple[Run, ...], line: Line) -> Iterator[Fault]:
    """Give blocks that name another predecessor than the one that was there, or have less behind them than that."""
    for left, right in pairwise(runs):
        if right.first.seq <= left.last.seq + 1:
            yield Fault("broken-link", None, *name, right.first.seq)
        elif right.before < left.totals.readings or not grows(left.totals, right.begins):
            yield Fault("totals", None, *name, right.first.seq)
    for run in runs:
        if line.accounts.ends.get(run.first.seq - 1, {run.prev}) != {run.prev}:
            yield Fault("broken-link", None, *name, run.first.seq)


def _epochs(account: _Account) -> Iterator[EpochReport]:
    for key, tally in account.line.epochs.items():
        first, last = tally.first, tally.last
        yield EpochReport(*account.name, key, tally.blocks, tally.readings, tally.evicted, first, last)
