"""How long a line must be silent before the next question. Pure: the time is passed in, in seconds.

What is always true here:

- Between frames there is the gap of the line's pace (3.5 characters).
- A unit that was asked and gave no answer in time *owes* one. It is asked again only when the longest reply seen so
  far, at most `timeout_s`, has passed since the time-out and since the last byte that nobody waited for; before any
  reply was seen, `timeout_s`. For as many cells of the same table at another address, whose answer could not be told
  from the one that is owed, `timeout_s` has to pass in any case.
- Time that has passed meanwhile counts, so a dead unit that is asked rarely costs nothing here.
- Other units need not wait for it: what it says late bears its own unit id, and is no answer of theirs.
- Noise on an idle line is not taken for a reply.

RTU and ASCII need this, on a line or through a connection to one; TCP has transaction ids instead.
"""


class Quiet:
    """Follows one line."""

    def __init__(self, gap_s: float, timeout_s: float) -> None:
        self.gap_s = gap_s
        self._timeout_s = timeout_s
        self._longest_s: float | None = None
        self._owing: dict[int, tuple[float, bytes]] = {}
        self._asked = self._last = self._stray = float("-inf")
        self._open = False

    def asked(self, now: float) -> None:
        """Note that a question goes out."""
        self._asked, self._open = now, True

    def heard(self, now: float) -> None:
        """Note that bytes came in, asked for or not."""
        self._last = now
        if not self._open:
            self._stray = now
        if self._open or self._owing:
            self._longest_s = max(self._longest_s or 0.0, min(now - self._asked, self._timeout_s))

    def answered(self, unit: int) -> None:
        """Note that the question was answered, so that nothing is owed any more."""
        self._open = False
        self._owing.pop(unit, None)

    def missed(self, now: float, unit: int, question: bytes) -> None:
        """Note that the PDU `question` drew no answer that could be used, so that one may still come."""
        self._open = False
        self._owing[unit] = now, question

    def owes(self, unit: int) -> bool:
        """Say whether an answer of this unit may still come."""
        return unit in self._owing

    def remaining_s(self, now: float, unit: int, question: bytes) -> float:
        """Say how long the line must stay silent before this unit may be asked; zero or less when it may be."""
        ready = self._last + self.gap_s
        if (owing := self._owing.get(unit)) is not None:
            missed, owed = owing
            owed_s = self._timeout_s
            if self._longest_s is not None and not _alike(owed, question):
                owed_s = self._longest_s
            ready = max(ready, max(missed, self._stray) + owed_s)
        return ready - now


def _alike(owed: bytes, question: bytes) -> bool:
    """Say whether the answers to two questions look alike and mean different cells."""
    return owed[0] == question[0] and owed[3:] == question[3:] and owed != question
