"""The verdict of a demonstration: every figure, and whether it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.demo.evidence import Silence
from agent.demo.tally import NS_PER_S, Tally

EPOCHS = 2
"""The killed agent's and its successor's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was shown. `gaps` are blocks missing from the chain; `silences` the times in which the agent was dead."""

    instruments: Mapping[str, Tally]
    unsealed_bound: int
    """The most that may be `unsealed_at_kill`: what was served in one seal interval and one poll before the kill."""
    blocks: int
    proven: int
    repeated: int
    gaps: Sequence[str]
    findings: Sequence[str]
    """What verification found that nothing explains, in the buffer or on the topic."""
    silences: Sequence[Silence]
    readings: int
    leave_s: float
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
        total = self.total
        conditions = {
            "every-instrument-read": all(tally.produced for tally in self.instruments.values()),
            "nothing-lost": total.lost == 0,
            "unsealed-within-bound": total.unsealed_at_kill <= self.unsealed_bound,
            "every-block-proven": self.proven == self.blocks > 0,
            "no-gaps": not self.gaps,
            "nothing-unexplained": not self.findings,
            "death-named": bool(self.silences) and all(silence.named for silence in self.silences),
        }
        return [name for name, holds in conditions.items() if not holds]

    @property
    def holds(self) -> bool:
        """Say whether everything holds."""
        return not self.faults

    def document(self) -> dict[str, Any]:
        """Render as JSON."""
        return {
            "holds": self.holds,
            "faults": self.faults,
            **asdict(self.total),
            "unsealed_bound": self.unsealed_bound,
            "repeated": self.repeated,
            "blocks": self.blocks,
            "proven": self.proven,
            "gaps": list(self.gaps),
            "findings": list(self.findings),
            "dead": [
                {
                    "stream": silence.stream,
                    "seconds": round((silence.to_boot_ns - silence.from_boot_ns) / NS_PER_S, 3),
                    "epoch": silence.epoch,
                    "named": silence.named,
                }
                for silence in self.silences
            ],
            "readings": self.readings,
            "instruments": {name: asdict(tally) for name, tally in self.instruments.items()},
            "leave_s": round(self.leave_s, 3),
            "broker": self.broker,
            "unproven": self.unproven or None,
        }
