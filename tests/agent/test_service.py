"""`trambien run` as its users meet it: a process that starts, answers, refuses, and leaves."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import OPTIONS, asked, ended
from ports import quiet_port
from rig import Platform, until
from steady import Watch

from agent import control
from agent.broker import Message, connect
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.errors import Exit
from buffer.keys import known_public, load_or_create
from buffer.store import Reader
from buffer.verify import Verifier
from drivers.simulated.modbus_tcp import ModbusTcpInstrument
from drivers.simulated.replay import read_recording

DATA = Path(__file__).parents[1] / "data"

SIMULATED = """
gateway: {{id: station-1, language: en}}
buffer: {{path: {buffer}, seal_every: 200ms}}
{uplinks}
links:
  waves:
    driver: simulated
    devices:
      tank: {{every: 100ms, points: {{level: {{wave: sine}}}}}}
"""


class Running:
    """A service in a process of its own."""

    def __init__(self, config: Path, *options: str) -> None:
        self.buffer = config.with_name("data") / "buffer.db"
        self.log = config.with_name("service.log")
        command = [sys.executable, *OPTIONS, *options, "-m", "agent", "run", "-c", str(config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def status(self) -> dict:
        """Give its state as soon as it answers."""
        return asked(self.buffer, self.process, self.log)

    def reads(self, polls: int) -> None:
        """Wait until its instrument was read so often, and a block was sealed since."""
        while self.status()["links"]["waves"]["devices"]["tank"]["good"] < polls:
            time.sleep(0.05)
        sealed = self.status()["streams"]["main"]["sealed"]
        while self.status()["streams"]["main"]["sealed"] == sealed:
            time.sleep(0.05)

    def leave(self) -> str:
        """Ask it to leave; give what it logged."""
        self.process.send_signal(signal.SIGTERM)
        ended(self.process, self.log)
        return self.log.read_text()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration with one simulated device and no uplink."""
    path = tmp_path / "gateway.yaml"
    path.write_text(SIMULATED.format(buffer="data/buffer.db", uplinks=""))
    return path


@pytest.fixture
def running(config: Path) -> Iterator[Running]:
    """Give a running service."""
    service = Running(config)
    service.status()
    yield service
    service.process.kill()
    service.process.wait()


def run(config: Path) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to end by itself."""
    command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def assert_told(ended: subprocess.CompletedProcess[str], code: Exit, *words: str) -> None:
    """One clear line, how to mend it, the exit code, no traceback."""
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "→" in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_sigterm_seals_and_leaves_within_five_seconds(running: Running, config: Path) -> None:
    """Exit 0, the last readings are on the disk, and the last event says why."""
    running.reads(5)
    with Watch(config.parent) as watch:
        log = running.leave()
    assert watch.seconds < 5
    assert running.process.returncode == 0, log
    buffer = config.with_name("data") / "buffer.db"
    verifier = Verifier(known_public(buffer.with_name("device.key")))
    with Reader(buffer) as reader:
        for _, block in reader.blocks("main"):
            verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    assert report.verdict == "complete"
    assert report.readings >= 5
    assert not control.socket_path(buffer).exists()


def test_a_second_run_on_the_same_buffer_exits_clearly(running: Running, config: Path) -> None:
    """The first one is not disturbed."""
    assert_told(run(config), Exit.BUSY, "buffer.db")
    assert running.status()["streams"]["main"]["sealed"] > 0


def test_the_service_imports_no_terminal_library_and_only_the_drivers_that_are_named(config: Path) -> None:
    """What is not imported costs no memory: what judges the file and makes the schema is in a process that ends."""
    authority = Authority(config.with_name("tls"))
    client = authority.issue("client")
    tls = f"{{ca: {authority.ca}, cert: {client.cert}, key: {client.key}}}"
    uplink = f"uplinks: {{province: {{url: mqtts://localhost:1, accept: [config], tls: {tls}}}}}\n"
    config.write_text(config.read_text() + uplink)
    config.with_name("trust.json").write_text("{}")
    service = Running(config, "-X", "importtime")
    service.reads(1)
    assert asked(service.buffer, service.process, service.log, "reload")["ok"]
    imported = {line.rsplit("|", 1)[-1].strip() for line in service.leave().splitlines() if "|" in line}
    assert "drivers.simulated.settings" in imported
    assert not imported & {
        "typer",
        "click",
        "rich",
        "textual",
        "sqlite_utils",
        "pydantic",
        "pydantic_core",
        "ruamel.yaml",
        "cryptography.x509",
        "importlib.metadata",
        "pymodbus",
        "asyncua",
        "serial",
        "numpy",
    }


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


def test_a_wrong_authority_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """The service goes on reading; status says what is wrong and the readings wait."""
    stranger = Authority(tmp_path / "tls", "another authority")
    pair = stranger.issue("station-1")
    ours = Authority(tmp_path / "platform")
    platform = asyncio.run(_refusing(tmp_path, ours, stranger.ca, pair.cert, pair.key))
    uplink = platform["uplinks"]["province"]
    assert uplink["error"]["code"] == "agent.tls-unknown-authority"
    assert uplink["pending"]["main"] == platform["streams"]["main"]["sealed"] > 0


async def _refusing(tmp_path: Path, authority: Authority, ca: Path, cert: Path, key: Path) -> dict:
    broker = Mosquitto(tmp_path / "platform", authority, quiet_port())
    await broker.start()
    config = tmp_path / "gateway.yaml"
    tls = f"tls: {{ca: {ca}, cert: {cert}, key: {key}}}"
    uplinks = f"uplinks: {{province: {{url: 'mqtts://localhost:{broker.port}', {tls}}}}}"
    config.write_text(SIMULATED.format(buffer="data/buffer.db", uplinks=uplinks))
    service = Running(config)
    try:
        await until(lambda: bool(service.status()["uplinks"]["province"]["error"]))
        return service.status()
    finally:
        service.leave()
        await broker.kill()


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(config: Path, tmp_path: Path) -> None:
    """READY, WATCHDOG and STOPPING arrive at the notification socket (sd_notify(3))."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "1000000"}
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        told = [manager.recv(100).decode() for _ in range(3)]
        process.terminate()
        while told[-1] != "STOPPING=1":
            told.append(manager.recv(100).decode())
        assert process.wait(60) == 0
    assert told[0] == "READY=1"
    assert "WATCHDOG=1" in told[1:3]


