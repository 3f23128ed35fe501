"""What a verifier says: what was proven, which holes are signed and why, and what is wrong.

What is always true here:

- A *hole* is signed: the station itself says that it is there and why. A *gap* is missing and nobody said so; a *fault*
  is something that must not be. A report with neither gap nor fault is complete.
- Of each stream: sealed = held + evicted + damaged + lost + pruned + missing. `missing` alone is unexplained.
- Wall times in it are the station's own, taken at the seal next to the place named: evidence.

Plain data. Anyone may enter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Verdict = Literal["complete", "unexplained", "unreadable"]
"""All there and every hole signed; something is missing or wrong; nothing at all could be proven."""

UNSTATED = "unstated"
"""Why a payload was evicted where no event says it; its header is the signature under the hole."""


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

    `readings` is how many they held, by the totals on both sides; None where a part of what they bound is signed.
    """

    gateway: str
    stream: str
    first_seq: int
    last_seq: int
    readings: int | None
    before: Edge | None
    after: Edge


@dataclass(frozen=True, slots=True)
class Hole:
    """Blocks whose readings are gone, with the station's signature under it.

    `reason` is `delivered`, `oldest`, `newest`, `thin` or `unstated` where the payloads were evicted and the headers
    are there; `damaged`, `lost` or `pruned` where an event says so. `since` and `until` are the blocks at its ends, or
    around it; `since` is None at a stream's beginning. `readings` is None where they cannot be told from a neighbour's.
    """

    gateway: str
    stream: str
    first_seq: int
    last_seq: int
    readings: int | None
    reason: str
    since: Edge | None
    until: Edge


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not be.

    Of the bytes: envelope-size, not-sign1, wrong-type, foreign-key, bad-signature, header, version, do-not-interpret,
    payload-length, payload-digest. Of the keys: retired-key, key-statement. Of the chain: fork, again, broken-link,
    misnumbered, totals, withheld, head-missing.
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
class Abandoned:
    """A branch that was sealed in memory and whose power went before it was written: no fork, and in no total."""

    gateway: str
    stream: str
    epoch: bytes
    blocks: int
    readings: int
    first: Edge
    last: Edge


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the blocks of a stream, in blocks; `evicted` by reason."""

    sealed: int
    held: int
    evicted: Mapping[str, int]
    damaged: int
    lost: int
    pruned: int
    missing: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    `heads` are the digests of the last blocks, and `ledgers` the accounts, by (gateway, stream); `renamed` are
    (stream, earlier label, later label) of a gateway whose label changed along a chain.
    """

    verdict: Verdict
    blocks: int
    readings: int
    evicted: int
    repeats: int
    faults: tuple[Fault, ...]
    fault_count: int
    gaps: tuple[Gap, ...]
    holes: tuple[Hole, ...]
    epochs: tuple[EpochReport, ...]
    abandoned: tuple[Abandoned, ...]
    heads: dict[tuple[str, str], bytes]
    ledgers: dict[tuple[str, str], Ledger]
    renamed: tuple[tuple[str, str, str], ...]

    def count(self, *reasons: str) -> int:
        """Count the described faults of these reasons."""
        return sum(fault.reason in reasons for fault in self.faults)
