"""The bench: `make bench`, or `PYTHONPATH=tests python -m speed.bench [--quick] [--only PART]... [--docs FILE]`.

What is always true here:

- One command, ten minutes at most, no root. `--quick` is every part in its smallest form, for the suite: it shows that
  the bench runs, and its figures mean nothing.
- Each part measures the naive script, or the simulator's own ceiling, in the same run; each figure keeps all its runs.
- A part that fails is named and does not take the others with it; the exit code is 1 then. A budget that is missed is
  said in the table and fails nothing: this machine may have had other things to do.
- What keeps a core busy for long does so in a thread: the platform's connection is kept alive by the event loop.
- Left in `--out`: `bench.json`, `bench.svg`, `bench.txt`. With `--docs` the table between the marks of that document is
  rewritten.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import os
import platform
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speed import drain, flash, opcua, small, stages, start
from speed.figures import Figure, as_json, markdown, rewrite, table
from speed.loads import Run, loaded, naively, polls_per_s, side_by_side
from speed.machine import calibrate_ms
from speed.plot import svg
from speed.site import Load, Site, registers, site


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: the whole bench, or its smallest form."""

    runs: int
    warm_s: float
    window_s: float
    busy_s: float
    small_s: float
    backlog: int
    naive_drain_s: float
    blocks: int
    making_s: float
    rounds: int
    calls: int
    seals: int


WHOLE = Size(3, 4, 16, 7, 61, 7200, 10, 5_000_000, 110, 7, 60, 600)
QUICK = Size(1, 0.2, 2, 1, 6, 60, 1, 3000, 5, 2, 5, 12)

ALL = "nominal: 1,000 readings/s, TLS, 1 s seal"
TOP = "ceiling: 10 to 20 devices of 100 registers as fast as they answer"


def of_runs(
    group: str,
    name: str,
    unit: str,
    value: Callable[[Run], float],
    ours: Sequence[Run],
    theirs: Sequence[Run] = (),
    **budget: object,
) -> Figure:
    """Make a figure of the same quantity of several runs, and of the naive script's."""
    return Figure(
        group,
        name,
        unit,
        tuple(map(value, ours)),
        naive=tuple(map(value, theirs)),
        calibration_ms=tuple(run.calibration_ms for run in (*ours, *theirs)),
        **budget,  # type: ignore[arg-type]
    )


async def nominal(around: Site, size: Size) -> list[Figure]:
    """Measure the nominal load beside the naive script, in the same seconds."""
    pairs = [
        await side_by_side(around, f"nominal-{run}", Load(), size.warm_s, size.window_s) for run in range(size.runs)
    ]
    ours, theirs = zip(*pairs, strict=True)
    parts: list[tuple[str, str, Callable[[Run], float], dict[str, object]]] = [
        ("readings a second", "/s", lambda run: run.readings_per_s, {"better": "more"}),
        ("CPU", "% of a core", lambda run: run.cpu_percent, {"budget": 0.5}),
        ("CPU a reading", "us", lambda run: run.cpu_us, {}),
        ("on the wire, both ways, TLS", "B/reading", lambda run: run.wire_bytes, {"budget": 2.6}),
        ("written to the device", "B/reading", lambda run: run.flash_bytes, {}),
        ("resident", "MB", lambda run: run.rss_mb, {"budget": 55}),
        ("resident, growth", "kB/min", lambda run: run.growth_kb_per_min, {}),
        ("answer to PUBACK, p50", "ms", lambda run: 1e3 * run.latency_s[0], {}),
        ("answer to PUBACK, p99", "ms", lambda run: 1e3 * run.latency_s[1], {}),
    ]
    figures = [of_runs(ALL, name, unit, value, ours, theirs, **more) for name, unit, value, more in parts]
    ratio = tuple(mine.cpu_us / their.cpu_us for mine, their in pairs)
    late = of_runs(ALL, "tick lateness, p99", "ms", lambda run: run.late_ms, ours)
    missed = of_runs(ALL, "ticks missed", "", lambda run: float(run.missed), ours)
    return [*figures, late, missed, Figure(ALL, "CPU, times the naive script's", "x", ratio, 1 / 3)]


