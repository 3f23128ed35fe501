"""A buffer of every released schema opens, goes on, and is proven; tools read it as it is."""

import shutil
from pathlib import Path

import pytest
from chains import key, station_of

from buffer.intervals import Intervals
from buffer.schema import SCHEMA
from buffer.store import Counts, Reader, Store

BUFFERS = Path(__file__).parents[1] / "data" / "buffers"
RELEASED = sorted(BUFFERS.glob("schema-*.db"))


def test_every_schema_before_ours_is_kept():
    """One file each."""
    assert [path.stem for path in RELEASED] == [f"schema-{number}" for number in range(1, SCHEMA)]


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
def test_a_released_schema_opens_and_goes_on(released, tmp_path):
    """Migrated in place; nothing of it is lost."""
    path = tmp_path / "buffer.db"
    shutil.copy(released, path)
    with Reader(path) as reader:
        before = reader.counts("main")
        assert reader.absent("main", 1, 9, "pruned") == Intervals()
        assert before == Counts(before.sealed, before.sealed)
    with Store.open(path, [key().public_key]) as store:
        assert store.prove().verdict == "complete"
        assert store.acknowledged("province", "main") == Intervals([(1, 3), (5, 5)])
        store.append([station_of(store).seal()])
        assert store.counts("main").sealed == before.sealed + 2
        assert store.prove().verdict == "complete"
        assert not store.scrub("main", 1, 100).damages
