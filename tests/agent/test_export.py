"""Export and import, as typed at a terminal: what was measured comes out exactly, with its time; a folder goes in."""

import asyncio
import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from chains import METER, SECOND, WALL, Station, batch, key, station_of
from rig import Platform, until
from typer.testing import CliRunner, Result

from agent.cli import app
from agent.errors import Exit
from agent.receiver import Opened, Receiver
from buffer.block import ClockQuality, encode_block
from buffer.frame import Change, Column, Event, Frame, Layout
from buffer.keys import public_pem
from buffer.rotation import sign_statement
from buffer.seal import Batch, Moment
from buffer.store import Store
from buffer.verify import Verifier

SCALE = Layout("l", "scale", "serial", None, (Column("weight", "float32", "t", "0.001", "0.5"), Column("mode", "text")))
BOTH = (METER, SCALE)


def trambien(*arguments: object) -> Result:
    """Type a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"LANG": "en_US.UTF-8", "TZ": "UTC"})


@dataclass
class Site:
    """A buffer with one hour of readings, and the key it is proven with."""

    buffer: Path
    key: Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Give a buffer with blocks of two devices, a Bad value, changes, and a boot that was never synchronised."""
    path = tmp_path / "buffer.db"
    with Store.open(path, [key().public_key]) as store:
        station = station_of(store)
        for _ in range(3):
            store.append([station.seal(batch(station.second + 10), catalogue=BOTH)])
        mixed = Batch()
        mixed.add_frame(METER, Frame(60 * SECOND, 1, (0xFFFF, 2.5), (0x808C0000, 0)))
        mixed.add_frame(METER, Frame(61 * SECOND, 1, (None, float("nan")), (0x800A0000, 0x40940000)))
        mixed.add_changes(SCALE, [Change(0, WALL + 5, 62 * SECOND, 12.25), Change(1, None, 62 * SECOND, "đang cân")])
        store.append([station.seal(mixed, catalogue=BOTH)])
        store.append([lost_in_time(station)])
    public = tmp_path / "device.key.pub"
    public.write_bytes(public_pem(key().public_key))
    return Site(path, public)


def lost_in_time(station: Station):
    """Seal a batch in a boot whose clock nobody set."""
    moment = Moment(b"N" * 16, 50 * SECOND, 5, ClockQuality("unsynchronised", None, "kernel"))
    sealed = station.sealer.seal("main", station.heads["main"], batch(40), BOTH, moment)
    station.heads["main"] = sealed.head
    return sealed


def rows(*arguments: object) -> list[dict[str, str]]:
    """Export as CSV; give the rows."""
    done = trambien("export", *arguments, "--zone", "UTC")
    assert done.exit_code == Exit.OK, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_values_are_exact_and_have_time_bound_unit_and_status(site: Site) -> None:
    """`raw * scale`, to the last digit; the bound is the clock's own and what the crystal may drift."""
    first, *_ = rows(site.buffer)
    assert (first["device"], first["point"], first["value"], first["unit"]) == ("meter", "voltage", "231.0", "V")
    assert (first["status"], first["time"]) == ("Good", "2026-01-01T00:00:10.000000+00:00")
    assert 0.002 <= float(first["error_s"]) < 0.01


def test_bad_values_have_none_and_say_why(site: Site) -> None:
    """Whatever was read; the raw value is there for who asks."""
    told = [row for row in rows(site.buffer, "--raw") if row["time"].startswith("2026-01-01T00:01:0")]
    assert [(row["value"], row["status"], row["raw"]) for row in told if row["device"] == "meter"] == [
        ("", "BadSensorFailure", "65535"),
        ("2.5", "Good", "2.5"),
        ("", "BadTimeout", ""),
        ("NaN", "UncertainEngineeringUnitsExceeded", "nan"),
    ]


def test_changes_have_the_time_of_their_source_too(site: Site) -> None:
    """Scale and offset apply; text stays text."""
    weight, mode = [row for row in rows(site.buffer) if row["device"] == "scale"]
    assert (weight["value"], weight["source_time"]) == ("0.51225", "2026-01-01T00:00:00.000000+00:00")
    assert (mode["value"], mode["source_time"]) == ("đang cân", "")


def test_a_boot_without_a_clock_has_a_bracket(site: Site) -> None:
    """After the boot before it, and nobody knows until when; a span that may hold it has it."""
    told = [row for row in rows(site.buffer) if not row["time"]]
    assert len(told) == 4
    assert told[0]["not_before"].startswith("2026-01-01T00:0")
    assert told[0]["not_after"] == ""
    assert [row for row in rows(site.buffer, "--from", "2027-01-01") if not row["time"]] == told
    assert not [row for row in rows(site.buffer, "--to", "2026-01-01") if not row["time"]]


