"""A rotation of the device key, killed at each of its steps: exactly one key is in force, and the chain is provable."""

import os
import random
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import LAYOUT, SIDE_LAYOUT

from agent.clock import SystemClock
from agent.keeper import Identity, Keeper, Site
from buffer.custody import Custody, believed, published
from buffer.errors import BufferUnreadable, CommitFailed, KeyFixed
from buffer.frame import Frame
from buffer.keys import load_public
from buffer.seal import Batch
from buffer.store import Reader, Store
from buffer.verify import Report, Verifier

WATCHED = {"fsync", "open", "rename", "write", "unlink", "execute", "executemany", "close", "flock", "fchmod"}
STREAMS = {"main": (LAYOUT,), "side": (SIDE_LAYOUT,)}


def keeper_of(folder: Path, streams: dict = STREAMS) -> tuple[Keeper, Custody]:
    """Give what a start gives: the key as it is found, and the store opened with it."""
    path = folder / "device.key"
    custody = Custody.open(path)
    identity = Identity("station-1", custody.signer, "test", bytes(32), bytes(32))
    site = Site(folder / "buffer.db", identity, believed(path), streams, 56_000, custody=custody)
    keeper = Keeper(site, SystemClock().moment, lambda: os.urandom(8))
    keeper.open(("province",))
    return keeper, custody


def seal(keeper: Keeper, serial: int = 1) -> None:
    """Commit one frame in each stream."""
    now = SystemClock().boot_ns()
    batches = {
        "main": Batch({LAYOUT: [Frame(now, 0, (serial, 1.5))]}),
        "side": Batch({SIDE_LAYOUT: [Frame(now, 0, (serial,))]}),
    }
    keeper.seal(batches, {})


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a key and a buffer of two streams; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("station")
    keeper, custody = keeper_of(folder)
    seal(keeper)
    keeper.close()
    shutil.copy(folder / "device.key.pub", folder / "enrolled.pub")
    assert custody.enrolled
    return folder


@pytest.fixture
def folder(station: Path, tmp_path: Path) -> Path:
    """Give a copy."""
    return fresh(station, tmp_path / "copy")


def fresh(station: Path, folder: Path) -> Path:
    """Copy a station."""
    shutil.copytree(station, folder)
    return folder


def proof(folder: Path, *names: str) -> Report:
    """Verify all streams with nothing but the enrolled key."""
    verifier = Verifier([load_public(folder / "enrolled.pub")])
    with Reader(folder / "buffer.db") as reader:
        for stream in names or reader.streams():
            for position, block in reader.blocks(stream):
                verifier.feed(block.envelope, block.payload, (stream, position))
    return verifier.report()


def rotate(folder: Path) -> None:
    """Start, rotate, seal, leave."""
    keeper, _ = keeper_of(folder)
    keeper.rotate()
    seal(keeper, 2)
    keeper.close()


def restart(folder: Path) -> None:
    """Start, seal, leave."""
    keeper, _ = keeper_of(folder)
    seal(keeper, 3)
    keeper.close()


def killed_at(step: int, act: Callable[[Path], None], folder: Path) -> bool:
    """Do it in a process that is killed around its n-th system call of note; say whether it was, or had ended."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(_frame: object, what: str, function: object) -> None:
            nonlocal left
            if what in ("c_call", "c_return") and getattr(function, "__name__", "") in WATCHED:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(watch)
            act(folder)
            sys.setprofile(None)  # what follows is not ours: a measured child writes down what it ran
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must not go on as the test
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def assert_sound(folder: Path, step: object) -> int:
    """One key is in force, everything is proven from the enrolled one, and rotating goes on. Give the rotations."""
    report = proof(folder)
    assert report.verdict == "complete", (step, report.faults)
    names = sorted(path.name for path in folder.iterdir())
    assert not [name for name in names if name.endswith((".next", ".new"))], (step, names)
    path = folder / "device.key"
    custody = Custody.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert custody.enrolled
    assert custody.fate == "loaded"
    known = published(path)
    assert known is not None
    assert known.public_key == custody.signer.public_key
    with Store.open(folder / "buffer.db", believed(path)) as store:
        heads = [store.read(stream, at, at).blocks[0][2].kid for stream, at in last_positions(store)]
    assert set(heads) == {custody.signer.kid}, step
    return len(custody.statements)


def last_positions(store: Store) -> list[tuple[str, int]]:
    """Give the last position of each stream."""
    return [(stream, store.last_position(stream)) for stream in store.streams()]


def test_a_rotation_stands_in_every_stream_and_the_chain_is_proven_from_the_enrolled_key(folder: Path) -> None:
    """Each stream alone, too; the old key is gone, its public half is kept."""
    old = (folder / "device.key").read_bytes()
    rotate(folder)
    assert assert_sound(folder, "whole") == 1
    for stream in STREAMS:
        assert proof(folder, stream).verdict == "complete"
    assert not any(path.read_bytes() == old for path in folder.iterdir())
    assert (folder / "device.key.old-1.pub").read_bytes() == (folder / "enrolled.pub").read_bytes()


@pytest.mark.parametrize(("before", "stride"), [(0, 1), (1, 4)])
def test_a_kill_at_each_step_leaves_one_key_in_force(station: Path, tmp_path: Path, before: int, stride: int) -> None:
    """Around every write, rename, sync and commit of the first rotation, and some of the second; both ends are met."""
    begun = fresh(station, tmp_path / "begun")
    for _ in range(before):
        rotate(begun)
    outcomes: set[int] = set()
    step = 0
    killed = True
    while killed:
        step += stride
        folder = fresh(begun, tmp_path / f"{step}")
        killed = killed_at(step, rotate, folder)
        restart(folder)
        outcomes.add(assert_sound(folder, step) - before)
        shutil.rmtree(folder)
    assert step > 60
    assert outcomes == {0, 1}


def test_kills_one_after_another_leave_one_key_in_force(station: Path, tmp_path: Path) -> None:
    """In rotations and in the starts that mend them, at random, and the station goes on rotating."""
    chance = random.Random(4)
    folder = fresh(station, tmp_path / "copy")
    kills = 0
    for _ in range(80):
        kills += killed_at(chance.randrange(1, 240), chance.choice((rotate, rotate, restart)), folder)
    restart(folder)
    assert kills > 40
    assert assert_sound(folder, "after all") > 3


def test_a_stream_that_is_not_configured_any_more_is_told_too(folder: Path) -> None:
    """It may come back, and another platform may still read it; its catalogue stays what it was."""
    keeper, _ = keeper_of(folder, {"main": (LAYOUT,)})
    kept = keeper.rotate()
    keeper.close()
    assert {one.stream for one in kept} == {"main", "side"}
    assert len({one.catalogue for one in kept}) == 2
    assert sum(one.stream == "side" for one in kept) == 1
    restart(folder)
    assert proof(folder, "side").verdict == "complete"


def test_layouts_that_are_damaged_do_not_stop_a_rotation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream then names an empty catalogue, signed as any."""
    keeper, _ = keeper_of(folder, {"main": (LAYOUT,)})

    def damaged(_: bytes) -> None:
        raise BufferUnreadable(path="", reason="damaged")

    monkeypatch.setattr(keeper, "definition", damaged)
    keeper.rotate()
    keeper.close()
    restart(folder)
    assert_sound(folder, "damaged")


