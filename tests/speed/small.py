"""A small station, 10 points every 5 s: what it sends, TLS and keep-alives included, at several seal intervals.

All of them run at once, each behind a proxy of its own: such a load disturbs nobody.
"""

import asyncio

from speed.figures import Figure
from speed.loads import Run, loaded
from speed.site import Load, Site

SEALS = ("5s", "10s", "30s")
DAY_READINGS = 2 * 86_400


async def figures(around: Site, seconds: float) -> list[Figure]:
    """Run one station for each interval."""
    group = "10 readings every 5 s, on the wire"
    loads = [Load(1, 10, "5s", seal_every) for seal_every in SEALS]
    runs: list[Run] = await asyncio.gather(
        *(loaded(around, f"small-{load.seal_every}", load, 2, seconds) for load in loads)
    )
    found = []
    for load, run in zip(loads, runs, strict=True):
        beside = (run.calibration_ms,)
        wire, day = (run.wire_bytes,), (run.wire_bytes * DAY_READINGS / 1e6,)
        found.append(Figure(group, f"{load.seal_every} seal", "B/reading", wire, calibration_ms=beside))
        found.append(Figure(group, f"{load.seal_every} seal, a day", "MB", day))
    cpu = tuple(run.cpu_percent for run in runs)
    found.append(Figure(group, "CPU", "% of a core", cpu))
    found.append(Figure(group, "resident", "MB", tuple(run.rss_mb for run in runs)))
    return found
