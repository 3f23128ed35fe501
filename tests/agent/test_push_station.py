"""Pushes to a real station over a real broker: tried, confirmed, undone, let in, told in the chain."""

import asyncio
import contextlib
import json
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from operators import GATEWAY, LAN, MALLORY, MINH, PUSH, new_trust, sealed, trust_bytes
from rig import Platform, until

from agent import control, journal, ota
from agent.app import App
from agent.broker import Message, connect
from agent.clock import SystemClock
from agent.journal import Hold
from agent.settings import read
from buffer.keys import known_public
from buffer.store import Reader
from buffer.verify import Verifier, payload_of
from config.push import CONFIG, Envelope, encode

ROOT = f"trambien/v1/{GATEWAY}"
FILE = """\
gateway: {{id: station-1, language: en}}
uplinks:
  province: {{url: "mqtts://localhost:{port}", accept: [config], tls: {{ca: {ca}, cert: {cert}, key: {key}}}}}
buffer: {{path: data/buffer.db, seal_every: 200ms}}
links:
  waves:
    driver: simulated
    devices:
      tank: {{every: 100ms, points: {{level: {{wave: sine}}}}}}
  other:
    driver: simulated
    devices:
      pump: {{every: 100ms, points: {{level: {{wave: sine}}}}}}
"""


class Pushed:
    """A station in this process, and the platform's hand on it. Probation is three seconds."""

    def __init__(self, directory: Path, platform: Platform) -> None:
        self.file = directory / "gateway.yaml"
        self.platform = platform
        pair = platform.authority.issue(GATEWAY)
        text = FILE.format(port=platform.broker.port, ca=platform.authority.ca, cert=pair.cert, key=pair.key)
        self.file.write_text(text)
        (directory / "trust.json").write_bytes(trust_bytes())
        self.results: list[dict] = []
        self.version = 0
        self.stop = asyncio.Event()

    async def start(self) -> None:
        """Start the station, and listen to its results."""
        clock = SystemClock()
        hold = Hold(self.file, clock.boot_id.hex(), clock.boot_ns)
        hold.recover()
        read_file = partial(read, clock=clock)
        self.app = App(read_file(self.file), clock, read_file, hold)
        self.running = asyncio.create_task(self.app.run(self.stop))
        self.session = await connect(self.platform.endpoint("operator"))
        self.session.on_message = self._heard
        await self.session.subscribe(f"{ROOT}/#")
        await until(lambda: bool(self.results))
        await until(lambda: bool(self.health()["uplinks"]["province"]["acknowledged"]))
        await until(lambda: len(self.alive()) == 2)

    def _heard(self, message: Message) -> None:
        if message.topic.endswith("/config/result"):
            self.results.append(json.loads(message.payload))

    def health(self) -> dict:
        """Give the state of the station."""
        return self.app._health.document(0)

    def alive(self) -> list[str]:
        """Name the devices that are alive."""
        links = self.health()["links"]
        return [name for link in links.values() for name, facts in link["devices"].items() if facts["alive"]]

    def push(self, old: str, new: str, *signers, **changes) -> bytes:
        """Make a push that replaces a part of the file as it stands."""
        text = self.file.read_text()
        assert old in text
        self.version += 1
        facts = {
            "version": self.version,
            "base": sha256(text.encode()).digest(),
            "configuration": text.replace(old, new).encode(),
            "probation_s": 10,
            "issued_s": int(SystemClock().wall_ns() / 1e9) - 60,
            "expires_s": int(SystemClock().wall_ns() / 1e9) + 3600,
            **changes,
        }
        return sealed(Envelope(CONFIG, encode(replace(PUSH, **facts)), ()), *(signers or (LAN,)))

    async def send(self, data: bytes) -> None:
        """Publish a push."""
        await self.session.publish(Message(f"{ROOT}/config/set", data, retain=True))

    async def state(self, *states: str, seconds: float = 40) -> dict:
        """Wait until the last push has come to a state; give the result that says so."""
        await until(lambda: (self.results[-1]["push"] or {}).get("state") in states, seconds)
        return self.results[-1]

    async def leave(self) -> None:
        """Let it leave."""
        self.stop.set()
        await asyncio.wait_for(self.running, 10)
        self.app._ota._hold.release()
        await self.session.close()

    def events(self) -> list[tuple[str, dict]]:
        """Read the events in the chain, each proven."""
        buffer = self.file.with_name("data") / "buffer.db"
        verifier = Verifier(known_public(buffer.with_name("device.key")))
        found = []
        with Reader(buffer) as reader:
            for _, block in reader.blocks("main"):
                header = verifier.feed(block.envelope, block.payload)
                if header is not None:
                    with contextlib.suppress(Exception):
                        payload = payload_of(block, header, ())
                        found += [(event.kind, dict(event.data)) for event in payload.events]
        assert verifier.report().verdict == "complete"
        return found


