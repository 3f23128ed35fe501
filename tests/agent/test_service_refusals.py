"""`trambien run` where it cannot run, or not on with what it finds: one clear line, its cure, and the exit code."""

import sqlite3
from pathlib import Path

import pytest
from running import SIMULATED, Running, assert_told, run

from agent.errors import Exit
from buffer.keys import known_public
from buffer.store import Reader
from buffer.verify import Verifier


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration with one simulated device and no uplink."""
    path = tmp_path / "gateway.yaml"
    path.write_text(SIMULATED.format(buffer="data/buffer.db", uplinks=""))
    return path


def test_faults_of_the_configuration_are_told_and_exit_78(config: Path) -> None:
    """An unknown key is named with its place."""
    config.write_text(config.read_text().replace("seal_every", "seal_evry"))
    assert_told(run(config), Exit.CONFIG, "gateway.yaml:3:", "seal_evry", "seal_every")


def test_a_helper_that_dies_is_told_and_another_start_is_worth_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69, after which systemd starts it again; what only the worker loads is broken here."""
    (tmp_path / "broken" / "ruamel").mkdir(parents=True)
    (tmp_path / "broken" / "ruamel" / "__init__.py").write_text("import os; os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    assert_told(run(config), Exit.UNAVAILABLE, "worker process")


def test_a_missing_configuration_is_told(tmp_path: Path) -> None:
    """The first thing that goes wrong on a new machine."""
    assert_told(run(tmp_path / "none.yaml"), Exit.CONFIG, "none.yaml")


def test_a_key_that_others_may_read_is_refused(config: Path) -> None:
    """77, the path and the cure; the key stays what it is."""
    first = Running(config)
    first.status()
    first.leave()
    key = config.with_name("data") / "device.key"
    before = key.read_bytes()
    key.chmod(0o644)
    assert_told(run(config), Exit.PERMISSION, str(key), "chmod")
    assert key.read_bytes() == before


def test_an_unreadable_buffer_is_set_aside_and_kept(config: Path) -> None:
    """Whatever it is, it may be evidence; the station runs on beside it."""
    buffer = config.with_name("data") / "buffer.db"
    buffer.parent.mkdir()
    buffer.write_bytes(b"this is no database" * 100)
    first = Running(config)
    first.status()
    first.leave()
    assert buffer.with_name("buffer.db.broken-1").read_bytes() == b"this is no database" * 100


def test_another_programs_database_is_refused_and_not_touched(config: Path) -> None:
    """74: a path that was mistyped must not cost somebody their data."""
    buffer = config.with_name("data") / "buffer.db"
    buffer.parent.mkdir()
    with sqlite3.connect(buffer) as db:
        db.execute("PRAGMA application_id = 77")
    db.close()
    before = buffer.read_bytes()
    assert_told(run(config), Exit.BUFFER, str(buffer))
    assert buffer.read_bytes() == before


def test_a_buffer_of_a_newer_schema_is_refused_and_not_touched(config: Path) -> None:
    """74; an older program never writes into it."""
    first = Running(config)
    first.status()
    first.leave()
    buffer = config.with_name("data") / "buffer.db"
    with sqlite3.connect(buffer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = buffer.read_bytes()
    assert_told(run(config), Exit.BUFFER, "99")
    assert buffer.read_bytes() == before


def test_a_buffer_directory_that_cannot_be_made_is_told(config: Path) -> None:
    """A file stands where the directory should be."""
    config.with_name("data").write_text("in the way")
    assert_told(run(config), Exit.BUFFER, "data")


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_key_that_is_gone_is_replaced_and_the_chain_says_so(config: Path, harm: str) -> None:
    """Nothing is deleted, an alarm stands in the logbook, and both keys together prove all of it."""
    first = Running(config)
    first.status()
    first.leave()
    key = config.with_name("data") / "device.key"
    if harm == "damaged":
        key.write_bytes(b"no key at all")
    else:
        key.unlink()
    service = Running(config)
    service.status()
    assert "key-lost" in service.leave()
    known = known_public(key)
    assert len(known) == 2
    verifier = Verifier(known)
    with Reader(key.with_name("buffer.db")) as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    assert report.verdict == "complete"
    assert len(report.epochs) == 2


def test_a_buffer_that_no_known_key_signed_is_set_aside_and_kept(config: Path) -> None:
    """A stranger's buffer is not continued, and not lost; a chain of our own begins."""
    first = Running(config)
    first.status()
    first.leave()
    data = config.with_name("data")
    for file in data.glob("device.key*"):
        file.unlink()
    before = (data / "buffer.db").read_bytes()
    again = Running(config)
    assert again.status()["streams"]["main"]["damaged"] == 0
    again.leave()
    assert (data / "buffer.db.broken-1").read_bytes() == before
