"""`trambien key`, as typed at a terminal: with the running service, without one, and where it cannot be done."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import OPTIONS, asked, ended
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rig import until
from typer.testing import CliRunner, Result

from agent import control
from agent.cli import app
from agent.errors import Exit
from buffer.custody import MAX_STATEMENTS, Custody
from buffer.keys import load_public
from buffer.store import Reader, Store
from buffer.verify import Report, Verifier

ROOT = Path(__file__).parents[2]

SITE = """
gateway: {id: station-1, language: en}
buffer: {path: data/buffer.db, seal_every: 200ms}
links:
  waves:
    driver: simulated
    devices:
      tank: {every: 100ms, points: {level: {wave: sine}}}
      press: {every: 100ms, stream: side, points: {speed: {wave: sine}}}
"""


def trambien(*arguments: object) -> Result:
    """Type a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"LANG": "en_US.UTF-8"})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Write a configuration."""
    path = tmp_path / "gateway.yaml"
    path.write_text(SITE)
    return path


@pytest.fixture
def data(site: Path) -> Path:
    """Give the folder of the buffer, with a key that was noted at commissioning."""
    folder = site.with_name("data")
    folder.mkdir()
    Custody.open(folder / "device.key")
    shutil.copy(folder / "device.key.pub", folder / "noted.pub")
    return folder


class Service:
    """A service in a process of its own."""

    def __init__(self, site: Path, **environment: str) -> None:
        command = [sys.executable, *OPTIONS, "-m", "agent", "run", "-v", "-c", str(site)]
        self.log = site.with_name("service.log")
        self.buffer = site.with_name("data") / "buffer.db"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})
        while self.streams() != {"main", "side"}:
            time.sleep(0.05)

    def status(self) -> dict:
        """Ask for its state."""
        return asked(self.buffer, self.process, self.log)

    def streams(self) -> set[str]:
        """Give the streams that have blocks."""
        return {name for name, stream in self.status()["streams"].items() if stream["sealed"]}

    def leave(self) -> int:
        """Ask it to leave; give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return ended(self.process, self.log)


@pytest.fixture
def service(site: Path, data: Path) -> Iterator[Service]:
    """Give a running service."""
    running = Service(site)
    yield running
    running.process.kill()
    running.process.wait()


def proven(data: Path, public: str = "noted.pub") -> Report:
    """Verify the buffer from the key that was noted."""
    verifier = Verifier([load_public(data / public)])
    with Reader(data / "buffer.db") as reader:
        for stream in reader.streams():
            for _, block in reader.blocks(stream):
                verifier.feed(block.envelope, block.payload)
    return verifier.report()


def kid_in(text: str) -> str:
    """Find a thumbprint."""
    found = re.search(r"\b[0-9a-f]{64}\b", text)
    assert found, text
    return found.group()


def test_a_running_service_rotates_its_key_and_goes_on(service: Service, site: Path, data: Path) -> None:
    """Twice; the chain is proven from the key of commissioning, and `verify` says so too."""
    before = service.status()["key"]
    for count in (1, 2):
        rotated = trambien("key", "rotate", "-c", site)
        assert rotated.exit_code == Exit.OK, rotated.output
        state = service.status()
        assert state["key"] == kid_in(rotated.output) != before
        assert state["key_error"] is None
        shown = json.loads(trambien("key", "show", "-c", site, "--json").stdout)
        assert (shown["kid"], shown["enrolled"], len(shown["statements"])) == (state["key"], True, count)
        before = state["key"]
    time.sleep(0.5)
    assert service.leave() == 0
    assert proven(data).verdict == "complete"
    verified = trambien("verify", data / "buffer.db", "--trust", data / "noted.pub")
    assert verified.exit_code == Exit.OK, verified.output
    shown = trambien("key", "show", "-c", site)
    assert "2 rotation(s)" in shown.output


def test_without_a_service_the_key_is_rotated_here(service: Service, site: Path, data: Path) -> None:
    """In every stream of the buffer, and the next start goes on with the new key."""
    service.leave()
    rotated = trambien("key", "rotate", "-c", site)
    assert rotated.exit_code == Exit.OK, rotated.output
    again = Service(site)
    assert again.status()["key"] == kid_in(rotated.output)
    again.leave()
    report = proven(data)
    assert report.verdict == "complete"
    assert len(report.epochs) == 2 * 3


