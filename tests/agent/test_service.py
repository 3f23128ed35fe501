"""`trambien run` as its users meet it: a process that starts, answers, refuses, and leaves."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import asked
from ports import quiet_port
from rig import Platform, until
from running import SIMULATED, Running, assert_told, run
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
