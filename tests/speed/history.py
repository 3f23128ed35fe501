"""Buffers with a past: real seals of walking registers. `python -m speed.history FOLDER BLOCKS` makes a padded one.

What is always true here:

- What is sealed here is sealed and committed by the product's own sealer and store, with the layouts that
  `site.links_of` gives, so that the service goes on with it.
- `padded` puts copies of genuine blocks under the positions before them: a start proves the last thousand and reads
  none of the copies, yet the file and its tree are as large as they would be.
"""

import os
import sqlite3
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from speed.machine import spent
from speed.registers import walk
from speed.site import Load, links_of

from agent.clock import SystemClock
from buffer.block import read_header, sign_header
from buffer.cbor import dumps
from buffer.frame import Frame, Layout
from buffer.intervals import Intervals
from buffer.keys import DeviceKey, load_or_create
from buffer.seal import Batch, Opening, Sealer
from buffer.store import Store
from config.judge import judged
from drivers.modbus.driver import ModbusDriver

NS = 10**9
SECONDS = {"1s": 1, "5s": 5, "10s": 10, "30s": 30, "60s": 60}
GENUINE = 1500
FILLED_AT_ONCE = 250_000


class Made(NamedTuple):
    """What making a past took. Payload bytes are those of blocks; written bytes are what the device got."""

    blocks: int
    readings: int
    payload: int
    envelope: int
    written: int


def layouts_of(load: Load) -> tuple[Layout, ...]:
    """Give the layouts that the service makes of a load."""
    links = links_of(load, [502] * load.devices).items()
    drivers = [ModbusDriver(name, judged(ModbusDriver.Settings, link), SystemClock()) for name, link in links]
    return tuple(group.layout for driver in drivers for group in driver.groups)


def batches(load: Load, layouts: Sequence[Layout], seals: int, began_ns: int) -> Iterator[Batch]:
    """Give what each seal would find: so many polls of every device, each half a millisecond after the one before."""
    codes = struct.Struct(f">{load.registers}H")
    walks = [[codes.unpack(row[: codes.size]) for row in walk(seed)] for seed in range(load.devices)]
    every_s, seal_s, tick = SECONDS[load.every], SECONDS[load.seal_every], 0
    for number in range(seals):
        batch = Batch()
        while tick * every_s < (number + 1) * seal_s:
            for place, layout in enumerate(layouts):
                t_ns = began_ns + tick * every_s * NS + place * 500_000 + (tick * 7919 + place * 104_729) % 300_000
                values = walks[place][tick % len(walks[place])]
                batch.add_frame(layout, Frame(t_ns - t_ns % 1000, 400_000, values))
            tick += 1
        yield batch


def seal(folder: Path, load: Load, seals: int, *, acknowledge: bool = True, gateway: str = "station-1") -> Made:
    """Seal and commit so often, as the service does: a commit a seal, the last one's acknowledgement within it."""
    folder.mkdir(parents=True, exist_ok=True)
    key, _ = load_or_create(folder / "device.key")
    layouts, clock, acknowledged = layouts_of(load), SystemClock(), Intervals()
    blocks = readings = payload = envelope = 0
    with Store.open(folder / "buffer.db", [key.public_key]) as store:
        sealer = Sealer(gateway, key, store.epoch, 56_000, Opening(bytes(8), "speed", bytes(32), bytes(32)))
        before = spent(os.getpid())
        for batch in batches(load, layouts, seals, clock.boot_ns() - seals * NS):
            sealed = sealer.seal("main", store.heads().get("main"), batch, layouts, clock.moment())
            sent = {("province", "main"): acknowledged.copy()} if acknowledge else {}
            for position in store.append([sealed], sent)["main"]:
                acknowledged.add(position)
            blocks += len(sealed.blocks)
            readings = sealed.head.totals.readings
            payload += sum(len(block.payload or b"") for block in sealed.blocks)
            envelope += sum(len(block.envelope) for block in sealed.blocks)
        written = spent(os.getpid()).written - before.written
    return Made(blocks, readings, payload, envelope, written)


def renumbered(
    rows: list[tuple[bytes, bytes | None]], more: int, key: DeviceKey
) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Sign blocks again so many numbers later, each naming the one before."""
    prev = bytes(32)
    for envelope, payload in rows:
        header = read_header(envelope)
        again = sign_header(replace(header, seq=header.seq + more, prev=prev), key) if more else envelope
        prev = sha256(again).digest()
        yield header.seq + more, again, payload


def padded(folder: Path, load: Load, blocks: int) -> int:
    """Make a buffer that holds so many blocks, the last ones genuine; give its size in bytes."""
    path = folder / "buffer.db"
    seal(folder, load, GENUINE, gateway=folder.name)
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -65536")
        held = database.execute("SELECT max(position) FROM block_1").fetchone()[0]
        more = max(0, blocks - held)
        database.execute("CREATE TEMP TABLE genuine AS SELECT * FROM block_1 ORDER BY position")
        genuine = database.execute("SELECT envelope, payload FROM genuine").fetchall()
        database.execute("DELETE FROM block_1")
        into = "INSERT INTO block_1 (position, envelope, payload)"
        copies = f"SELECT ? + value, envelope, payload FROM filler JOIN genuine ON position = 1 + value % {held}"
        numbers = "WITH RECURSIVE filler(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM filler WHERE value < ?)"
        for start in range(0, more, FILLED_AT_ONCE):
            count = min(FILLED_AT_ONCE, more - start)
            database.execute(f"{numbers} {into} {copies}", (count, start))
        moved = renumbered(genuine, more, load_or_create(folder / "device.key")[0])
        database.executemany(f"{into} VALUES (?, ?, ?)", moved)
        database.execute("DELETE FROM acknowledged WHERE uplink = ''")
        database.execute("UPDATE acknowledged SET intervals = ?", (dumps([1, held + more]),))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path.stat().st_size


if __name__ == "__main__":
    print(padded(Path(sys.argv[1]), Load(1, 10), int(sys.argv[2])))
