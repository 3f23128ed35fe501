"""The tools: verify, status, key show, as typed at a terminal."""

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from chains import Station
from rig import SIDE_GROUP, Bench, until
from typer.testing import CliRunner, Result

from agent import control
from agent.cli import app, verdict
from agent.errors import Exit
from agent.words import Words
from buffer.block import Block, encode_block
from buffer.keys import load_or_create
from buffer.store import Reader
from buffer.verify import Abandoned, Edge, Hole, Verifier

SITE = """
gateway: {id: station-1, language: LANGUAGE}
buffer: {path: data/buffer.db}
links:
  waves: {driver: simulated, devices: {tank: {every: 1s, points: {level: {wave: sine}}}}}
"""


def trambien(*arguments: object) -> Result:
    """Type a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"LANG": "en_US.UTF-8"})


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """Give a buffer with a few blocks in two streams."""
    path = tmp_path / "buffer.db"

    async def fill() -> None:
        async with Bench(path) as bench:
            for number in range(1, 6):
                await bench.sealed(number)
            await bench.sealed(9, group=SIDE_GROUP)

    asyncio.run(fill())
    return path


@pytest.fixture
def folder(tmp_path: Path, buffer: Path) -> Path:
    """Give the blocks of one stream as files, and the key beside them."""
    folder = tmp_path / "blocks"
    folder.mkdir()
    with Reader(buffer) as reader:
        for position, block in reader.blocks("main"):
            (folder / f"{position:06}.block").write_bytes(encode_block(block))
    return folder


def key(buffer: Path) -> Path:
    """Give the device's public key."""
    return buffer.with_name("device.key.pub")


def test_a_sound_buffer_is_proven(buffer: Path) -> None:
    """Exit 0, a line a stream, and what cannot be known is said."""
    proof = trambien("verify", buffer, "--trust", key(buffer))
    assert proof.exit_code == Exit.OK
    assert "station-1/main" in proof.output
    assert "station-1/side" in proof.output
    assert "Proven" in proof.output
    assert "--head" in proof.output


def test_without_a_named_key_the_one_beside_the_buffer_is_trusted_and_that_is_said(buffer: Path) -> None:
    """What proves itself by itself proves little."""
    proof = trambien("verify", buffer)
    assert proof.exit_code == Exit.OK
    assert "--trust" in proof.output


def test_the_report_as_json_names_heads_that_can_be_expected(buffer: Path) -> None:
    """A head noted elsewhere shows that nothing was cut off since."""
    report = json.loads(trambien("verify", buffer, "--trust", key(buffer), "--json").stdout)
    assert report["verdict"] == "complete"
    head = report["heads"]["station-1/main"]
    assert trambien("verify", buffer, "--trust", key(buffer), "--head", head).exit_code == Exit.OK
    cut = trambien("verify", buffer, "--trust", key(buffer), "--head", "00" * 32)
    assert cut.exit_code == Exit.UNPROVEN
    assert "head-missing" in cut.output


def test_a_state_that_a_platform_keeps_is_a_known_head(buffer: Path, tmp_path: Path) -> None:
    """As it was published; one of another time shows what was cut off since."""
    report = json.loads(trambien("verify", buffer, "--trust", key(buffer), "--json").stdout)
    state = tmp_path / "state.json"
    for digest, exit_code in ((report["heads"]["station-1/main"], Exit.OK), ("00" * 32, Exit.UNPROVEN)):
        state.write_text(json.dumps({"streams": {"main": {"digest": digest}, "new": {"digest": ""}}}))
        proof = trambien("verify", buffer, "--trust", key(buffer), "--head", state)
        assert proof.exit_code == exit_code
        assert "cannot be known" not in proof.output


def test_the_running_service_is_asked_for_its_heads(buffer: Path) -> None:
    """Whoever cut the tail off beside it is found, without being asked to look."""

    async def prove(digest: str) -> Result:
        state = {"streams": {"main": {"digest": digest}}}
        serving = asyncio.create_task(control.serve(control.socket_path(buffer), {"status": lambda: state}))
        await until(control.socket_path(buffer).exists)
        try:
            return await asyncio.to_thread(trambien, "verify", buffer, "--trust", key(buffer))
        finally:
            serving.cancel()

    report = json.loads(trambien("verify", buffer, "--trust", key(buffer), "--json").stdout)
    assert asyncio.run(prove(report["heads"]["station-1/main"])).exit_code == Exit.OK
    cut = asyncio.run(prove("00" * 32))
    assert (cut.exit_code, "head-missing" in cut.output) == (Exit.UNPROVEN, True)
    assert asyncio.run(prove("no digest")).exit_code == Exit.OK


