"""A push over many gateways: a canary, then percentages, and an end as soon as too many fail. Pure.

What is always true here:

- A wave begins when every gateway of the one before it has come to its end, and never after `stop`.
- A gateway that is silent counts as failed once its time is over; one that is refused or undone, at once.
- `stop` is when more than the given share of those that ended have failed; in the canary, any failure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ENDS = {"confirmed": True, "rolled-back": False, "rejected": False, "refused": False, "silent": False}
"""How a gateway may end, and whether that is well."""


def waves(gateways: Sequence[str], canary: int, percents: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Split gateways: the first few, then up to each percentage of all, then the rest."""
    ends = [min(canary, len(gateways))] if canary else []
    ends += [-(-len(gateways) * percent // 100) for percent in percents]
    start = 0
    for end in (*ends, len(gateways)):
        if end > start:
            yield tuple(gateways[start:end])
            start = end


@dataclass(slots=True)
class Rollout:
    """How far it has come."""

    plan: tuple[tuple[str, ...], ...]
    most_failed_percent: int
    states: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[str, ...]:
        """Name the gateways that ended badly."""
        return tuple(name for name, state in self.states.items() if ENDS.get(state) is False)

    def over(self, wave: Sequence[str]) -> bool:
        """Say whether every gateway of a wave has come to its end."""
        return all(self.states.get(name) in ENDS for name in wave)

    def may_go_on(self, number: int) -> bool:
        """Say whether the wave after this one may begin."""
        ended = [name for name, state in self.states.items() if state in ENDS]
        if number == 0 and self.failed:
            return False
        return 100 * len(self.failed) <= self.most_failed_percent * len(ended)
