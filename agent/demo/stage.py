"""The stage of a demonstration: instruments, broker, agent and receiver, set up and cleared away.

What is always true here:

- Instruments, broker, agent and receiver are the real ones, over real protocols with mutual TLS.
- The receiver trusts the device's public key, which it is given at commissioning, and nothing else.
- Whatever happens, no process is left behind.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.broker import Endpoint
from agent.clock import SystemClock
from agent.demo.brokers import Broker
from agent.demo.certificates import Authority
from agent.demo.evidence import Evidence
from agent.demo.plant import GATEWAY, Access, Plant
from agent.demo.screen import Screen
from agent.demo.station import Station
from agent.demo.stored import Stored
from agent.errors import AgentError
from agent.health import Document
from agent.receiver import Receiver
from buffer.keys import key_path, load_or_create
from buffer.verify import Gap, Report, Verifier

DRAIN_S = 60.0
REFRESH_S = 0.25
PREFIX = "trambien/v1"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that takes part."""

    plant: Plant
    broker: Broker
    station: Station
    receiver: Receiver
    evidence: Evidence
    buffer: Path
    public_key: bytes
    config: Path
    access: Access
    endpoint: Endpoint
    """How somebody at the platform reaches the broker."""


@asynccontextmanager
async def staged(
    directory: Path,
    recordings: Path,
    screen: Screen,
    port: int | None,
    broker_kind: type[Broker],
    accept: tuple[str, ...] = (),
) -> AsyncIterator[Stage]:
    """Set everything up in a directory, the agent not yet started. `accept` is what it takes from the platform."""
    screen.step("agent.demo-step-certificates")
    authority = Authority(directory / "tls")
    broker = broker_kind(directory, authority, port)
    plant = Plant(recordings, SystemClock())
    buffer = directory / "buffer" / "buffer.db"
    buffer.parent.mkdir(exist_ok=True)
    config = directory / "gateway.yaml"
    station = Station(config, buffer)
    device, platform = authority.issue(GATEWAY), authority.issue("platform")
    key, _ = load_or_create(key_path(buffer))
    evidence = Evidence()
    endpoint = Endpoint(
        "localhost", broker.port, "platform", str(authority.ca), str(platform.cert), str(platform.key), broker.protocol
    )
    receiver = Receiver(endpoint, f"{PREFIX}/{GATEWAY}", Verifier([key.public_key], remember=True), evidence.add)
    async with contextlib.AsyncExitStack() as stack:
        screen.step("agent.demo-step-instruments")
        stack.push_async_callback(plant.stop)
        await plant.start()
        mqtt = "5" if broker.protocol == 5 else "3.1.1"
        access = Access(broker.port, mqtt, authority.ca, device.cert, device.key, accept)
        config.write_bytes(plant.configuration(buffer, access))
        screen.step("agent.demo-step-broker", broker=broker.name)
        stack.push_async_callback(broker.kill)
        await broker.start()
        receiving = asyncio.create_task(receiver.run(), name="receiver")
        stack.callback(receiving.cancel)
        stack.push_async_callback(station.clear)
        yield Stage(plant, broker, station, receiver, evidence, buffer, key.public_key, config, access, endpoint)


@asynccontextmanager
async def watched(stage: Stage, screen: Screen) -> AsyncIterator[None]:
    """Keep the figures on the screen up to date meanwhile."""
    watching = asyncio.create_task(_watch(stage, screen), name="screen")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _watch(stage: Stage, screen: Screen) -> None:
    scene = screen.scene
    scene.broker = stage.broker.name
    while True:
        status = await stage.station.status() if stage.station.alive else None
        if status is not None:
            scene.sealed = sum(stream["sealed"] for stream in status["streams"].values())
            scene.pending = sum(status["uplinks"]["province"]["pending"].values())
        scene.broker_up, scene.agent_up = stage.broker.alive, stage.station.alive
        scene.proven = stage.receiver.verifier.report().blocks
        scene.served = {name: len(served) for name, served in stage.plant.served.items()}
        scene.delivered = {name: len(stage.evidence.numbers[name]) for name in scene.served}
        await asyncio.sleep(REFRESH_S)


async def drain(stage: Stage, screen: Screen) -> None:
    """Wait until everything is acknowledged. Raises AgentError where it takes too long."""
    deadline_s = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline_s:
        status = await stage.station.status()
        if status is not None and _is_dry(status):
            screen.step("agent.demo-step-drained")
            return
        await asyncio.sleep(REFRESH_S)
    raise AgentError("agent.demo-not-drained", seconds=f"{DRAIN_S:.0f}")


def _is_dry(status: Document) -> bool:
    """Say whether all is acknowledged but what was sealed just now."""
    uplink = status["uplinks"]["province"]
    return bool(uplink["connected"]) and all(pending <= 1 for pending in uplink["pending"].values())


def both(stored: Stored, report: Report) -> tuple[tuple[str, Report], ...]:
    """Give what the buffer's verification found, and the receiver's."""
    return ("buffer", stored.report), ("topic", report)


def gap_text(where: str, gap: Gap) -> str:
    """Name blocks that are missing."""
    return f"{where}: {gap.stream} {gap.first_seq}..{gap.last_seq}"