def test_a_hole_is_told_with_its_time_and_its_reason(buffer: Path) -> None:
    """Exit 0: its header is the signature; the ledger adds up."""
    with sqlite3.connect(buffer) as db:
        db.execute("UPDATE block_1 SET payload = NULL WHERE position = 3")
    db.close()
    proof = trambien("verify", buffer, "--trust", key(buffer))
    assert proof.exit_code == Exit.OK
    assert "HOLE (signed): station-1/main, blocks 3 to 3, 2 readings, 20" in proof.output
    assert "sealed 6 = held 5 + payload gone 1 + damaged 0" in proof.output
    report = json.loads(trambien("verify", buffer, "--trust", key(buffer), "--json").stdout)
    assert report["ledgers"]["station-1/main"]["evicted"] == {"unstated": 1}
    assert report["holes"][0]["since"][1] == 3


def test_many_findings_of_a_sort_are_counted() -> None:
    """The screen stays readable; the JSON has them all."""
    station = Station()
    verifier = Verifier([station.signer.public_key])
    for block in station.blocks(60)[::2]:
        verifier.feed(block.envelope, block.payload)
    shown = verdict.text(verifier.report(), Words("en"), whole=False)
    assert "... and 9 more of the sort" in shown
    assert shown.count("MISSING") == verdict.SHOWN


def test_every_finding_has_its_words() -> None:
    """Damaged, lost, pruned, abandoned, renamed; a time that no calendar has; in both languages."""
    edge = Edge(b"E" * 8, 3, b"B" * 16, 5, 1 << 62, None)
    far = edge._replace(wall_ns=(1 << 63) - 1)
    reasons = ("delivered", "oldest", "newest", "thin", "unstated", "damaged", "lost", "pruned")
    report = replace(
        Verifier([]).report(),
        holes=tuple(Hole("g", "s", 1, 2, None, reason, None, far) for reason in reasons),
        abandoned=(Abandoned("g", "s", b"E" * 8, 2, 8, edge, edge),),
        renamed=(("s", "before", "after"),),
    )
    for language in ("vi", "en"):
        shown = verdict.text(report, Words(language), whole=False)
        assert ("agent." in shown, "{" in shown) == (False, False)
        assert "before" in shown


def test_a_block_taken_out_of_the_buffer_is_missed(buffer: Path) -> None:
    """Exit 1; the hole is named with its numbers."""
    with sqlite3.connect(buffer) as db:
        db.execute("DELETE FROM block_1 WHERE position = 3")
    db.close()
    proof = trambien("verify", buffer, "--trust", key(buffer))
    assert proof.exit_code == Exit.UNPROVEN
    assert "MISSING: station-1/main, blocks 3 to 3" in proof.output


def test_an_edited_payload_is_found(buffer: Path) -> None:
    """Exit 1; SQLite sees nothing of it."""
    with sqlite3.connect(buffer) as db:
        db.execute("UPDATE block_1 SET payload = zeroblob(length(payload)) WHERE position = 4")
    db.close()
    proof = trambien("verify", buffer, "--trust", key(buffer))
    assert proof.exit_code == Exit.UNPROVEN
    assert "payload-digest" in proof.output


def test_another_devices_buffer_proves_nothing(buffer: Path, tmp_path: Path) -> None:
    """Exit 2: there is no block that the trusted key has signed."""
    load_or_create(tmp_path / "other.key")
    proof = trambien("verify", buffer, "--trust", tmp_path / "other.key.pub")
    assert proof.exit_code == Exit.UNREADABLE
    assert "foreign-key" in proof.output


def test_a_folder_of_blocks_is_proven_whatever_its_order(folder: Path, buffer: Path) -> None:
    """As it comes from a stick or from a receiver."""
    files = sorted(folder.iterdir())
    files[0].rename(folder / "zz.block")
    proof = trambien("verify", folder, "--trust", key(buffer))
    assert proof.exit_code == Exit.OK, proof.output


