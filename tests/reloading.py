"""A station in this loop that reads two instruments on sockets, for the tests of a change while it runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from rig import until

from agent import control
from agent.app import App
from agent.clock import SystemClock
from agent.journal import Hold
from agent.owner import in_daemon
from agent.reading import read
from agent.works import Works
from buffer.block import open_envelope, trust
from buffer.frame import Event
from buffer.keys import known_public
from buffer.layout import decode_catalogue, decode_layout
from buffer.store import Reader
from buffer.verify import Verifier, payload_of
from drivers.simulated.modbus_tcp import ModbusTcpInstrument
from drivers.simulated.replay import read_recording

DATA = Path(__file__).parent / "data"


class Station:
    """An app in this loop, its file, and two instruments to read."""

    def __init__(self, folder: Path, plant: ModbusTcpInstrument, pump: ModbusTcpInstrument) -> None:
        self.plant, self.pump = plant, pump
        self.file = folder / "gateway.yaml"
        self.document: dict[str, Any] = {
            "gateway": {"id": "station-1", "language": "en"},
            "buffer": {"path": "data/buffer.db", "seal_every": "200ms"},
            "links": {"plant": plant.link("outfall", "100ms"), "pump": pump.link("press", "100ms")},
        }
        self.stop = asyncio.Event()

    async def start(self) -> None:
        """Start the app and wait until both instruments are read."""
        self.write()
        clock = SystemClock()
        read_file = partial(read, clock=clock)
        hold = Hold(self.file, clock.boot_id.hex(), clock.boot_ns)
        self.app = App(read_file(self.file), clock, read_file, hold)
        self.running = asyncio.create_task(self.app.run(self.stop))
        for name in self.document["links"]:
            await until(lambda name=name: self.good(name) > 0)  # type: ignore[misc]

    async def leave(self) -> None:
        """Let the app leave."""
        self.stop.set()
        await self.running

    def write(self, text: str | None = None) -> None:
        """Write the file."""
        self.file.write_text(json.dumps(self.document, indent=1) if text is None else text)

    async def reload(self) -> dict[str, Any]:
        """Write the file and ask for a reload as the tool does."""
        self.write()
        return await self.asked()

    async def asked(self) -> dict[str, Any]:
        """Ask over the control socket."""
        path = control.socket_path(self.buffer)
        return await in_daemon("ask", lambda: control.ask(path, "reload", 60.0))

    @property
    def buffer(self) -> Path:
        """The buffer's file."""
        return self.file.parent / "data" / "buffer.db"

    @property
    def works(self) -> Works:
        """What runs."""
        return self.app._works

    @property
    def status(self) -> dict[str, Any]:
        """What `trambien status` shows."""
        return self.app._health.document(SystemClock().boot_ns())

    def device(self, link: str) -> dict[str, Any]:
        """Give the figures of a link's one device."""
        (device,) = self.status["links"][link]["devices"].values()
        return device

    def good(self, link: str) -> int:
        """Count the frames a link has brought."""
        return self.device(link)["good"] if link in self.status["links"] else 0

    def untouched(self, link: str) -> tuple[Any, ...]:
        """Give what must be the same objects after a change: driver, poller and task."""
        return (self.works.drivers[link], *self.works._pollers._workers[link])

    def events(self, stream: str = "main") -> list[Event]:
        """Give the logbook of a stream, each block proven."""
        return [event for blocks in self.blocks(stream) for event in blocks.events]

    def blocks(self, stream: str = "main") -> list[Any]:
        """Give the payloads of a stream, by the catalogues signed into it, each block proven."""
        keys = trust(known_public(self.buffer.with_name("device.key")))
        with Reader(self.buffer) as reader:
            found = []
            layouts: dict[bytes, Any] = {}
            catalogues: dict[bytes, tuple[bytes, ...]] = {}
            for _, block in reader.blocks(stream):
                header = open_envelope(block.envelope, keys)
                known = tuple(layouts[one] for one in catalogues.get(header.catalogue, ()))
                payload = payload_of(block, header, known)
                if payload.definitions is not None:
                    for encoded in payload.definitions.layouts:
                        layout = decode_layout(encoded)
                        layouts[identity(encoded)] = layout
                    if payload.definitions.catalogue:
                        encoded = payload.definitions.catalogue
                        catalogues[identity(encoded)] = decode_catalogue(encoded)
                found.append(payload)
            return found

    def verdict(self, stream: str = "main") -> str:
        """Prove a stream as an auditor does."""
        verifier = Verifier(known_public(self.buffer.with_name("device.key")))
        with Reader(self.buffer) as reader:
            for _, block in reader.blocks(stream):
                verifier.feed(block.envelope, block.payload)
        return verifier.report().verdict


def identity(encoded: bytes) -> bytes:
    """Give what names a text or a definition."""
    return sha256(encoded).digest()


@asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[Station]:
    """Run a station that reads two instruments."""
    instruments = [ModbusTcpInstrument(read_recording(DATA / "wwtp.csv")) for _ in range(2)]
    for instrument in instruments:
        await instrument.start()
    one = Station(folder, *instruments)
    await one.start()
    yield one
    await one.leave()
    for instrument in instruments:
        await instrument.stop()


async def goes_on(station: Station, link: str) -> None:
    """Wait until a link has brought more."""
    before = station.good(link)
    await until(lambda: station.good(link) > before + 3)