@pytest.mark.parametrize("came_through", [False, True])
def test_a_rotation_whose_commit_failed_is_settled_by_what_the_store_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, came_through: bool
) -> None:
    """Its sync may have failed alone: then the new key is in force, and its blocks are told with the next ones."""
    keeper, custody = keeper_of(folder)
    old = custody.signer.kid
    append = Store.append

    def failing(store: Store, sealed: object, acknowledged: object, changes: object) -> None:
        if came_through:
            append(store, sealed, acknowledged, changes)  # type: ignore[arg-type]
        store.failed = True
        raise CommitFailed(path="", reason="told so")

    monkeypatch.setattr(Store, "append", failing)
    with pytest.raises(CommitFailed):
        keeper.rotate()
    monkeypatch.undo()
    with pytest.raises(CommitFailed):
        keeper.rotate()  # not before the doubt is over
    now = SystemClock().boot_ns()
    kept = keeper.seal({"main": Batch({LAYOUT: [Frame(now, 0, (9, 1.5))]})}, {})
    keeper.close()
    positions = [one.position for one in kept if one.stream == "main"]
    assert positions == list(range(3, positions[-1] + 1))
    assert {one.stream for one in kept} == ({"main", "side"} if came_through else {"main"})
    assert (keeper.signer.kid != old) == came_through
    assert keeper.ledgers["main"].head == positions[-1]
    restart(folder)
    assert assert_sound(folder, came_through) == came_through


def test_a_switch_that_cannot_be_written_is_in_force_and_ended_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next key is durable before the commit; the old one has retired."""
    keeper, custody = keeper_of(folder)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("buffer.custody.take_place", broken)
    keeper.rotate()
    seal(keeper, 5)
    with pytest.raises(BufferUnreadable):
        custody.begin("station-1")
    monkeypatch.undo()
    keeper.close()
    restart(folder)
    assert assert_sound(folder, "switch") == 1


def test_an_undoing_that_cannot_be_written_stops_that_start_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept open by it."""
    keeper, custody = keeper_of(folder)
    keeper.close()
    custody.begin("station-1")
    monkeypatch.setattr("buffer.custody.remove", lambda _: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(BufferUnreadable):
        keeper_of(folder)
    monkeypatch.undo()
    restart(folder)
    assert assert_sound(folder, "undone") == 0


def test_which_key_is_in_force_is_not_read_from_a_log_that_is_not_sure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would take the statement back, and the key would have been switched: that start fails instead."""
    keeper, custody = keeper_of(folder)
    keeper.close()
    custody.begin("station-1")

    def unsure(store: Store) -> None:
        raise CommitFailed(path=str(store.path), reason="I/O")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "make_sure", unsure)
        with pytest.raises(BufferUnreadable):
            keeper_of(folder)
    restart(folder)
    assert assert_sound(folder, "undone") == 0


def test_a_signer_that_is_not_ours_is_not_rotated(folder: Path) -> None:
    """A secure element has its own ways."""
    path = folder / "device.key"
    signer = Custody.open(path).signer
    site = Site(folder / "buffer.db", Identity("s", signer, "", b"", b""), believed(path), STREAMS, 56_000)
    keeper = Keeper(site, SystemClock().moment, lambda: os.urandom(8))
    with pytest.raises(KeyFixed):
        keeper.rotate()
    keeper.open(())
    seal(keeper)
    keeper.close()