async def ceiling(around: Site, size: Size) -> list[Figure]:
    """Measure how many readings a second go all the way, and how fast the simulator would answer."""
    ours, theirs = [], []
    with registers(10) as ports:
        served = tuple([100 * await polls_per_s(ports, max(0.5, size.busy_s / 4)) for _ in range(size.runs)])
    for run in range(size.runs):
        devices = 10 if run % 2 == 0 else 20
        load = Load(devices=devices, every="1ms")
        ours.append(await loaded(around, f"ceiling-{run}", load, size.warm_s / 2, size.busy_s))
        theirs.append(await naively(around, f"ceiling-naive-{run}", Load(), 0.0, size.warm_s / 2, size.busy_s))
    rate = {"budget": 400_000, "better": "more"}
    return [
        of_runs(TOP, "readings a second, acknowledged", "/s", lambda run: run.readings_per_s, ours, theirs, **rate),
        of_runs(TOP, "CPU a reading", "us", lambda run: run.cpu_us, ours, theirs),
        of_runs(TOP, "CPU", "% of a core", lambda run: run.cpu_percent, ours, theirs),
        of_runs(TOP, "on the wire", "B/reading", lambda run: run.wire_bytes, ours, theirs),
        of_runs(TOP, "written to the device", "B/reading", lambda run: run.flash_bytes, ours, theirs),
        of_runs(TOP, "resident", "MB", lambda run: run.rss_mb, ours, theirs),
        of_runs(TOP, "answer to PUBACK, p99", "ms", lambda run: 1e3 * run.latency_s[1], ours, theirs),
        Figure(TOP, "the register server alone", "/s", served, better="more"),
    ]


async def opcua_changes(around: Site, size: Size) -> list[Figure]:
    """Measure changes of OPC UA beside asyncua's own client."""
    group = "OPC UA subscription, 100 nodes"
    runs = [
        await opcua.changes(around, f"opcua-{run}", 1e9 if run % 2 else 3000, size.warm_s / 2, size.busy_s)
        for run in range(max(1, size.runs - 1))
    ]
    beside = tuple(run.calibration_ms for run in runs)
    share = tuple(100 * run.bare_us / run.cpu_us for run in runs)
    return [
        Figure(group, "of asyncua's own ceiling", "%", share, 70, "more", calibration_ms=beside),
        Figure(group, "CPU a change", "us", tuple(run.cpu_us for run in runs), calibration_ms=beside),
        Figure(group, "asyncua's client alone", "us", tuple(run.bare_us for run in runs), calibration_ms=beside),
        Figure(group, "changes a second, reached", "/s", tuple(run.per_s for run in runs), better="more"),
        Figure(group, "the server's own ceiling", "/s", tuple(run.written_per_s for run in runs), better="more"),
    ]


async def drains(around: Site, size: Size) -> list[Figure]:
    """Measure how fast a backlog goes out over 50 ms."""
    group = "drain over a round trip of 50 ms"
    runs = [await drain.drained(around, f"drain-{run}", size.backlog) for run in range(max(1, size.runs - 1))]
    rows = await drain.drained_naively(around, "drain-naive", 2000, size.naive_drain_s)
    beside = tuple(calibration for _, calibration in runs)
    readings = tuple(1000 * blocks for blocks, _ in runs)
    day = tuple(drain.DAY_BLOCKS / blocks / 60 for blocks, _ in runs)
    more = {"naive": (100 * rows,), "calibration_ms": beside}
    return [
        Figure(group, "readings a second", "/s", readings, better="more", **more),  # type: ignore[arg-type]
        Figure(group, "24 h at 1,000 readings/s", "min", day, 10, calibration_ms=beside),
    ]