def test_a_service_that_does_not_answer_is_told(site: Path, data: Path) -> None:
    """Something holds the buffer and has no socket: nothing is changed."""
    before = (data / "device.key").read_bytes()
    with Store.open(data / "buffer.db", []):
        rotated = trambien("key", "rotate", "-c", site)
    assert rotated.exit_code == Exit.UNAVAILABLE, rotated.output
    assert "buffer.db.sock" in rotated.output
    assert (data / "device.key").read_bytes() == before


@pytest.mark.parametrize("command", ["rotate", "enrolled", "csr", "show"])
@pytest.mark.parametrize("language", ["en", "vi"])
def test_without_a_key_there_is_nothing_to_do(site: Path, command: str, language: str) -> None:
    """69, and how one comes to be."""
    site.write_text(SITE.replace("language: en", f"language: {language}"))
    told = trambien("key", command, "-c", site)
    assert told.exit_code == Exit.UNAVAILABLE
    assert "device.key" in told.output
    assert ("khoá" if language == "vi" else "key") in told.output
    assert not site.with_name("data").exists()


@pytest.mark.parametrize("command", ["rotate", "enrolled", "csr"])
def test_a_damaged_key_is_not_replaced_by_a_tool(site: Path, data: Path, command: str) -> None:
    """The service does that, and tells it in the chain."""
    (data / "device.key").write_bytes(b"noise")
    assert trambien("key", command, "-c", site).exit_code == Exit.UNAVAILABLE
    assert (data / "device.key").read_bytes() == b"noise"


@pytest.mark.parametrize("command", ["rotate", "csr"])
def test_a_key_that_others_may_read_is_refused(site: Path, data: Path, command: str) -> None:
    """77, and the cure."""
    (data / "device.key").chmod(0o644)
    told = trambien("key", command, "-c", site)
    assert told.exit_code == Exit.PERMISSION
    assert "chmod 600" in told.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("owner", [1, 12345])
def test_another_users_key_is_left_to_that_user(site: Path, data: Path, owner: int) -> None:
    """Root's files beside it would keep the service from starting."""
    os.chown(data / "device.key", owner, owner)
    told = trambien("key", "rotate", "-c", site)
    assert told.exit_code == Exit.PERMISSION
    assert "sudo -u" in told.output


def test_the_bound_of_rotations_is_told(site: Path, data: Path) -> None:
    """77: first the platform, then the key."""
    custody = Custody.open(data / "device.key")
    for _ in range(MAX_STATEMENTS):
        custody.begin("station-1")
        custody.switch("station-1")
    told = trambien("key", "rotate", "-c", site)
    assert told.exit_code == Exit.PERMISSION
    assert "64" in told.output
    assert "key enrolled" in told.output
    assert trambien("key", "enrolled", "-c", site).exit_code == Exit.OK
    assert trambien("key", "rotate", "-c", site).exit_code == Exit.OK


def test_the_alarm_of_a_lost_key_stands_until_it_is_enrolled(site: Path, data: Path) -> None:
    """In status, in show and in the chain, over restarts; `key enrolled` ends it at once."""
    (data / "device.key").unlink()
    for _ in range(2):
        service = Service(site)
        assert service.status()["key_error"]["code"] == "agent.key-not-enrolled"
        assert "key enrolled" in trambien("key", "show", "-c", site).output
        assert "does not know" in trambien("status", "-c", site).output
        service.leave()
    service = Service(site)
    noted = trambien("key", "enrolled", "-c", site)
    assert noted.exit_code == Exit.OK, noted.output
    assert service.status()["key_error"] is None
    assert "does not know" not in trambien("status", "-c", site).output
    service.leave()
    again = Service(site)
    again.leave()
    assert "key-lost" not in again.log.read_text()
    assert proven(data, "device.key.pub").verdict == "complete"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_request_is_made_with_and_without_the_service(service: Service, site: Path, data: Path) -> None:
    """The same: Ed25519 signs in one way only; the gateway's id is its name."""
    asked = trambien("key", "csr", "-c", site)
    service.leave()
    alone = trambien("key", "csr", "-c", site)
    assert asked.exit_code == alone.exit_code == Exit.OK, asked.output
    assert asked.stdout == alone.stdout
    command = ["openssl", "req", "-noout", "-verify", "-subject"]
    judged = subprocess.run(command, input=asked.stdout, capture_output=True, text=True, check=True)
    assert "station-1" in judged.stdout


