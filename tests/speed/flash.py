"""What sealing and storing writes: bytes to the device, in the chain and in the payload, at several intervals.

What is always true here:

- Many seals, one durable commit each, checkpoints included: a window of seconds would miss them. The last seal's
  acknowledgement is written with each, as the service does.
- Nothing is evicted yet; the budget is for the steady state, where freed pages are written again.
"""

from pathlib import Path

from speed.figures import Figure
from speed.history import SECONDS, seal
from speed.machine import calibrate_ms
from speed.site import Load

NOMINAL = ((Load(seal_every="1s"), 18.0), (Load(seal_every="5s"), None), (Load(seal_every="10s"), 5.0))
SMALL = tuple(Load(1, 10, "5s", seal_every) for seal_every in ("5s", "10s", "30s", "60s"))
DAY_S = 86_400


def figures(directory: Path, seals: int) -> list[Figure]:
    """Seal so often at each interval."""
    found = []
    for load, budget in NOMINAL:
        calibration = (calibrate_ms(),)
        made = seal(directory / f"flash-{load.seal_every}", load, max(4, seals // SECONDS[load.seal_every] * 2))
        group, name = "storing 1,000 readings/s", f"written to the device, {load.seal_every} seal"
        each = (made.written / made.readings,)
        found.append(Figure(group, name, "B/reading", each, budget, calibration_ms=calibration))
        chain = ((made.payload + made.envelope) / made.readings,)
        found.append(Figure(group, f"blocks, {load.seal_every} seal", "B/reading", chain))
    for load in SMALL:
        made = seal(directory / f"flash-small-{load.seal_every}", load, max(4, seals // 2))
        group = "storing 10 readings every 5 s"
        day = (made.written / made.blocks * DAY_S / SECONDS[load.seal_every] / 1e6,)
        found.append(Figure(group, f"written to the device, {load.seal_every} seal", "MB/day", day))
        chain = ((made.payload + made.envelope) / made.readings,)
        found.append(Figure(group, f"blocks, {load.seal_every} seal", "B/reading", chain))
    return found