def test_a_span_is_half_open_and_in_the_zone_asked_for(site: Site) -> None:
    """From is inside, to is not; an offset in the time itself goes before the zone."""
    span = ("--from", "2026-01-01T00:00:20", "--to", "2026-01-01T00:00:21")
    assert {row["time"][11:19] for row in rows(site.buffer, *span)} == {"00:00:20", ""}
    hanoi = ("--from", "2026-01-01T07:00:20+07:00", "--to", "2026-01-01T07:00:21+07:00")
    assert rows(site.buffer, *hanoi) == rows(site.buffer, *span)
    there = trambien("export", site.buffer, *hanoi, "--zone", "Asia/Ho_Chi_Minh")
    assert "2026-01-01T07:00:20.000000+07:00" in there.stdout


def test_devices_and_points_are_chosen(site: Site) -> None:
    """Nothing of another appears."""
    assert {row["device"] for row in rows(site.buffer, "--device", "scale")} == {"scale"}
    assert {row["point"] for row in rows(site.buffer, "--points", "meter/power")} == {"power"}


def test_json_lines_say_the_same(site: Site) -> None:
    """One object a reading; numbers keep their digits, unknown times their bracket."""
    done = trambien("export", site.buffer, "--format", "jsonl", "--zone", "UTC", "--raw")
    lines = [json.loads(line, parse_float=str) for line in done.stdout.splitlines()]
    assert len(lines) == len(rows(site.buffer))
    assert (lines[0]["value"], lines[0]["raw"], lines[0]["status"]) == ("231.0", 2310, "Good")
    assert [line["not_after"] for line in lines if line["time"] is None] == [None] * 4
    assert [line["source_time"] for line in lines if "source_time" in line] == ["2026-01-01T00:00:00.000000+00:00"]


def test_a_file_appears_when_it_is_whole(site: Site, tmp_path: Path) -> None:
    """And not at all where it cannot be written."""
    out = tmp_path / "out.csv"
    assert trambien("export", site.buffer, "-o", out).exit_code == Exit.OK
    assert out.read_text().startswith("time,error_s")
    assert not out.with_name("out.csv.part").exists()
    nowhere = trambien("export", site.buffer, "-o", tmp_path / "no" / "out.csv")
    assert (nowhere.exit_code, "out.csv" in nowhere.output) == (Exit.BUFFER, True)


def test_what_is_gone_or_wrong_is_counted(site: Site) -> None:
    """Exit 1 where something could not be proven."""
    with sqlite3.connect(site.buffer) as db:
        db.execute("UPDATE block_1 SET payload = NULL WHERE position = 2")
        db.execute("UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position = 3")
    db.close()
    done = trambien("export", site.buffer)
    assert done.exit_code == Exit.UNPROVEN
    assert "1 blocks of this span have lost their payload" in done.output
    assert "1 blocks could not be proven" in done.output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("{db}", "--from", "yesterday"), Exit.UNREADABLE, "yesterday"),
        (("{db}", "--zone", "Mars/Base"), Exit.UNREADABLE, "Mars/Base"),
        (("{db}", "--format", "blocks"), Exit.UNREADABLE, "folder"),
        (("{db}", "--format", "blocks", "-o", "{dir}/x", "--device", "m"), Exit.UNREADABLE, "cannot be cut"),
        (("{db}", "--format", "blocks", "-o", "{db}"), Exit.BUFFER, "buffer.db"),
        (("{dir}/none.db",), Exit.BUFFER, "no such file"),
        (("{dir}/none.db", "--trust", "{key}"), Exit.BUFFER, "none.db"),
        (("{dir}", "--trust", "{key}"), Exit.UNREADABLE, "*.block"),
    ],
)
def test_wrong_input_is_told(site: Site, arguments: tuple[str, ...], exit_code: Exit, words: str) -> None:
    """With its cure, without a traceback."""
    fields = {"dir": site.buffer.parent / "empty", "db": site.buffer, "key": site.key}
    fields["dir"].mkdir()
    done = trambien("export", *(argument.format(**fields) for argument in arguments))
    assert (done.exit_code, words in done.output) == (exit_code, True), done.output
    assert isinstance(done.exception, SystemExit)


@pytest.fixture
def stick(site: Site, tmp_path: Path) -> Path:
    """Give a folder of blocks."""
    folder = tmp_path / "stick"
    assert trambien("export", site.buffer, "--format", "blocks", "-o", folder).exit_code == Exit.OK
    return folder


