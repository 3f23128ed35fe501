"""What a verification found, for a person and as JSON.

What is always true here: every hole, gap and fault has its line, up to `SHOWN` of each; the rest is counted and stands
in the JSON. Times are the station's own wall clock at the seal, shown in the local zone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.words import Words
from buffer.verify import Abandoned, Edge, Fault, Gap, Hole, Report

SHOWN = 20
"""Findings of one sort beyond this are counted, and stand in the JSON."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def document(report: Report) -> dict[str, Any]:
    """Render a report as JSON; bytes as hexadecimal, streams as `gateway/stream`."""
    rendered: dict[str, Any] = _plain(asdict(report))
    return rendered


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {"/".join(key) if isinstance(key, tuple) else _plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, int | str) else str(value)


def text(report: Report, words: Words, *, whole: bool) -> str:
    """Render a report for a person: what was proven of each stream, its holes, then what is wrong.

    `whole` says that the heads were known otherwise.
    """
    lines = [line for name in report.heads for line in _stream_lines(report, name, words)]
    for stream, before, after in report.renamed:
        lines.append(words.say("agent.verify-renamed", {"stream": stream, "before": before, "after": after}))
    lines += _first(report.holes, words, "agent.verify-hole")
    lines += _first(report.abandoned, words, "agent.verify-abandoned")
    lines += _first(report.gaps, words, "agent.verify-gap")
    lines += _first(report.faults, words, "agent.verify-fault")
    lines.append(words.say(f"agent.verify-{report.verdict}", {"count": report.fault_count + len(report.gaps)}))
    if report.verdict == "complete" and not whole:
        lines.append(words.say("agent.verify-tail", {}))
    return "\n".join(lines)


def _first(findings: Iterable[Hole | Gap | Fault | Abandoned], words: Words, code: str) -> Iterator[str]:
    """Give a line for each of the first findings of one sort, and one for how many more there are."""
    told = [words.say(code, _fields(finding, words)) for finding in findings]
    yield from told[:SHOWN]
    if len(told) > SHOWN:
        yield words.say("agent.verify-more", {"count": len(told) - SHOWN})


def _stream_lines(report: Report, name: tuple[str, str], words: Words) -> Iterator[str]:
    epochs = [epoch for epoch in report.epochs if (epoch.gateway, epoch.stream) == name]
    ledger = report.ledgers[name]
    fields = {
        "gateway": name[0],
        "stream": name[1],
        "blocks": sum(epoch.blocks for epoch in epochs),
        "readings": sum(epoch.readings for epoch in epochs),
        "epochs": len(epochs),
        "last": max(epoch.last.seq for epoch in epochs),
        "head": report.heads[name].hex(),
    }
    yield words.say("agent.verify-stream", fields)
    evicted = sum(ledger.evicted.values())
    yield words.say("agent.verify-ledger", {**asdict(ledger), "evicted": evicted})


def _fields(finding: Hole | Gap | Fault | Abandoned, words: Words) -> dict[str, object]:
    """Give the fields of a finding as a person reads them."""
    found = {name: getattr(finding, name) for name in type(finding).__slots__}
    if found.get("readings", 0) is None:
        found["readings"] = "?"
    if isinstance(finding, Hole):
        found |= {"why": words.say(f"agent.hole-{finding.reason}", {}), **_times(finding.since, finding.until)}
    elif isinstance(finding, Gap):
        found |= _times(finding.before, finding.after)
    elif isinstance(finding, Abandoned):
        found |= {"first_seq": finding.first.seq, "last_seq": finding.last.seq, **_times(finding.first, finding.last)}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in found.items()}


def _times(since: Edge | None, until: Edge) -> dict[str, object]:
    return {"since": "?" if since is None else _local(since.wall_ns), "until": _local(until.wall_ns)}


def _local(wall_ns: int) -> str:
    """Give a wall time in the local zone; as nanoseconds where no calendar has it."""
    try:
        return (_EPOCH + timedelta(microseconds=wall_ns // 1000)).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return f"{wall_ns} ns"
