"""Loads on the whole pipeline: nominal beside the naive script, small stations, and as fast as it goes.

What is always true here:

- A window begins after a warm-up and is bounded by the ledger: readings are those sealed within it.
- Latency is from the moment an answer was complete, as the block says, to the PUBACK of the block that holds it.
- A tick's lateness is from the place on the grid where it is due to the first question.
"""

import asyncio
import contextlib
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from speed.machine import calibrate_ms
from speed.site import Load, Site, Station, links_of, naive, registers, station

from buffer.frame import Frame
from buffer.keys import load_public
from buffer.layout import decode_catalogue, decode_layout
from buffer.store import Reader
from buffer.verify import Verifier, payload_of

NS = 10**9
MOST_BLOCKS = 400
"""So many blocks are opened for latencies: the last ones of the run."""
FIRST_BLOCKS = 4
"""Definitions, the start, and the first ticks, which stand where the start was and not on the grid."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one station did in its window."""

    readings_per_s: float
    cpu_percent: float
    cpu_us: float
    wire_bytes: float
    flash_bytes: float
    rss_mb: float
    growth_kb_per_min: float
    latency_s: tuple[float, float]
    """p50 and p99."""
    late_ms: float
    """p99."""
    missed: int
    calibration_ms: float


def percentile(numbers: list[float], share: float) -> float:
    """Give the nearest-rank percentile; 0 where there is nothing."""
    known = sorted(numbers)
    return known[min(len(known) - 1, int(len(known) * share))] if known else 0.0


async def observed(running: Station, warm_s: float, seconds: float) -> Run:
    """Measure a station over a window; latencies are filled in by `judged` once it has left."""
    await running.until_measuring()
    await running.until_acknowledged()
    await asyncio.sleep(warm_s)
    calibration = [calibrate_ms()]  # and what it costs to be asked for `status` stands outside of the window
    first, before, bytes_before = await running.status(), running.spent(), running.proxy.passed
    await asyncio.sleep(seconds)
    after, bytes_after, last = running.spent(), running.proxy.passed, await running.status()
    calibration.append(calibrate_ms())
    main = [status["streams"]["main"] for status in (first, last)]
    readings = max(1, main[1]["readings"] - main[0]["readings"])
    took_s, cpu_s = after.at_s - before.at_s, after.cpu_s - before.cpu_s
    return Run(
        readings_per_s=readings / took_s,
        cpu_percent=100 * cpu_s / took_s,
        cpu_us=1e6 * cpu_s / readings,
        wire_bytes=(bytes_after - bytes_before) / readings,
        flash_bytes=(after.written - before.written) / readings,
        rss_mb=after.rss_kb / 1000,
        growth_kb_per_min=60 * (after.rss_kb - before.rss_kb) / took_s,
        latency_s=(0.0, 0.0),
        late_ms=0.0,
        missed=main[1]["ticks_missed"] - main[0]["ticks_missed"],
        calibration_ms=statistics.mean(calibration),
    )


def judged(running: Station) -> tuple[tuple[float, float], float]:
    """Give p50 and p99 of the latency in seconds, and p99 of the ticks' lateness in ms, from the buffer it left."""
    settled = {}
    for line in running.settled.read_text().splitlines():
        stream, position, t_ns = line.split()
        settled[stream, int(position)] = int(t_ns)
    if not settled:
        raise ValueError("no block was acknowledged")
    latencies, lateness = [], []
    for position, every_ns, frame in _frames(running.buffer):
        if position > FIRST_BLOCKS and ("main", position) in settled:
            latencies.append((settled["main", position] - frame.t_boot_ns) / NS)
            lateness.append((frame.t_boot_ns - frame.span_ns) % every_ns / 1e6)
    return (percentile(latencies, 0.5), percentile(latencies, 0.99)), percentile(lateness, 0.99)


