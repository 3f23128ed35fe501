"""A plant, a broker and a platform around the station that is measured, on one machine and without root.

What is always true here:

- The broker is mosquitto with mutual TLS; every station reaches it through a proxy of its own that counts bytes.
- A platform is subscribed: without one, MQTT 5 answers "no matching subscribers", which is no acknowledgement.
- Registers are served by a process of their own and walk at random.
- A station's window is measured between two questions to its control socket, as its own ledger counts readings.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed.machine import Spent, free_ports, python, spent, stop
from speed.proxy import Proxy

from agent import control
from agent.broker import Endpoint, connect
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.errors import NotRunning


@dataclass(frozen=True, slots=True)
class Load:
    """What one station has to do."""

    devices: int = 10
    registers: int = 100
    every: str = "1s"
    seal_every: str = "1s"


@dataclass(slots=True)
class Site:
    """What is there before any station is."""

    directory: Path
    authority: Authority
    broker: Mosquitto
    heard: int = 0
    """Messages that the platform got."""

    def certificate(self, name: str) -> dict[str, str]:
        """Give a client's files."""
        pair = self.authority.issue(name)
        return {"ca": str(self.authority.ca), "cert": str(pair.cert), "key": str(pair.key)}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Subscribe to everything, and count."""
        endpoint = Endpoint("localhost", self.broker.port, "platform", **self.certificate("platform"))

        def count(_: object) -> None:
            self.heard += 1

        async with await connect(endpoint) as session:
            session.on_message = count
            await session.subscribe("#")
            yield


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """Start the broker and the platform."""
    authority = Authority(directory / "tls")
    broker = Mosquitto(directory, authority, None)
    await broker.start()
    made = Site(directory, authority, broker)
    try:
        async with made.listening():
            yield made
    finally:
        await broker.kill()


@contextlib.contextmanager
def registers(count: int) -> Iterator[list[int]]:
    """Serve registers at so many ports."""
    ports = free_ports(count)
    serving = python("-m", "speed.registers", *map(str, ports))
    try:
        until_accepting(ports)
        yield ports
    finally:
        serving.kill()
        serving.wait()


def until_accepting(ports: Sequence[int], patience_s: float = 30) -> None:
    """Wait for a server. Raises OSError where it does not come up."""
    until_s = time.monotonic() + patience_s
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.02)


def links_of(load: Load, ports: Sequence[int]) -> dict[str, Any]:
    """Give the links of a load of Modbus TCP devices, one a link."""
    points = {f"r{n}": {"input": n, "type": "uint16"} for n in range(load.registers)}
    return {
        f"link-{number}": {
            "driver": "modbus",
            "host": "127.0.0.1",
            "port": port,
            "devices": {f"device-{number}": {"unit": 1, "every": load.every, "points": points}},
        }
        for number, port in enumerate(ports)
    }


class Station:
    """A running service, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, proxy: Proxy) -> None:
        self._process = process
        self.folder = folder
        self.proxy = proxy
        self.settled = folder / "settled"

    @property
    def buffer(self) -> Path:
        """The buffer's file."""
        return self.folder / "buffer.db"

    def spent(self) -> Spent:
        """Ask the kernel."""
        return spent(self._process.pid)

    async def status(self) -> dict[str, Any]:
        """Ask the service. Raises NotRunning."""
        path = control.socket_path(self.buffer)
        return await asyncio.get_running_loop().run_in_executor(None, control.ask, path, "status")

    async def until_measuring(self, patience_s: float = 60, *, beyond: int = 0) -> None:
        """Wait for the first durable readings, in a block beyond those there were."""
        until_s = time.monotonic() + patience_s
        first: int | None = None
        while time.monotonic() < until_s:
            with contextlib.suppress(NotRunning, KeyError):
                main = (await self.status())["streams"]["main"]
                first = main["readings"] if first is None and main["sealed"] <= beyond else first
                if main["readings"] > (first or 0) and main["sealed"] > beyond:
                    return
            await asyncio.sleep(0.005)
        raise TimeoutError((self.folder / "log").read_text())

    async def until_acknowledged(self, patience_s: float = 60) -> None:
        """Wait until the platform has acknowledged a block."""
        until_s = time.monotonic() + patience_s
        while not (await self.status())["uplinks"]["province"]["acknowledged"].get("main"):
            if time.monotonic() > until_s:
                raise TimeoutError((self.folder / "log").read_text())
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Let it leave in order."""
        stop(self._process)


@asynccontextmanager
async def station(
    around: Site,
    name: str,
    links: dict[str, Any],
    *,
    seal_every: str = "1s",
    one_way_s: float = 0.0,
    command: Sequence[str] = ("-m", "speed.settled"),
) -> AsyncIterator[Station]:
    """Start a station; it is stopped at the end. Its folder may hold a buffer and a key already."""
    folder = around.directory / name
    folder.mkdir(exist_ok=True)
    async with Proxy(around.broker.port, one_way_s) as proxy:
        document = {
            "gateway": {"id": name, "watch": None},
            "uplinks": {"province": {"url": f"mqtts://localhost:{proxy.port}", "tls": around.certificate(name)}},
            "buffer": {"path": str(folder / "buffer.db"), "seal_every": seal_every},
            "links": links,
        }
        config = folder / "gateway.yaml"
        config.write_text(json.dumps(document))
        settled = folder / "settled"
        process = python(*command, str(config), str(settled), errors=folder / "log")
        running = Station(process, folder, proxy)
        try:
            yield running
        finally:
            await asyncio.get_running_loop().run_in_executor(None, running.stop)


@asynccontextmanager
async def naive(
    around: Site, name: str, ports: Sequence[int], load: Load, *, every_s: float, one_way_s: float = 0.0
) -> AsyncIterator[Station]:
    """Start the naive script; its `settled` holds what it did once it has ended."""
    folder = around.directory / name
    folder.mkdir(exist_ok=True)
    async with Proxy(around.broker.port, one_way_s) as proxy:
        settings = {
            **around.certificate(name),
            "broker": proxy.port,
            "ports": list(ports),
            "registers": load.registers,
            "every_s": every_s,
            "database": str(folder / "naive.db"),
            "topic": f"naive/{name}",
            "out": str(folder / "settled"),
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        process = python("-m", "speed.naive", str(folder / "settings.json"), errors=folder / "log")
        running = Station(process, folder, proxy)
        try:
            while process.poll() is None and not running.settled.with_suffix(".so_far").exists():
                await asyncio.sleep(0.02)
            yield running
        finally:
            await asyncio.get_running_loop().run_in_executor(None, running.stop)
