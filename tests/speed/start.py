"""From the start of the process to the first durable reading: with nothing stored, and with millions of blocks.

What is always true here:

- The time is from before the process is made until its ledger counts readings that were committed.
- The large buffers are made once and kept in a temporary directory of the user, at most `MOST_BYTES` of the disk and a
  quarter of what is free; where there is less room, or less time, fewer blocks are made and the figure says how many.
- What is kept was made by the code and the schema as they are now; else it is made again. What is made in seconds is
  made each time: a buffer of an earlier day would hide that none can be made any more.
- What is stored is of small blocks: the number of blocks is what a start could depend on.
"""

import contextlib
import os
import shutil
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from speed import history
from speed.machine import calibrate_ms
from speed.site import Load, Site, links_of, registers, station

from buffer import schema
from buffer.store import Reader

BLOCK_BYTES = 520
MOST_BYTES = 4_000_000_000
BLOCKS_PER_S = 60_000
"""How fast a slow machine makes them; the time allowed bounds the number."""
KEPT_FROM = 1_000_000
"""Fewer are made in seconds, and not kept."""
LOAD = Load(1, 10)


def affordable(wanted: int, seconds: float) -> int:
    """Give how many blocks may be made here in the time allowed."""
    room = min(MOST_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 4)
    return int(min(wanted, room // BLOCK_BYTES, seconds * BLOCKS_PER_S))


def past(directory: Path, blocks: int) -> Path:
    """Give the folder of a buffer with so many blocks: under `directory`, or a large one as an earlier run left it."""
    kept = blocks >= KEPT_FROM
    around = Path(tempfile.gettempdir()) / f"trambien-speed-{os.getuid()}" if kept else directory
    folder = around / f"station-{blocks}"
    made, by = folder / "made", _makers()
    if not (kept and made.exists() and made.read_text() == by):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        history.padded(folder, LOAD, blocks)
        made.write_text(by)
    return folder


def _makers() -> str:
    """Name the code that makes a buffer: its digest."""
    return sha256(b"".join(Path(one.__file__).read_bytes() for one in (history, schema))).hexdigest()


async def first_durable_s(around: Site, name: str, folder: Path | None = None) -> tuple[float, float]:
    """Start once; give the seconds, and the calibration beside. `folder` holds a buffer to go on with."""
    stored = 0
    if folder is not None:
        name = folder.name
        if not (around.directory / name).exists():
            (around.directory / name).symlink_to(folder)
        with contextlib.closing(Reader(folder / "buffer.db")) as reader:
            stored = reader.last_position("main")
    calibration_ms = calibrate_ms()
    with registers(LOAD.devices) as ports:
        began_s = time.monotonic()
        async with station(around, name, links_of(LOAD, ports)) as running:
            await running.until_measuring(beyond=stored)
            took_s = time.monotonic() - began_s
    return took_s, calibration_ms
