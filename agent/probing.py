"""How often a silent device is still asked, so that it slows no other (B10).

What is always true here:

- A device is dead after `PATIENCE` polls in a row without an answer, and alive at its first good answer.
- Once dead, its probes together with those of the other dead ones take at most `SHARE` of the link's time, as long as
  another device of the link is alive; alone on its link, it is asked at every tick.
- The pause between probes doubles from the group's interval up to that bound.

Pure: time is passed in.
"""

from dataclasses import dataclass

PATIENCE = 3
SHARE = 0.005


@dataclass(slots=True)
class _Standing:
    silences: int = 0
    pause_ns: int = 0
    probe_ns: int = 0


class Probing:
    """What is known of the devices of one link. `timeout_ns` is what a silent poll costs."""

    def __init__(self, devices: tuple[str, ...], timeout_ns: int) -> None:
        self._standings = {device: _Standing() for device in devices}
        self._timeout_ns = timeout_ns

    def alive(self, device: str) -> bool:
        """Say whether the device is not known to be dead."""
        return self._standings[device].silences < PATIENCE

    def may_ask(self, device: str, now_ns: int) -> bool:
        """Say whether this tick may ask the device, or is to be given as a fault at once."""
        return self.alive(device) or self._nobody_alive() or now_ns >= self._standings[device].probe_ns

    def answered(self, device: str) -> bool:
        """Note an answer; say whether the device was dead until now."""
        silences = self._standings[device].silences
        if silences:
            self._standings[device] = _Standing()
        return silences >= PATIENCE

    def silent(self, device: str, now_ns: int, interval_ns: int) -> bool:
        """Note a silence; say whether the device is dead since just now."""
        standing = self._standings[device]
        standing.silences += 1
        if standing.silences < PATIENCE:
            return False
        longest_ns = int(self._timeout_ns / SHARE) * self._dead()
        standing.pause_ns = min(max(2 * standing.pause_ns, interval_ns), longest_ns)
        standing.probe_ns = now_ns + standing.pause_ns
        return standing.silences == PATIENCE

    def _dead(self) -> int:
        return sum(standing.silences >= PATIENCE for standing in self._standings.values())

    def _nobody_alive(self) -> bool:
        return self._dead() == len(self._standings)