@pytest.fixture
async def station(tmp_path, platform, monkeypatch):
    """Give a running station whose probations end soon."""
    monkeypatch.setattr(ota, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(ota, "GRACE_S", 3)
    monkeypatch.setattr(ota, "TOLD_AFTER_S", 0.5)
    monkeypatch.setattr(journal.Hold, "left_ns", quick(journal.Hold.left_ns))
    monkeypatch.setattr(journal.Hold, "run_on", quick(journal.Hold.run_on))
    pushed = Pushed(tmp_path, platform)
    try:
        await pushed.start()
        yield pushed
    finally:
        if not pushed.running.done():
            await pushed.leave()


def quick(method):
    """Take seven of the ten seconds off a probation."""
    return lambda hold: method(hold) - 7 * 10**9


async def test_a_good_push_is_confirmed_and_stands_in_the_chain(station):
    """Every state is told, the other link is not touched, and the same push again changes nothing."""
    pump = station.health()["links"]["other"]["devices"]["pump"]
    data = station.push("tank: {every: 100ms", "tank: {every: 200ms")
    await station.send(data)
    result = await station.state("confirmed")
    assert (
        result["push"]["target"] == result["file"] == result["config"] == sha256(station.file.read_bytes()).hexdigest()
    )
    assert "every: 200ms" in station.file.read_text()
    told = len(station.results)
    await station.send(data)
    await asyncio.sleep(2)
    assert station.results[told:] == []
    assert station.health()["links"]["other"]["devices"]["pump"]["missed"] == pump["missed"]
    await station.leave()
    states = [data["push"] for kind, data in station.events() if kind == "config-push"]
    assert states == [f"province 1.1 {state}" for state in ("verified", "staged", "validated", "applied", "confirmed")]


async def test_a_forged_push_is_reported_and_changes_nothing(station):
    """Over the same broker, under the same topic, with somebody else's key."""
    before = station.file.read_bytes()
    await station.send(station.push("100ms", "50ms", MALLORY))
    await until(lambda: station.results[-1]["refused"] is not None)
    assert station.results[-1]["refused"]["reason"] == "push.unknown-key"
    assert station.results[-1]["push"] is None
    assert station.file.read_bytes() == before
    assert not station.file.with_name("gateway.yaml.push").joinpath("previous.yaml").exists()
    await station.leave()
    assert [data["push"] for kind, data in station.events() if kind == "push-refused"] == ["province push.unknown-key"]


async def test_a_push_that_costs_the_uplink_reverts_by_itself(station):
    """A broker that is not there: nothing can be told until the previous configuration has returned."""
    before = station.file.read_bytes()
    wrong = f"localhost:{station.platform.broker.port}", "localhost:9"
    await station.send(station.push(*wrong, LAN, MINH))
    result = await station.state("rolled-back")
    assert result["push"]["reason"] == "push.not-delivered"
    assert station.file.read_bytes() == before
    assert result["config"] == sha256(before).hexdigest()
    await until(lambda: station.health()["uplinks"]["province"]["connected"])
    await until(lambda: len(station.alive()) == 2)


async def test_a_critical_change_needs_two(station):
    """The same push of an uplink with one signature is refused."""
    await station.send(station.push("data/buffer.db", "data/other.db", LAN))
    await until(lambda: station.results[-1]["refused"] is not None)
    assert station.results[-1]["refused"]["reason"] == "push.critical"


async def test_an_edit_at_the_station_stands_until_a_person_decides(station):
    """A push based on another file is refused and kept; `accept-remote` lets it in."""
    data = station.push("tank: {every: 100ms", "tank: {every: 300ms")
    edited = station.file.read_text() + "# by the technician\n"
    station.file.write_text(edited)
    await station.send(data)
    result = await station.state("rejected")
    assert result["push"]["reason"] == "push.base-changed"
    assert station.file.read_text() == edited
    path = control.socket_path(station.file.with_name("data") / "buffer.db")
    answer = await asyncio.to_thread(control.ask, path, "accept-remote")
    assert answer["ok"], answer
    await station.state("confirmed")
    assert "every: 300ms" in station.file.read_text()
    assert (await asyncio.to_thread(control.ask, path, "accept-remote"))["error"] == "push.no-conflict"


async def test_an_edit_during_probation_stands(station):
    """It is not put back over."""
    await station.send(station.push("tank: {every: 100ms", "tank: {every: 300ms"))
    await station.state("applied")
    edited = station.file.read_text() + "# by the technician\n"
    station.file.write_text(edited)
    result = await station.state("rolled-back")
    assert result["push"]["reason"] == "push.local-edit"
    assert station.file.read_text() == edited


async def test_trust_is_replaced_over_the_air(station):
    """By both thresholds; the next push is judged by the new document."""
    await station.send(new_trust())
    await until(lambda: station.results[-1]["trust"] == 2)
    assert station.file.with_name("trust.json").read_bytes() == trust_bytes(version=2)
