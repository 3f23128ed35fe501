"""What sealing and storing writes: bytes to the device, in the chain and in the payload, at several intervals.

What is always true here:

- Many seals, one durable commit each, checkpoints included: a window of seconds would miss them. The last seal's
  acknowledgement is written with each, as the service does.
- The budget is for the steady state: of a file at its limit, where each seal lets go as much as it brings. A small
  station never comes to its limit; its payloads go for their age. While a buffer grows it writes less: "growing".
- A window holds several rounds of eviction and pruning, which are made for many blocks at once.
"""

from pathlib import Path

from speed.figures import Figure
from speed.full import full, written
from speed.history import SECONDS, seal
from speed.machine import calibrate_ms
from speed.site import Load

NOMINAL = ((Load(seal_every="1s"), 18.0), (Load(seal_every="5s"), None), (Load(seal_every="10s"), 5.0))
SMALL = tuple(Load(1, 10, "5s", seal_every) for seal_every in ("5s", "10s", "30s", "60s"))
DAY_S = 86_400
LEAST_LIMIT, LEAST_SEALS = 1_000_000, 64
"""The smallest buffer there may be, and what one round of eviction takes: the quick form."""


def figures(directory: Path, seals: int) -> list[Figure]:
    """Seal so often at each interval, twice as often at the shortest."""
    quick = seals < LEAST_SEALS
    found = []
    for load, budget in NOMINAL:
        found += _nominal(directory, load, budget, seals, LEAST_LIMIT if quick else 5 * LEAST_LIMIT)
    for load in SMALL:
        found += _small(directory, load, seals, LEAST_SEALS if quick else 12 * LEAST_SEALS)
    return found


def _nominal(directory: Path, load: Load, budget: float | None, seals: int, limit: int) -> list[Figure]:
    group, seal_s = "storing 1,000 readings/s", SECONDS[load.seal_every]
    counted = max(4, seals if seal_s > 1 else 2 * seals)
    calibration = (calibrate_ms(),)
    with full(directory / f"full-{load.seal_every}" / "buffer.db", load, limit) as station:
        steady = (written(station, counted) / station.readings,)
    made = seal(directory / f"flash-{load.seal_every}", load, max(4, seals // seal_s * 2))
    name = f"{load.seal_every} seal"
    return [
        Figure(group, f"written to the device, {name}", "B/reading", steady, budget, calibration_ms=calibration),
        Figure(group, f"growing, {name}", "B/reading", (made.written / made.readings,)),
        Figure(group, f"blocks, {name}", "B/reading", ((made.payload + made.envelope) / made.readings,)),
    ]


def _small(directory: Path, load: Load, seals: int, keep: int) -> list[Figure]:
    group, seal_s = "storing 10 readings every 5 s", SECONDS[load.seal_every]
    path = directory / f"full-small-{load.seal_every}" / "buffer.db"
    with full(path, load, max(LEAST_LIMIT, 6000 * keep), keep) as station:
        steady, readings = written(station, max(4, seals)), station.readings
    made = seal(directory / f"flash-small-{load.seal_every}", load, max(4, seals // 2))
    name, days = f"{load.seal_every} seal", DAY_S / seal_s / 1e6
    return [
        Figure(group, f"written to the device, {name}", "MB/day", (steady * days,)),
        Figure(group, f"written a reading, {name}", "B/reading", (steady / readings,)),
        Figure(group, f"growing, {name}", "MB/day", (made.written / made.blocks * days,)),
        Figure(group, f"blocks, {name}", "B/reading", ((made.payload + made.envelope) / made.readings,)),
    ]