async def test_an_instrument_is_read_and_the_platform_can_prove_it(tmp_path: Path, platform: Platform) -> None:
    """The whole way on real protocols: Modbus TCP, SQLite, MQTT over mutual TLS, and a proof from the live topic."""
    instrument = ModbusTcpInstrument(read_recording(DATA / "wwtp.csv"))
    await instrument.start()
    pair = platform.authority.issue("station-1")
    config = tmp_path / "gateway.yaml"
    document = {
        "gateway": {"id": "station-1"},
        "uplinks": {
            "province": {
                "url": f"mqtts://localhost:{platform.broker.port}",
                "tls": {"ca": str(platform.authority.ca), "cert": str(pair.cert), "key": str(pair.key)},
            }
        },
        "buffer": {"path": "data/buffer.db", "seal_every": "200ms"},
        "links": {"bus": instrument.link("plant", "100ms")},
    }
    config.write_text(json.dumps(document))
    (tmp_path / "data").mkdir()
    load_or_create(tmp_path / "data" / "device.key")
    reader = platform.authority.issue("auditor")
    service = Running(config)
    await asyncio.to_thread(service.status)
    verify = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "verify", f"mqtts://localhost:{platform.broker.port}/trambien/v1/station-1"),
        *("--trust", str(tmp_path / "data" / "device.key.pub"), "--ca", str(platform.authority.ca)),
        *("--cert", str(reader.cert), "--key", str(reader.key), "--seconds", "6", "--json"),
        stdout=subprocess.PIPE,
    )
    printed, _ = await verify.communicate()
    await until(lambda: len(instrument.served) >= 30)
    wire = (await asyncio.to_thread(service.status))["links"]["bus"]["wire"]
    await asyncio.to_thread(service.leave)
    await instrument.stop()
    assert verify.returncode == Exit.OK
    report = json.loads(printed)
    assert report["verdict"] == "complete"
    assert report["blocks"] >= 2
    assert report["readings"] >= 20
    assert wire["link"]["answers"] == wire["devices"]["plant"]["answers"] >= 30
    assert wire["devices"]["plant"]["round_trip_ms"]["p50"] > 0


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


TWO_PLATFORMS = """
gateway: {{id: station-1}}
buffer: {{path: data/buffer.db, seal_every: 200ms}}
uplinks:
  province: {{url: 'mqtts://localhost:{port}', streams: [environment], tls: {tls}}}
  factory: {{url: 'mqtts://localhost:{port}', streams: [environment, production], prefix: factory/v1, tls: {tls}}}
links:
  waves:
    driver: simulated
    devices:
      outfall: {{every: 100ms, stream: environment, points: {{level: {{wave: sine}}}}}}
      press: {{every: 100ms, stream: production, points: {{speed: {{wave: sine}}}}}}
"""


async def test_two_platforms_get_their_own_streams_and_acknowledge_for_themselves(
    tmp_path: Path, platform: Platform
) -> None:
    """What the province is not meant to see is never in a byte it gets; each has a ledger of its own."""
    pair = platform.authority.issue("station-1")
    tls = json.dumps({"ca": str(platform.authority.ca), "cert": str(pair.cert), "key": str(pair.key)})
    config = tmp_path / "gateway.yaml"
    config.write_text(TWO_PLATFORMS.format(port=platform.broker.port, tls=tls))
    async with await connect(platform.endpoint("listener")) as session:
        received: list[Message] = []
        session.on_message = received.append
        await session.subscribe("#")
        service = Running(config)
        try:
            await asyncio.to_thread(service.status)
            await until(lambda: sum("factory/v1/station-1/block/production" in one.topic for one in received) > 5)
            state = await asyncio.to_thread(service.status)
        finally:
            await asyncio.to_thread(service.leave)
    theirs = [one for one in received if one.topic.startswith("trambien/v1/station-1/")]
    assert any(one.topic.endswith("block/environment") for one in theirs)
    assert not any(word in one.payload for one in theirs for word in (b"press", b"production", b"factory"))
    assert set(state["uplinks"]["province"]["acknowledged"]) == {"environment"}
    assert set(state["uplinks"]["factory"]["acknowledged"]) == {"environment", "production"}
    assert not any(pending > 3 for uplink in state["uplinks"].values() for pending in uplink["pending"].values())
