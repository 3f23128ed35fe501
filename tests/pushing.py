"""A real station over a real broker that is pushed to, and the platform's hand on it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from operators import GATEWAY, LAN, PUSH, sealed, trust_bytes
from rig import Platform, until

from agent import journal, ota
from agent.app import App
from agent.broker import Message, connect
from agent.clock import SystemClock
from agent.journal import Hold
from agent.reading import read
from buffer.block import open_envelope, trust
from buffer.frame import Layout
from buffer.keys import known_public
from buffer.layout import catalogue_digest, decode_catalogue, decode_layout, layout_id
from buffer.store import Reader
from buffer.verify import payload_of
from config.model import OWN_DEVICE
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
        """Name the instruments that are alive."""
        links = [link for name, link in self.health()["links"].items() if name != OWN_DEVICE]
        return [name for link in links for name, facts in link["devices"].items() if facts["alive"]]

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
            "issued_s": int(time.time()) - 60,
            "expires_s": int(time.time()) + 3600,
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
        await asyncio.wait_for(self.running, 60)
        self.app._ota._hold.release()
        await self.session.close()

    def events(self, kind: str) -> list[dict]:
        """Read the events of a kind in the chain, each block proven."""
        keys = trust(known_public(self.file.with_name("data") / "device.key"))
        layouts: dict[bytes, Layout] = {}
        catalogues: dict[bytes, tuple[bytes, ...]] = {}
        found = []
        with Reader(self.file.with_name("data") / "buffer.db") as reader:
            for _, block in reader.blocks("main"):
                header = open_envelope(block.envelope, keys)
                known = [layouts[one] for one in catalogues.get(header.catalogue, ())]
                payload = payload_of(block, header, known)
                if payload.definitions is not None:
                    new = map(decode_layout, payload.definitions.layouts)
                    layouts |= {layout_id(layout): layout for layout in new}
                    if encoded := payload.definitions.catalogue:
                        catalogues[catalogue_digest(encoded)] = decode_catalogue(encoded)
                found += [dict(event.data) for event in payload.events if event.type == kind]
        return found


@asynccontextmanager
async def pushed_to(directory: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pushed]:
    """Run a station whose probations end soon."""
    monkeypatch.setattr(ota, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(ota, "GRACE_S", 3)
    monkeypatch.setattr(ota, "TOLD_AFTER_S", 0.5)
    monkeypatch.setattr(journal.Hold, "left_ns", quick(journal.Hold.left_ns))
    monkeypatch.setattr(journal.Hold, "run_on", quick(journal.Hold.run_on))
    pushed = Pushed(directory, platform)
    try:
        await pushed.start()
        yield pushed
    finally:
        if not pushed.running.done():
            await pushed.leave()


def quick(method):
    """Take seven of the ten seconds off a probation."""
    return lambda hold: method(hold) - 7 * 10**9