def traces(key: Path) -> list[bytes]:
    """Give what would give a private key away: its seed as bytes, hex and base64, and lines of its file."""
    private = load_pem_private_key(key.read_bytes(), None)
    seed = private.private_bytes_raw()
    lines = [line for line in key.read_bytes().splitlines() if b"-----" not in line]
    return [
        seed,
        seed.hex().encode(),
        seed.hex().upper().encode(),
        base64.b64encode(seed)[:40],
        repr(seed)[2:-1].encode(),
        *lines,
    ]


def test_no_private_key_is_told_anywhere(service: Service, site: Path, data: Path) -> None:
    """Arguments, environment, the verbose log over a rotation and a crash with its dump of all threads, answers."""
    secrets = traces(data / "device.key")
    process = Path(f"/proc/{service.process.pid}")
    said = [trambien("key", command, "-c", site).output.encode() for command in ("show", "rotate", "csr", "enrolled")]
    secrets += traces(data / "device.key")
    said += [json.dumps(service.status()).encode(), (process / "cmdline").read_bytes()]
    said.append((process / "environ").read_bytes())
    assert re.search(r"Max core file size +[01] +[01] ", (process / "limits").read_text())
    service.process.send_signal(signal.SIGABRT)
    service.process.wait(60)
    said.append(service.log.read_bytes())
    assert b"Fatal Python error: Aborted" in said[-1]
    assert len(set(secrets)) >= 10
    assert not [(secret, text) for secret in secrets for text in said if secret in text]
    for name in ("device.key.pub", "device.key.statements", "device.key.enrolled", "device.key.old-1.pub", "buffer.db"):
        assert not [secret for secret in secrets if secret in (data / name).read_bytes()]


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """Where the shell allows one of any size."""
    code = (
        "import os, resource; from agent.machine import forbid_core_dumps;"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]; resource.setrlimit(resource.RLIMIT_CORE, (hard, hard));"
        "forbid_core_dumps(); os.abort()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status = os.waitpid(child.pid, 0)
    child.returncode = status
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
    assert not list(tmp_path.iterdir())


def test_the_unit_leaves_no_core_and_says_how_to_give_a_key() -> None:
    """As the process does for itself."""
    unit = (ROOT / "systemd" / "trambien.service").read_text()
    assert "\nLimitCORE=1\n" in unit
    assert "LoadCredential=device.key:" in unit


def credentials(tmp_path: Path) -> Path:
    """Give a directory of credentials with a device key in it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    Custody.open(folder / "device.key")
    (folder / "device.key").chmod(0o400)
    return folder


def test_a_key_that_systemd_gives_is_used_and_cannot_be_rotated(site: Path, tmp_path: Path) -> None:
    """77, in words; the request for a certificate comes from the service, which alone has the key."""
    folder = credentials(tmp_path)
    service = Service(site, CREDENTIALS_DIRECTORY=str(folder))
    rotated = trambien("key", "rotate", "-c", site)
    assert rotated.exit_code == Exit.PERMISSION
    assert "LoadCredential" in rotated.output
    assert "BEGIN CERTIFICATE REQUEST" in trambien("key", "csr", "-c", site).output
    service.leave()
    data = site.with_name("data")
    assert not (data / "device.key").exists()
    assert proven(data, "device.key.pub").verdict == "complete"
    assert (data / "device.key.pub").read_bytes() == (folder / "device.key.pub").read_bytes()


async def test_who_is_neither_root_nor_the_service_may_ask_and_not_order(tmp_path: Path, monkeypatch) -> None:
    """The socket is the group's; the key is not."""
    path = tmp_path / "sock"

    async def order() -> dict:
        return {"done": True}

    serving = asyncio.create_task(control.serve(path, {"status": lambda: {"fine": True}}, {"key-rotate": order}))
    await until(path.exists)
    assert await asyncio.to_thread(control.ask, path, "key-rotate") == {"done": True}
    monkeypatch.setattr(control, "_user", lambda _: 12345)
    assert await asyncio.to_thread(control.ask, path, "key-rotate") == {"error": "agent.order-refused"}
    assert await asyncio.to_thread(control.ask, path, "status") == {"fine": True}
    serving.cancel()
    await asyncio.wait([serving])


def test_an_order_that_is_refused_is_told(site: Path, data: Path, monkeypatch) -> None:
    """77, and how it is given."""
    monkeypatch.setattr(control, "ask", lambda *_: {"error": "agent.order-refused"})
    told = trambien("key", "rotate", "-c", site)
    assert told.exit_code == Exit.PERMISSION
    assert "sudo" in told.output
