"""What the demonstration does, in order: readings arrive, broker and agent die and come back, all is proven.

What is always true here:

- Instruments, broker, agent and receiver are the real ones, over real protocols with mutual TLS; the agent is a process
  of its own and is killed with SIGKILL.
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
from agent.demo.brokers import Broker, choose
from agent.demo.certificates import Authority
from agent.demo.evidence import Evidence
from agent.demo.plant import EVERY_S, GATEWAY, SEAL_EVERY_S, Access, Plant
from agent.demo.screen import Screen
from agent.demo.station import Station
from agent.demo.stored import Stored, read_buffer
from agent.demo.tally import NS_PER_S, Kill, tally_all
from agent.demo.verdict import Verdict
from agent.errors import AgentError
from agent.health import Document
from agent.receiver import Receiver
from buffer.keys import key_path, load_or_create
from buffer.verify import Gap, Report, Verifier

DRAIN_S = 60.0
REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part lasts, in seconds."""

    before_s: float = 12.0
    outage_s: float = 20.0
    kill_after_s: float = 8.0
    dead_s: float = 3.0
    after_s: float = 6.0
    quiet_s: float = 2.5


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


async def demonstrate(
    directory: Path, recordings: Path, screen: Screen, pace: Pace, port: int | None, broker: type[Broker] | None = None
) -> Verdict:
    """Run the whole of it in a directory; give the verdict. Raises AgentError where something cannot be set up."""
    async with _stage(directory, recordings, screen, port, broker or choose()) as stage, _watched(stage, screen):
        await _readings_arrive(stage, screen, pace)
        kill = await _outage(stage, screen, pace)
        await _drain(stage, screen)
        await asyncio.sleep(pace.after_s)
        screen.step("agent.demo-step-leave")
        await stage.plant.quiet()
        await asyncio.sleep(pace.quiet_s)
        leave_s = await stage.station.leave()
        await asyncio.sleep(1.0)
        screen.step("agent.demo-step-verdict")
        return _judge(stage, kill, leave_s)


@asynccontextmanager
async def _stage(
    directory: Path, recordings: Path, screen: Screen, port: int | None, broker_kind: type[Broker]
) -> AsyncIterator[Stage]:
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
    root = f"trambien/v1/{GATEWAY}"
    endpoint = Endpoint(
        "localhost", broker.port, "platform", str(authority.ca), str(platform.cert), str(platform.key), broker.protocol
    )
    receiver = Receiver(endpoint, root, Verifier([key.public_key], remember=True), evidence.add)
    async with contextlib.AsyncExitStack() as stack:
        screen.step("agent.demo-step-instruments")
        stack.push_async_callback(plant.stop)
        await plant.start()
        mqtt = "5" if broker.protocol == 5 else "3.1.1"
        plant.write_file(config, buffer, Access(broker.port, mqtt, authority.ca, device.cert, device.key))
        screen.step("agent.demo-step-broker", broker=broker.name)
        stack.push_async_callback(broker.kill)
        await broker.start()
        receiving = asyncio.create_task(receiver.run(), name="receiver")
        stack.callback(receiving.cancel)
        stack.push_async_callback(station.clear)
        yield Stage(plant, broker, station, receiver, evidence, buffer, key.public_key)


@asynccontextmanager
async def _watched(stage: Stage, screen: Screen) -> AsyncIterator[None]:
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


async def _readings_arrive(stage: Stage, screen: Screen, pace: Pace) -> None:
    screen.step("agent.demo-step-agent")
    await stage.station.start()
    screen.step("agent.demo-step-arriving")
    await asyncio.sleep(pace.before_s)


async def _outage(stage: Stage, screen: Screen, pace: Pace) -> Kill:
    """Kill the broker, kill the agent meanwhile, start both again."""
    began_s = time.monotonic()
    await stage.broker.kill()
    screen.step("agent.demo-step-broker-killed", seconds=f"{pace.outage_s:.0f}")
    await asyncio.sleep(pace.kill_after_s)
    killed_ns = await stage.station.kill()
    screen.step("agent.demo-step-agent-killed")
    await asyncio.sleep(pace.dead_s)
    await stage.station.start()
    screen.step("agent.demo-step-agent-again")
    await asyncio.sleep(max(0.0, pace.outage_s - (time.monotonic() - began_s)))
    await stage.broker.start()
    screen.step("agent.demo-step-broker-again")
    return Kill(killed_ns, (SEAL_EVERY_S + EVERY_S) * NS_PER_S)


async def _drain(stage: Stage, screen: Screen) -> None:
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


def _judge(stage: Stage, kill: Kill, leave_s: float) -> Verdict:
    stored = read_buffer(stage.buffer, stage.public_key)
    report = stage.receiver.verifier.report()
    served = stage.plant.served
    return Verdict(
        instruments=tally_all(served, stored.numbers, stage.evidence.numbers, kill),
        unsealed_bound=sum(kill.explains(answer) for answers in served.values() for answer in answers),
        blocks=stored.report.blocks,
        proven=report.blocks,
        repeated=report.repeats,
        gaps=[_gap(where, gap) for where, found in _both(stored, report) for gap in found.gaps],
        findings=[f"{where}: {fault.reason}" for where, found in _both(stored, report) for fault in found.faults],
        silences=stage.evidence.silences(),
        readings=stage.evidence.readings,
        leave_s=leave_s,
        broker=stage.broker.name,
        unproven=stage.broker.unproven,
    )


def _both(stored: Stored, report: Report) -> tuple[tuple[str, Report], ...]:
    return ("buffer", stored.report), ("topic", report)


def _gap(where: str, gap: Gap) -> str:
    return f"{where}: {gap.stream} {gap.first_seq}..{gap.last_seq}"
