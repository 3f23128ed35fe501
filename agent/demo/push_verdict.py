"""The verdict of a demonstration of pushes: what became of each, every figure, and whether it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.demo.operators import PLATFORM, Outcome
from agent.demo.tally import Tally

EXPECTED = {
    "good": ("confirmed", ""),
    "forged": ("refused", "push.unknown-key"),
    "fatal": ("rolled-back", "push.not-delivered"),
}
TRIED = ("verified", "staged", "validated", "applied")
LOGBOOK = (
    *(f"{PLATFORM} 1.1 {state}" for state in (*TRIED, "confirmed")),
    f"{PLATFORM} push.unknown-key",
    *(f"{PLATFORM} 1.3 {state}" for state in (*TRIED, "rolling-back", "rolled-back")),
)
"""What the chain must tell of the three."""
FASTER = 1.5
"""An instrument that is asked twice as often must be asked at least so much more often, on a busy machine too."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen at the station itself."""

    every_before_s: float
    """How far apart the first instrument's answers were before the first push, and after it."""
    every_after_s: float
    stands: bool
    """Whether the configuration that was confirmed stands there in the end, byte for byte."""
    leave_s: float


@dataclass(frozen=True, slots=True)
class PushVerdict:
    """What was shown. `gaps` are blocks missing from the chain; `epochs_ended` how often the agent began again."""

    instruments: Mapping[str, Tally]
    blocks: int
    proven: int
    gaps: Sequence[str]
    findings: Sequence[str]
    """What verification found that nothing explains, in the buffer or on the topic."""
    epochs_ended: int
    readings: int
    outcomes: Sequence[Outcome]
    told: Sequence[str]
    """The steps of pushes in the chain, proven."""
    facts: Facts
    broker: str
    unproven: str
    """A message code that says what this run does not prove, or nothing."""

    @property
    def total(self) -> Tally:
        """Sum all instruments."""
        return sum(self.instruments.values(), Tally(0, 0, 0, 0, 0))

    @property
    def faults(self) -> list[str]:
        """Name the conditions that do not hold."""
        ended = {one.name: (one.state, one.reason) for one in self.outcomes}
        conditions = {
            **{f"{name}-push": ended.get(name) == expected for name, expected in EXPECTED.items()},
            "in-time": all(one.in_time for one in self.outcomes),
            "asked-more-often": self.facts.every_before_s >= FASTER * self.facts.every_after_s,
            "confirmed-one-stands": self.facts.stands,
            "told-in-the-chain": set(LOGBOOK) == set(self.told),
            "never-restarted": not self.epochs_ended,
            "every-instrument-read": all(tally.produced for tally in self.instruments.values()),
            "nothing-lost": self.total.lost == 0,
            "every-block-proven": self.proven == self.blocks > 0,
            "no-gaps": not self.gaps,
            "nothing-unexplained": not self.findings,
        }
        return [name for name, holds in conditions.items() if not holds]

    @property
    def holds(self) -> bool:
        """Say whether everything holds."""
        return not self.faults

    def document(self) -> dict[str, Any]:
        """Render as JSON."""
        facts = self.facts
        return {
            "holds": self.holds,
            "faults": self.faults,
            **_figures(self.total),
            "pushes": {one.name: {**asdict(one), "seconds": round(one.seconds, 3)} for one in self.outcomes},
            "told": list(self.told),
            "every_before_s": round(facts.every_before_s, 3),
            "every_after_s": round(facts.every_after_s, 3),
            "stands": facts.stands,
            "blocks": self.blocks,
            "proven": self.proven,
            "gaps": list(self.gaps),
            "findings": list(self.findings),
            "readings": self.readings,
            "instruments": {name: _figures(tally) for name, tally in self.instruments.items()},
            "leave_s": round(facts.leave_s, 3),
            "broker": self.broker,
            "unproven": self.unproven or None,
        }


def _figures(tally: Tally) -> dict[str, int]:
    """Give a tally; nobody was killed."""
    return {name: figure for name, figure in asdict(tally).items() if name != "unsealed_at_kill"}
