"""Random damage to the buffer and its log: the keeper always opens, gives nothing damaged, and accounts for all of it.

`TRAMBIEN_DAMAGES=1000` tries so many; the suite a few.
"""

import os
import random
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from chains import key
from keepers import STREAMS, Bench

from agent.keeper import Keeper
from buffer.block import open_envelope, trust
from buffer.errors import BufferCorrupt
from buffer.intervals import Intervals
from buffer.store import Reader
from buffer.verify import Verifier

DAMAGES = int(os.environ.get("TRAMBIEN_DAMAGES", "30"))
SECTOR = 512


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], tuple[bytes, bytes | None]]]:
    """Give the files of a station that was killed, part of its blocks still in the log, and all blocks it had."""
    folder = tmp_path_factory.mktemp("station")
    path = folder / "live" / "buffer.db"
    bench = Bench(path)
    bench.seal(40)
    bench.keeper.seal({}, {("province", stream): Intervals([(1, 20)]) for stream in STREAMS})
    bench.keeper._planned = bench.keeper._house.urgent(bench.keeper._settled)
    bench.keeper._file.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bench.seal(12)
    blocks = bench.blocks()
    shutil.copytree(path.parent, folder / "killed")
    bench.keeper.close()
    assert any(payload is None for _, payload in blocks.values())
    return folder / "killed", blocks


def hurt(rng: random.Random, folder: Path) -> str:
    """Damage one of the files; say how."""
    file = folder / rng.choice(["buffer.db", "buffer.db", "buffer.db-wal"])
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    match rng.choice(["bit", "bits", "sector", "sectors", "cut", "noise"]):
        case "bit":
            data[at] ^= 1 << rng.randrange(8)
        case "bits":
            for _ in range(20):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case "sector":
            data[at // SECTOR * SECTOR : (at // SECTOR + 1) * SECTOR] = bytes(SECTOR)
        case "sectors":
            begin = at // SECTOR * SECTOR
            end = min(len(data), begin + 16 * SECTOR)
            data[begin:end] = bytes(end - begin)
        case "cut":
            del data[at:]
        case "noise":
            end = min(len(data), at + 300)
            data[at:end] = rng.randbytes(end - at)
    file.write_bytes(data)
    return f"{file.name} at {at}"


def check_accounts(path: Path, keeper: Keeper) -> None:
    """Compare the ledger with what the rows say, and the chain with what a verifier says."""
    verifier = Verifier([key().public_key])
    with Reader(path) as reader:
        for stream in reader.streams():
            counts = reader.counts(stream)
            bare = 0
            for position, block in reader.blocks(stream):
                header = verifier.feed(block.envelope, block.payload)
                assert header is not None
                assert header.seq == position
                bare += block.payload is None
            rows = reader.present(stream).count()
            ledger = keeper.ledgers[stream]
            assert counts.held == rows - bare == ledger.held
            assert counts.sealed == counts.held + counts.evicted + counts.damaged + counts.lost + counts.pruned
            assert ledger.head == counts.sealed
    report = verifier.report()
    assert not report.faults, report.faults
    assert report.verdict == "complete", report


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_whatever_is_damaged_the_keeper_opens_gives_nothing_damaged_and_accounts_for_it(
    seed: int, station: tuple[Path, dict[tuple[str, int], tuple[bytes, bytes | None]]], tmp_path: Path
) -> None:
    """Bit flips, zeroed sectors, truncations, noise: over the file and its log."""
    folder, blocks = station
    live = tmp_path / "live"
    shutil.copytree(folder, live)
    rng = random.Random(seed)
    how = hurt(rng, live)
    size = (live / "buffer.db").stat().st_size
    path = live / "buffer.db"
    bench = Bench(path, second=2000)
    given = bench.blocks()
    for place, (envelope, payload) in given.items():
        header = open_envelope(envelope, trust([key().public_key]))
        assert (header.stream, header.seq) == place, how
        assert payload is None or sha256(payload).digest() == header.payload_digest, how
        if place in blocks:
            assert envelope == blocks[place][0], how
    bench.seal(4)
    for opening in range(4):  # a damaged list of free pages shows itself when they are used, and not from a cache
        try:
            check_accounts(path, bench.keeper)
            break
        except BufferCorrupt:
            bench.keeper.close()
            bench = Bench(path, second=2500 + 100 * opening)
            bench.blocks()
            bench.seal(2)
    check_accounts(path, bench.keeper)
    bench.keeper.close()
    for kept in live.glob("buffer.db.broken-?"):
        assert kept.stat().st_size >= size, how
    again = Bench(path, second=3000)
    again.seal(1)
    check_accounts(path, again.keeper)
    again.keeper.close()


def test_the_ledger_is_that_of_an_undamaged_station_where_nothing_is_damaged(
    station: tuple[Path, dict[tuple[str, int], tuple[bytes, bytes | None]]], tmp_path: Path
) -> None:
    """The measure of the damages above: without one nothing is set aside."""
    folder, blocks = station
    live = tmp_path / "live"
    shutil.copytree(folder, live)
    bench = Bench(live / "buffer.db", second=2000)
    assert bench.blocks() == blocks
    bench.seal(2)
    assert not list(live.glob("*.broken-*"))
    assert all(ledger.damaged == 0 for ledger in bench.keeper.ledgers.values())
    check_accounts(live / "buffer.db", bench.keeper)
    bench.keeper.close()
    with closing(sqlite3.connect(live / "buffer.db")) as db:
        assert db.execute("SELECT count(*) FROM aside").fetchone() == (0,)