def _frames(buffer: Path) -> Iterator[tuple[int, int, Frame]]:
    """Open the last blocks of a buffer, each proven; give every frame with its position and interval."""
    verifier = Verifier([load_public(buffer.with_name("device.key.pub"))], whole=False)
    with contextlib.closing(Reader(buffer)) as reader:
        last = reader.last_position("main")
        for position, block in reader.blocks("main", max(1, last - MOST_BLOCKS)):
            header = verifier.feed(block.envelope, block.payload, position)
            catalogue = None if header is None else reader.catalogue(header.catalogue)
            if header is None or catalogue is None or not header.frames:
                continue
            encoded = [reader.layout(identity) for identity in decode_catalogue(catalogue)]
            layouts = tuple(decode_layout(layout) for layout in encoded if layout is not None)
            for place, frames in payload_of(block, header, layouts).frames:
                yield from ((position, layouts[place].every_ns or NS, frame) for frame in frames)


async def loaded(around: Site, name: str, load: Load, warm_s: float, seconds: float) -> Run:
    """Run one station under a load."""
    with registers(load.devices) as ports:
        async with station(around, name, links_of(load, ports), seal_every=load.seal_every) as running:
            run = await observed(running, warm_s, seconds)
    latency_s, late_ms = judged(running)
    return replace(run, latency_s=latency_s, late_ms=late_ms)


async def naively(around: Site, name: str, load: Load, every_s: float, warm_s: float, seconds: float) -> Run:
    """Run the naive script under the same load."""
    with registers(load.devices) as ports:
        async with naive(around, name, ports, load, every_s=every_s) as running:
            await asyncio.sleep(1 + warm_s)
            calibration = [calibrate_ms()]
            before, bytes_before, sent_before = running.spent(), running.proxy.passed, _sent(running)
            await asyncio.sleep(seconds)
            after, bytes_after, sent_after = running.spent(), running.proxy.passed, _sent(running)
            calibration.append(calibrate_ms())
    done = json.loads(running.settled.read_text())
    readings = max(1, (sent_after - sent_before) * load.registers)
    took_s, cpu_s = after.at_s - before.at_s, after.cpu_s - before.cpu_s
    return Run(
        readings_per_s=readings / took_s,
        cpu_percent=100 * cpu_s / took_s,
        cpu_us=1e6 * cpu_s / readings,
        wire_bytes=(bytes_after - bytes_before) / readings,
        flash_bytes=(after.written - before.written) / readings,
        rss_mb=after.rss_kb / 1000,
        growth_kb_per_min=60 * (after.rss_kb - before.rss_kb) / took_s,
        latency_s=(percentile(done["latency_s"], 0.5), percentile(done["latency_s"], 0.99)),
        late_ms=0.0,
        missed=0,
        calibration_ms=statistics.mean(calibration),
    )


def _sent(running: Station) -> int:
    """Give how many rows the naive script has sent so far."""
    with contextlib.suppress(OSError, ValueError):
        return int(running.settled.with_suffix(".so_far").read_text())
    return 0


async def side_by_side(around: Site, name: str, load: Load, warm_s: float, seconds: float) -> tuple[Run, Run]:
    """Run the station and the naive script in the same seconds."""
    ours = loaded(around, f"{name}-ours", load, warm_s, seconds)
    theirs = naively(around, f"{name}-naive", load, 1.0, warm_s, seconds)
    return await asyncio.gather(ours, theirs)


async def polls_per_s(ports: list[int], seconds: float) -> float:
    """Ask the register server alone, from this process, as fast as bare sockets go: its own ceiling or above ours."""
    question = bytes.fromhex("000100000006010400000064")

    async def ask(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        until_s, polls = asyncio.get_running_loop().time() + seconds, 0
        with contextlib.closing(writer):
            while asyncio.get_running_loop().time() < until_s:
                writer.write(question * 16)
                await reader.readexactly(16 * 209)
                polls += 16
        return polls

    return sum(await asyncio.gather(*map(ask, ports))) / seconds
