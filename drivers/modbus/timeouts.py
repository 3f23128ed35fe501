"""How long to wait for one unit's answer, learnt from its round trips. Pure: durations in seconds are passed in.

What is always true here:

- A wait lies between the two bounds of the link, `timeout_min` and `timeout`.
- It is the longest of what RFC 6298 says (srtt + 4 rttvar, gains 1/8 and 1/4) and twice the slowest answer lately seen.
  The second is why a link with a heavy tail loses next to nothing by a shorter wait; the first answers a link that
  has just grown slower.
- The full `timeout` is waited until `_ENOUGH` answers were seen, and again after every silence until the next answer:
  a unit that grew slower costs one frame and is not taken for dead, and a dead one is found out with full patience.

What is learnt is the unit's own time, from the end of the question to the end of the answer less the bytes of both on
the line. The caller adds the bytes that the longest legal answer takes.
"""

_ENOUGH = 8
_PEAK_FACTOR = 2.0
_PEAK_FADES = 1 / 256


class Patience:
    """What is known of one unit's round trips."""

    __slots__ = ("_high_s", "_low_s", "_peak_s", "_seen", "_silent", "_srtt_s", "_var_s")

    def __init__(self, low_s: float, high_s: float) -> None:
        self._low_s, self._high_s = low_s, high_s
        self._srtt_s = self._var_s = self._peak_s = 0.0
        self._seen = 0
        self._silent = False

    def wait_s(self) -> float:
        """Say how long to wait for the next answer."""
        if self._silent or self._seen < _ENOUGH:
            return self._high_s
        wanted_s = max(self._srtt_s + 4 * self._var_s, _PEAK_FACTOR * self._peak_s)
        return min(max(wanted_s, self._low_s), self._high_s)

    def answered(self, took_s: float) -> None:
        """Learn from an answer."""
        self._silent = False
        self.learnt(took_s)

    def learnt(self, took_s: float) -> None:
        """Learn from an answer that came too late to be taken."""
        took_s = max(took_s, 0.0)
        if self._seen:
            self._var_s += (abs(self._srtt_s - took_s) - self._var_s) / 4
            self._srtt_s += (took_s - self._srtt_s) / 8
        else:
            self._srtt_s, self._var_s = took_s, took_s / 2
        self._seen += 1
        self._peak_s = max(took_s, self._peak_s + (took_s - self._peak_s) * _PEAK_FADES)

    def missed(self) -> None:
        """Note a silence."""
        self._silent = True
