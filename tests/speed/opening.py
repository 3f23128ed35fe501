"""How long a start takes with millions of blocks stored, and what memory it needs.

`python tests/speed/opening.py [BLOCKS]` makes a buffer of that many small rows, the last thousand of them real, and
opens it as the station does: heads, ledgers, the last thousand proven, one block sealed. Then it reads the ledgers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.block import ClockQuality, Totals
from buffer.frame import Column, Frame, Layout
from buffer.keys import DeviceKey
from buffer.quota import Quota
from buffer.seal import Batch, Head, Moment, Sealer
from buffer.store import Store

KEY = DeviceKey.from_seed(bytes(32))
LAYOUT = Layout("link", "device", "modbus", 10**9, (Column("r", "uint16"),))
NOW = Moment(bytes(16), 10**12, 10**18, ClockQuality("synchronised", 1_000_000, "ntp"))


def batch(number: int) -> Batch:
    """Give a batch of one frame."""
    found = Batch()
    found.add_frame(LAYOUT, Frame(10**12 + number, 0, (number % 65536,)))
    return found


def make(path: Path, blocks: int) -> None:
    """Fill a buffer: rows that only take their room, and a thousand that prove."""
    with Store.open(path, [KEY.public_key]) as store:
        sealer = Sealer("station-1", KEY, store.epoch, 56_000)
        head = sealer.seal("main", None, batch(0), (LAYOUT,), NOW).head
        store.connection.execute("BEGIN")
        store.number_of("main")
        store.connection.execute(
            "WITH RECURSIVE n(p) AS (SELECT 1 UNION ALL SELECT p + 1 FROM n WHERE p < ?) "
            "INSERT INTO block_1 (position, envelope, payload) SELECT p, zeroblob(380), zeroblob(60) FROM n",
            (blocks,),
        )
        store.connection.execute("COMMIT")
        head = Head(head.epoch, blocks, head.digest, Totals(), head.catalogue)
        store._heads = {"main": head}
        for number in range(1000):
            sealed = sealer.seal("main", head, batch(number), (LAYOUT,), NOW)
            store.append([sealed])
            head = sealed.head


def start(path: Path) -> None:
    """Open as the station does, and say how long it took."""
    began = time.perf_counter()
    identity = Identity("station-1", KEY, "0", bytes(32), bytes(32))
    rules = Rules(Quota(10**11, 10**18, 0), {"province": None})
    site = Site(path, identity, (KEY.public_key,), {"main": (LAYOUT,)}, 56_000, rules=rules)
    keeper = Keeper(site, lambda: NOW, lambda: os.urandom(8))
    keeper.open(["province"])
    opened = time.perf_counter()
    keeper.seal({"main": batch(1)}, {})
    sealed = time.perf_counter()
    store, _ = keeper._opened()
    for _ in range(1000):
        store.counts("main")
    counted = time.perf_counter()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"opened and proven {opened - began:8.3f} s")
    print(f"first block       {sealed - opened:8.3f} s")
    print(f"a ledger          {(counted - sealed) * 1e3:8.3f} us")
    print(f"RSS               {int(status['VmRSS'].split()[0]) / 1000:8.1f} MB")
    print(f"blocks            {keeper.ledgers['main'].head:8d}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", type=int, nargs="?", default=5_000_000)
    parser.add_argument("--start", type=Path)
    options = parser.parse_args()
    if options.start:
        start(options.start)
    else:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            made = Path(temporary) / "buffer.db"
            make(made, options.blocks)
            subprocess.run([sys.executable, __file__, "--start", str(made)], check=True)
