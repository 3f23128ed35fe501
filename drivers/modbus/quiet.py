"""How long an RTU line must be silent before the next question. Pure: the time is passed in, in seconds.

- Between frames: 3.5 characters, and 1.75 ms above 19200 baud (Modbus over Serial Line V1.02, 2.5.1.1).
- After a question that drew no answer in time: the longest reply seen so far, at most `timeout_s`, counted from the
  time-out or the last byte heard, whichever is later; before any reply was seen, `timeout_s`. Time that has passed
  meanwhile counts, so a dead unit that is asked rarely costs the line nothing here.
"""

from config.model import Serial

_FASTEST_GAP_S = 0.00175


class Quiet:
    """Follows one line. TCP has no use for it."""

    def __init__(self, serial: Serial, timeout_s: float) -> None:
        bits = 1 + serial.data_bits + (serial.parity != "none") + serial.stop_bits
        self.gap_s = max(_FASTEST_GAP_S, 3.5 * bits / serial.baud)
        self._timeout_s = timeout_s
        self._longest_s: float | None = None
        self._owed = False
        self._asked = self._last = float("-inf")

    def asked(self, now: float) -> None:
        """Note that a question goes out."""
        self._asked, self._owed = now, False

    def heard(self, now: float) -> None:
        """Note that bytes came in, asked for or not."""
        self._last = now
        self._longest_s = max(self._longest_s or 0.0, min(now - self._asked, self._timeout_s))

    def missed(self, now: float) -> None:
        """Note that the question drew no answer that could be used, so that one may still come."""
        self._last, self._owed = now, True

    def remaining_s(self, now: float) -> float:
        """Say how long the line must stay silent from now on; zero or less when a question may go out."""
        owed_s = self._timeout_s if self._longest_s is None else self._longest_s
        return self._last + max(self.gap_s, owed_s if self._owed else 0.0) - now