def test_a_folder_of_blocks_is_as_good_as_the_buffer(site: Site, stick: Path) -> None:
    """It proves whole, and gives the same readings."""
    assert trambien("verify", stick, "--trust", site.key).exit_code == Exit.OK
    assert rows(stick, "--trust", site.key) == rows(site.buffer)


def test_a_key_that_was_rotated_in_is_believed(tmp_path: Path) -> None:
    """The key of commissioning is enough: it leads to the later ones."""
    station = Station()
    folder = tmp_path / "blocks"
    folder.mkdir()
    blocks = station.blocks(3)
    statement = sign_statement(station.sealer.gateway, station.signer, key(2), 1)
    told = Batch()
    told.events.append(Event("key-rotated", SECOND, bytes(8), (("key", key(2).kid), ("statement", statement))))
    blocks += station.seal(told).blocks
    station.signer, station.epoch = key(2), b"F" * 8
    blocks += station.blocks(2)
    for at, block in enumerate(blocks):
        (folder / f"{at:03}.block").write_bytes(encode_block(block))
    public = tmp_path / "first.pub"
    public.write_bytes(public_pem(key().public_key))
    assert len({row["seq"] for row in rows(folder, "--trust", public)}) == 3


def test_a_folder_of_a_span_has_the_layouts_it_needs(site: Site, tmp_path: Path) -> None:
    """Whatever was asked for, it can be read."""
    folder = tmp_path / "part"
    done = trambien("export", site.buffer, "--format", "blocks", "-o", folder, "--from", "2026-01-01T00:00:50")
    assert done.exit_code == Exit.OK
    assert rows(folder, "--trust", site.key, "--from", "2026-01-01T00:01:00")


def test_a_folder_is_published_as_its_station_would_have(site: Site, stick: Path, platform: Platform) -> None:
    """A receiver that trusts the key alone gets every block, and can read it; foreign files stay out."""
    (stick / "0.block").write_bytes(b"noise")
    pair = platform.authority.issue("station-1")
    place = f"mqtts://localhost:{platform.broker.port}/trambien/v1"
    options = ("--trust", site.key, "--ca", platform.authority.ca, "--cert", pair.cert, "--key", pair.key)
    opened: list[Opened] = []
    verifier = Verifier([key().public_key])

    async def receive() -> Result:
        receiver = Receiver(platform.endpoint("receiver"), "trambien/v1/station-1", verifier, opened.append)
        running = asyncio.create_task(receiver.run())
        await asyncio.sleep(0.5)
        done = await asyncio.to_thread(trambien, "import", stick, place, *options)
        await until(lambda: verifier.report().blocks == len(list(stick.iterdir())) - 1)
        running.cancel()
        return done

    done = asyncio.run(receive())
    assert done.exit_code == Exit.UNPROVEN, done.output
    assert "0.block" in done.output
    assert verifier.report().verdict == "complete"
    assert sum(len(frames) for one in opened for _, frames in one.payload.frames) == 10


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("mqtts://localhost:1/a",), Exit.UNREADABLE, "--ca"),
        (("mqtt://localhost:1",), Exit.UNREADABLE, "prefix"),
        (("http://localhost/a",), Exit.UNREADABLE, "http"),
        (("mqtt://localhost:1/a",), Exit.UNAVAILABLE, "localhost:1"),
    ],
)
def test_a_place_that_is_none_is_told(
    site: Site, stick: Path, arguments: tuple[str, ...], exit_code: Exit, words: str
) -> None:
    """With its cure, without a traceback."""
    done = trambien("import", stick, *arguments, "--trust", site.key)
    assert (done.exit_code, words in done.output) == (exit_code, True), done.output
    assert isinstance(done.exception, SystemExit)


def test_a_terminal_that_cannot_be_written_to_is_told(site: Site) -> None:
    """A full disk behind `>`: no traceback, and the code of what could not be written."""
    command = [Path(sys.executable).with_name("trambien"), "export", site.buffer, "--trust", site.key]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == Exit.BUFFER, done.stderr
    assert "Traceback" not in done.stderr
    assert "/dev/stdout" in done.stderr


def test_what_a_folder_holds_besides_blocks_is_counted_and_holds_nobody_up(site: Site, stick: Path) -> None:
    """Noise is left out and said; a pipe, which nobody writes to, is no file of blocks."""
    (stick / "0.block").write_bytes(b"noise")
    os.mkfifo(stick / "1.block")
    done = trambien("export", stick, "--trust", site.key)
    assert done.exit_code == Exit.UNPROVEN, done.output
    assert done.stdout == trambien("export", site.buffer, "--trust", site.key).stdout