def test_what_is_no_block_in_a_folder_is_found(folder: Path, buffer: Path) -> None:
    """Garbage, and a signed block with another's payload."""
    files = sorted(folder.iterdir())
    (folder / "garbage.block").write_bytes(b"garbage")
    with Reader(buffer) as reader:
        blocks = [block for _, block in reader.blocks("main")]
    files[-1].write_bytes(encode_block(Block(blocks[-1].envelope, blocks[-2].payload)))
    proof = trambien("verify", folder, "--trust", key(buffer))
    assert proof.exit_code == Exit.UNPROVEN
    assert "garbage.block" in proof.output
    assert files[-1].name in proof.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{dir}/none.db", "--trust", "{key}"), "none.db"),
        (("{dir}", "--trust", "{key}"), "*.block"),
        (("{key}", "--trust", "{key}"), "device.key.pub"),
        (("{db}", "--trust", "{db}"), "buffer.db"),
        (("{dir}/none.db",), "none.db"),
        (("{dir}/elsewhere/none.db",), "no such file"),
        (("{db}", "--head", "zz"), "64 hexadecimal"),
        (("mqtts://localhost:1/trambien/v1/x",), "--trust"),
        (("mqtts://localhost:1/trambien/v1/x", "--trust", "{key}"), "--ca"),
        (("mqtt://localhost:1", "--trust", "{key}"), "prefix"),
        (("mqtt://localhost:many/a/b", "--trust", "{key}"), "many"),
        (("mqtt://localhost:1/a/b", "--trust", "{key}", "--seconds", "1"), "localhost:1"),
        (("{db}", "--language", "fr"), "vi"),
    ],
)
def test_what_cannot_be_verified_is_told(buffer: Path, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, what is wrong and how to mend it, no traceback."""
    fields = {"dir": buffer.parent, "db": buffer, "key": key(buffer)}
    proof = trambien("verify", *(argument.format(**fields) for argument in arguments))
    assert proof.exit_code == Exit.UNREADABLE, proof.output
    assert words in proof.output
    assert proof.exception is None or isinstance(proof.exception, SystemExit)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Write a configuration."""
    path = tmp_path / "gateway.yaml"
    path.write_text(SITE.replace("LANGUAGE", "en"))
    return path


@pytest.mark.parametrize("command", ["verify", "export"])
@pytest.mark.parametrize("source", [".", "..", "/", "nothing.db"])
def test_a_source_without_a_buffers_name_is_no_bug_and_a_missing_one_is_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, source: str
) -> None:
    """A typing error is told as what it is; that no key stands beside it is not the news."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = trambien(command, source)
    assert result.exit_code in (Exit.UNREADABLE, Exit.BUFFER), result.output
    assert ("nothing.db: no such file" if source == "nothing.db" else "--trust") in result.output


def test_status_of_a_service_that_does_not_run_is_told(site: Path) -> None:
    """69, and how to start it."""
    asked = trambien("status", "-c", site)
    assert asked.exit_code == Exit.UNAVAILABLE
    assert "systemctl start trambien" in asked.output


@pytest.mark.parametrize("language", ["en", "vi"])
async def test_status_shows_streams_links_and_uplinks(site: Path, language: str) -> None:
    """As tables for a person, as JSON for a program."""
    site.write_text(SITE.replace("LANGUAGE", language))
    socket = control.socket_path(site.with_name("data") / "buffer.db")
    socket.parent.mkdir()
    state = json.loads((Path(__file__).parent / "state.json").read_text())
    serving = asyncio.create_task(control.serve(socket, {"status": lambda: state}))
    await until(socket.exists)
    shown = await asyncio.to_thread(trambien, "status", "-c", site)
    as_json = await asyncio.to_thread(trambien, "status", "-c", site, "--json")
    unknown = await asyncio.to_thread(control.ask, socket, "nonsense")
    serving.cancel()
    await asyncio.wait([serving])
    assert shown.exit_code == as_json.exit_code == Exit.OK, shown.output
    assert json.loads(as_json.stdout) == state
    assert unknown == {"error": "unknown question", "known": ["status"]}
    for word in ("station-1", "environment", "meter", "province", "1234", "iot.example.vn"):
        assert word in shown.output
    assert ("im lặng" if language == "vi" else "silent") in shown.output


def test_a_tool_asks_no_more_of_the_file_than_it_needs(site: Path) -> None:
    """A secret that this user may not read, or a fault written since the start, does not hide the state."""
    site.write_text(site.read_text() + "uplinks: {p: {url: !secret broker, tls: {ca: /nowhere/none.pem}}}\n")
    asked = trambien("status", "-c", site)
    assert asked.exit_code == Exit.UNAVAILABLE
    assert "buffer.db.sock" in asked.output


def test_a_tool_with_an_unreadable_configuration_tells_the_faults(site: Path) -> None:
    """78, as `check` does."""
    site.write_text("gateway: {\n")
    for command in (("status",), ("key", "show")):
        asked = trambien(*command, "-c", site)
        assert asked.exit_code == Exit.CONFIG
        assert "gateway.yaml:2:" in asked.output


def test_the_key_is_shown_once_there_is_one(site: Path) -> None:
    """Its thumbprint and its PEM, or how it comes to be; never the private half."""
    assert trambien("key", "show", "-c", site).exit_code == Exit.UNAVAILABLE
    site.with_name("data").mkdir()
    device_key, _ = load_or_create(site.with_name("data") / "device.key")
    shown = trambien("key", "show", "-c", site)
    assert shown.exit_code == Exit.OK
    assert device_key.kid.hex() in shown.output
    assert "PRIVATE" not in shown.output
    pem = trambien("key", "show", "-c", site, "--pem")
    assert pem.stdout == (site.with_name("data") / "device.key.pub").read_text()


def test_a_public_key_that_is_none_is_told(site: Path) -> None:
    """As if there were none, and the file is named."""
    site.with_name("data").mkdir()
    (site.with_name("data") / "device.key.pub").write_text("nothing of the kind")
    shown = trambien("key", "show", "-c", site)
    assert shown.exit_code == Exit.UNAVAILABLE
    assert "device.key" in shown.output


def test_check_and_run_are_commands_too(site: Path) -> None:
    """`check` through the command line; `run` refuses what `check` refuses."""
    assert trambien("check", site).exit_code == Exit.OK
    assert trambien("check", site, "--json").exit_code == Exit.OK
    site.write_text("gateway: {}\n")
    assert trambien("check", site).exit_code == Exit.CONFIG
    assert trambien("run", "-c", site).exit_code == Exit.CONFIG