async def starts(around: Site, size: Size) -> list[Figure]:
    """Measure the start, empty and with a past."""
    group = "start to the first durable reading"
    empty = [await start.first_durable_s(around, f"empty-{run}") for run in range(max(1, size.runs))]
    figures = [_start_figure(group, "nothing stored", empty)]
    most = start.affordable(size.blocks, size.making_s)
    for blocks in dict.fromkeys((most // 50, most)):
        folder = await asyncio.to_thread(start.past, around.directory, blocks)
        runs = [await start.first_durable_s(around, "", folder) for _ in range(max(1, size.runs))]
        figures.append(_start_figure(group, f"{blocks:,} blocks stored", runs))
    return figures


def _start_figure(group: str, name: str, runs: Sequence[tuple[float, float]]) -> Figure:
    took, beside = zip(*runs, strict=True)
    return Figure(group, name, "s", took, 1.5, calibration_ms=beside)


async def micro(around: Site, size: Size) -> list[Figure]:
    """Measure the stages by themselves."""
    group = "stages: one second of the nominal load (decode, gather: one frame)"
    calibration = (calibrate_ms(),)
    with tempfile.TemporaryDirectory(dir=around.directory) as folder:
        found = await asyncio.to_thread(stages.pure, size.rounds, size.calls)
        found += await asyncio.to_thread(stages.disk, Path(folder), size.rounds, size.calls)
    found += await stages.exchange(size.rounds, size.calls * 8)
    found += await stages.published(around, size.rounds, size.calls)
    return [
        Figure(group, f"{one.name} (/{one.readings})", "us", one.rounds_us, calibration_ms=calibration) for one in found
    ]


async def written(around: Site, size: Size) -> list[Figure]:
    """Measure bytes to the device and in the chain over many seals."""
    return await asyncio.to_thread(flash.figures, around.directory, size.seals)


async def little(around: Site, size: Size) -> list[Figure]:
    """Measure the small station on the wire."""
    return await small.figures(around, size.small_s)


PARTS: dict[str, Callable[[Site, Size], Awaitable[list[Figure]]]] = {
    "nominal": nominal,
    "ceiling": ceiling,
    "opcua": opcua_changes,
    "drain": drains,
    "start": starts,
    "flash": written,
    "small": little,
    "stages": micro,
}


async def run(names: Sequence[str], size: Size) -> tuple[list[Figure], list[str]]:
    """Run parts, one after the other; name those that failed."""
    with tempfile.TemporaryDirectory(prefix="trambien-bench-") as temporary:
        found = [await _part(name, Path(temporary) / name, size) for name in names]
    figures = [figure for part in found for figure in part or ()]
    return figures, [name for name, part in zip(names, found, strict=True) if part is None]


async def _part(name: str, folder: Path, size: Size) -> list[Figure] | None:
    """Run one part around a broker of its own; None where it failed."""
    began_s = time.monotonic()
    folder.mkdir()
    try:
        async with site(folder) as around:
            return await PARTS[name](around, size)
    except Exception:  # noqa: BLE001 - whatever befalls a part, the others are measured
        traceback.print_exc()
        return None
    finally:
        print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)


def about(quick: bool) -> dict[str, object]:
    """Say on what, and when."""
    model = ""
    with contextlib.suppress(OSError, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "calibration_ms": round(min(calibrate_ms() for _ in range(5)), 2),
        "quick": quick,
    }


def main(arguments: Sequence[str]) -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="speed.bench", description="Measure the station.")
    parser.add_argument("--quick", action="store_true", help="every part in its smallest form")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be said again")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where the results go")
    parser.add_argument("--docs", type=Path, help="the document whose table is rewritten")
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    facts = about(options.quick)
    size = QUICK if options.quick else WHOLE
    figures, failed = asyncio.run(run(options.only or list(PARTS), size))
    options.out.mkdir(parents=True, exist_ok=True)
    shown = table(figures)
    (options.out / "bench.txt").write_text(shown + "\n")
    (options.out / "bench.json").write_text(as_json(figures, facts))
    (options.out / "bench.svg").write_text(svg(figures, f"Use of the budgets, {facts['processor']}, {facts['when']}"))
    if options.docs is not None:
        said = (
            f"{facts['processor']}, {facts['cores']} cores, Python {facts['python']}, {facts['when']}; load before: "
            f"{facts['load_before']:.1f}; the loop at best: {facts['calibration_ms']} ms."
        )
        rewrite(options.docs, f"{said}\n\n{markdown(figures)}")
    print(shown)
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
