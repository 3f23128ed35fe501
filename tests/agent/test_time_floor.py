"""The floor of time: it rises slowly, never falls, survives damage, and stops nobody."""

from pathlib import Path

import pytest

from agent.clock import Belief, Look
from agent.time_floor import DAY_NS, EARLIEST_NS, HOUR_NS, LEAP_NS, TimeFloor, read, write
from buffer.block import ClockQuality

SECOND = 10**9
WALL = EARLIEST_NS + 100 * DAY_NS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the floor is."""
    return tmp_path / "clock.floor"


def note(floor: TimeFloor, boot_ns: int, wall_ns: int, quality: str = "synchronised", error_ns: int | None = 7) -> None:
    """Tell the floor of a look."""
    belief = Belief(boot_ns, wall_ns - boot_ns, ClockQuality(quality, error_ns, "kernel"))
    floor.note(belief, Look(boot_ns, boot_ns, wall_ns))


def held(floor: TimeFloor, boot_ns: int, wall_ns: int, hours: int = 1) -> None:
    """Be synchronised for so many hours from then on."""
    for at in range(hours + 1):
        note(floor, boot_ns + at * HOUR_NS, wall_ns + at * HOUR_NS)


def test_it_rises_to_what_is_certain_after_an_hour(path):
    """Wall time less its largest error; before that there is no floor."""
    floor = TimeFloor(path, 0)
    note(floor, 0, WALL)
    note(floor, HOUR_NS - 1, WALL + HOUR_NS - 1)
    assert floor.now_not_before(HOUR_NS) is None
    note(floor, HOUR_NS, WALL + HOUR_NS)
    assert floor.now_not_before(HOUR_NS) == WALL + HOUR_NS - 7
    assert floor.now_not_before(2 * HOUR_NS) == WALL + 2 * HOUR_NS - 7 - HOUR_NS // 10_000


@pytest.mark.parametrize(("quality", "error_ns"), [("holdover", 7), ("unsynchronised", None), ("synchronised", None)])
def test_an_hour_begins_again_when_the_clock_is_lost(path, quality, error_ns):
    """A source that comes and goes is not believed."""
    floor = TimeFloor(path, 0)
    note(floor, 0, WALL)
    note(floor, HOUR_NS - 1, WALL, quality, error_ns)
    note(floor, HOUR_NS, WALL + HOUR_NS)
    assert floor.now_not_before(HOUR_NS) is None


def test_it_never_falls(path):
    """Neither in memory nor over a restart, whatever a later source says."""
    floor = TimeFloor(path, 0)
    held(floor, 0, WALL)
    before_ns = floor.now_not_before(2 * HOUR_NS)
    held(floor, 2 * HOUR_NS, WALL - DAY_NS)
    assert floor.now_not_before(2 * HOUR_NS) == before_ns
    floor.keep()
    again = TimeFloor(path, 0)
    held(again, 0, WALL - DAY_NS)
    assert again.now_not_before(0) == WALL + HOUR_NS - 7


def test_a_liar_raises_it_by_400_days_a_day_at_most(path):
    """And by nothing but the time that passes in between; the slow rise of every hour is no leap."""
    floor = TimeFloor(path, 0)
    held(floor, 0, WALL, hours=30)
    true_ns = WALL + 30 * HOUR_NS
    held(floor, 30 * HOUR_NS, true_ns + 20 * LEAP_NS, hours=20)
    lied_ns = floor.now_not_before(50 * HOUR_NS)
    assert LEAP_NS < lied_ns - true_ns < LEAP_NS + 21 * HOUR_NS
    held(floor, 50 * HOUR_NS, true_ns + 20 * LEAP_NS, hours=10)
    assert 2 * LEAP_NS < floor.now_not_before(60 * HOUR_NS) - true_ns < 2 * LEAP_NS + 31 * HOUR_NS


def test_it_is_written_at_most_once_an_hour(path):
    """And not at all while it is up to date."""
    floor = TimeFloor(path, 0)
    assert not floor.due(0)
    floor.keep()
    assert not path.exists()
    held(floor, 0, WALL)
    assert floor.due(HOUR_NS)
    floor.keep()
    assert read(path) == WALL + HOUR_NS - 7
    note(floor, HOUR_NS + SECOND, WALL + HOUR_NS + SECOND)
    assert not floor.due(2 * HOUR_NS - 1)
    assert floor.due(2 * HOUR_NS)
    floor.keep()
    assert not floor.due(9 * HOUR_NS)
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_is_no_floor(path):
    """Any changed character, an empty file, a directory: none stops the start."""
    write(path, WALL)
    sound = path.read_bytes()
    for at in range(len(sound) - 1):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        assert read(path) is None, at
    for content in (b"", b"\xff\xfe", b"0 0", sound[:-5], b"\0" * 64):
        path.write_bytes(content)
        assert TimeFloor(path, 0).now_not_before(0) is None
    write(path, EARLIEST_NS - 1)
    assert read(path) is None
    path.unlink()
    path.mkdir()
    assert read(path) is None


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path):
    """It is tried again an hour later."""
    floor = TimeFloor(tmp_path / "gone" / "clock.floor", 0)
    held(floor, 0, WALL)
    assert floor.due(HOUR_NS)
    floor.keep()
    assert not floor.due(HOUR_NS + 1)
    assert floor.due(2 * HOUR_NS)


def test_the_file_is_durable_before_it_is_the_floor(path, monkeypatch):
    """Temporary, fsync, rename, fsync of the directory, in this order."""
    done: list[str] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append("fsync"))
    plain = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (done.append("rename"), plain(self, to))[1])
    write(path, WALL)
    assert done == ["fsync", "rename", "fsync"]
