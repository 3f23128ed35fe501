"""`links.d/*.yaml`: one configuration in several files; the faults' words are golden files in tests/cases."""

import os
import shutil
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import pytest

from config.errors import ConfigFaults
from config.load import load
from config.raw import digest_of
from tests.config.meter import HEAD, LINKS, settings_for

TANK = LINKS.replace("bus", "tank-bus").replace("m:", "tank:")


@pytest.fixture
def station(tmp_path):
    """Write a main file and parts beside it; give the main file."""

    def write(main=HEAD + LINKS, **parts):
        file = tmp_path / "gateway.yaml"
        file.write_text(main)
        for name, text in parts.items():
            part = tmp_path / "links.d" / f"{name}.yaml"
            part.parent.mkdir(exist_ok=True)
            part.write_text(text)
        return file

    return write


def judged(file):
    """Load a file as the product does."""
    return load(file, settings_for, ("meter",))


def faults_of(file):
    """Give code, file name and line of every fault."""
    with pytest.raises(ConfigFaults) as caught:
        judged(file)
    return [(fault.code, fault.file.name, fault.line) for fault in caught.value.faults]


def test_links_of_all_files_are_links_of_the_station_in_the_order_of_names(station):
    """The main file's first."""
    parts = {"b": TANK, "a": LINKS.replace("bus", "early").replace("m:", "n:")}
    assert list(judged(station(**parts)).config.links) == ["bus", "early", "tank-bus"]


def test_the_main_file_need_not_have_links(station):
    """With nothing, or with an empty key."""
    for main in (HEAD, HEAD + "links:\n"):
        assert list(judged(station(main, a=TANK)).config.links) == ["tank-bus"]


def test_without_any_link_the_station_has_nothing_to_do(station):
    """A folder of empty files is no excuse."""
    assert faults_of(station(HEAD, a="# nothing\n", b="links:\n")) == [("config.missing-key", "gateway.yaml", 1)]


def test_a_fault_stands_in_its_own_file(station):
    """With its own line, also for what only shows when all is known."""
    faults = faults_of(station(a=TANK.replace("unit: 3", "unit: x"), b=TANK.replace("tank-bus", "other")))
    assert faults == [("config.not-integer", "a.yaml", 5)]
    faults = faults_of(station(a=LINKS.replace("bus", "again")))
    assert faults == [("config.duplicate-device", "a.yaml", 5)]


def test_a_link_of_a_name_taken_names_both_places(station):
    """Neither of the two is taken quietly."""
    file = station(a=LINKS.replace("m:", "n:"))
    with pytest.raises(ConfigFaults) as caught:
        judged(file)
    (fault,) = caught.value.faults
    assert (fault.code, fault.file.name, fault.line, fault.col) == ("config.duplicate-link", "a.yaml", 2, 3)
    assert fault.fields["first"] == f"{file}:3"


def test_a_file_that_cannot_be_understood_hides_no_other_faults(station):
    """And what it may have held is not called missing."""
    faults = faults_of(station(HEAD, a="links: [", b=TANK.replace("unit: 3", "unit: x"), c="", d="- 1\n"))
    assert faults == [
        ("config.open-bracket", "a.yaml", 1),
        ("config.not-integer", "b.yaml", 5),
        ("config.not-mapping", "d.yaml", 1),
    ]
    assert faults_of(station(HEAD, a="links: [", b="", d="")) == [("config.open-bracket", "a.yaml", 1)]


def test_hidden_files_and_files_of_other_names_are_left_alone(station, tmp_path):
    """What editors and packagers leave behind."""
    file = station(a=TANK)
    for name in (".b.yaml", "b.yaml~", "b.yaml.dpkg-old", "b.txt"):
        (tmp_path / "links.d" / name).write_text("x: [")
    assert len(judged(file).config.links) == 2


def test_a_file_that_cannot_be_read_is_a_fault(station, tmp_path):
    """A link that is missing quietly is data that is missing quietly."""
    file = station(a=TANK)
    (tmp_path / "links.d" / "b.yaml").mkdir()
    assert faults_of(file) == [("config.unreadable", "b.yaml", 1)]
    assert digest_of(file) == b""
    shutil.rmtree(tmp_path / "links.d")
    (tmp_path / "links.d").symlink_to("links.d")
    assert faults_of(file) == [("config.unreadable", "links.d", 1)]


def test_a_pipe_is_a_fault_and_is_not_waited_on(station, tmp_path):
    """In `links.d` and in place of the main file; a device and a socket are the same."""
    file = station(a=TANK)
    os.mkfifo(tmp_path / "links.d" / "b.yaml")
    assert faults_of(file) == [("config.not-regular", "b.yaml", 1)]
    assert digest_of(file) == b""
    file.unlink()
    os.mkfifo(file)
    assert faults_of(file) == [("config.not-regular", "gateway.yaml", 1)]


def test_paths_and_secrets_are_found_from_the_main_file(station, tmp_path):
    """A part means the same wherever it stands."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "word").touch(mode=0o600)
    (tmp_path / "secrets" / "word").write_text("open")
    loaded = judged(station(a=TANK.replace("unit: 3", "unit: 3, password: !secret word")))
    assert loaded.config.links["tank-bus"].devices["tank"].password.value == "open"


def test_the_digest_of_one_file_is_that_of_its_bytes(station):
    """As it was before there were others."""
    file = station()
    assert judged(file).digest == sha256(file.read_bytes()).digest() == digest_of(file)


def test_the_digest_of_several_files_is_what_sha256sum_makes_of_them(station, tmp_path):
    """So that a technician computes it with two commands; every byte and every name counts."""
    file = station(b=TANK, a="# nothing\n")
    said = subprocess.check_output(
        "sha256sum gateway.yaml links.d/*.yaml | sha256sum", shell=True, cwd=tmp_path, text=True
    )
    assert judged(file).digest.hex() == said.split()[0]
    before = digest_of(file)
    (tmp_path / "links.d" / "a.yaml").write_text("# nothing at all\n")
    assert digest_of(file) != before == bytes.fromhex(said.split()[0])


def test_a_configuration_that_is_refused_has_a_digest_too(station):
    """It is what the logbook names it by; a file that is not there has none."""
    file = station("x: [")
    assert digest_of(file) == sha256(b"x: [").digest()
    assert digest_of(Path("/no/such/file")) == b""


def test_files_are_bounded_together(station):
    """A hundred files of a megabyte are not parsed; what stands before is judged."""
    filler = "# " + "x" * 600_000 + "\n"
    assert faults_of(station(a=TANK, b=filler, c=filler, d="links: [")) == [("config.too-large-together", "c.yaml", 1)]


def test_a_part_of_very_many_links_is_read_in_one_pass(station):
    """No quadratic surprise: names are looked up, not searched for."""
    links = "".join(f"  l{number}: {{driver: none}}\n" for number in range(5000))
    began = time.monotonic()
    assert len(faults_of(station(a="links:\n" + links))) == 5000
    assert time.monotonic() - began < 60
