"""The verdict's arithmetic: what the instruments served against what is stored and what was delivered.

What is always true here:

- Every answer of an instrument carries its own number, and the instrument keeps the list of those it gave. So `lost`
  is counted from what was really read, never from what the agent believes.
- What the killed agent had read and not yet sealed is counted apart (`unsealed_at_kill`), and only where it was served
  within one seal interval and one poll before the kill. Anything else that is missing is lost.

Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from drivers.simulated.served import Served

NS_PER_S = 10**9
SETTLE_NS = NS_PER_S // 2
"""What an instrument may still put on the wire to a client that has just been killed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """When the agent was killed, and how far back what it had read may still have been unsealed."""

    t_boot_ns: int
    bound_ns: int

    def explains(self, served: Served) -> bool:
        """Say whether an answer may have been in the hands of the agent that was killed."""
        return self.t_boot_ns - self.bound_ns <= served.t_boot_ns <= self.t_boot_ns + SETTLE_NS


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers of one instrument, or of all."""

    produced: int
    stored: int
    delivered: int
    lost: int
    unsealed_at_kill: int

    def __add__(self, other: "Tally") -> "Tally":
        """Sum two tallies."""
        return Tally(
            self.produced + other.produced,
            self.stored + other.stored,
            self.delivered + other.delivered,
            self.lost + other.lost,
            self.unsealed_at_kill + other.unsealed_at_kill,
        )


def tally(served: Sequence[Served], stored: Collection[int], delivered: Collection[int], kill: Kill | None) -> Tally:
    """Compare what one instrument served with the numbers found in the buffer and at the receiver."""
    unsealed = lost = 0
    for answer in served:
        if answer.serial not in stored and kill is not None and kill.explains(answer):
            unsealed += 1
        elif answer.serial not in delivered:
            lost += 1
    numbers = {answer.serial for answer in served}
    return Tally(len(numbers), len(numbers & set(stored)), len(numbers & set(delivered)), lost, unsealed)


def tally_all(
    served: Mapping[str, Sequence[Served]],
    stored: Mapping[str, Collection[int]],
    delivered: Mapping[str, Collection[int]],
    kill: Kill | None,
) -> dict[str, Tally]:
    """Tally every instrument by its device name."""
    return {
        name: tally(answers, stored.get(name, ()), delivered.get(name, ()), kill) for name, answers in served.items()
    }
