"""What the demonstration does, in order: readings arrive, broker and agent die and come back, all is proven.

What is always true here:

- The agent is a process of its own and is killed with SIGKILL.
- What is said of the stage (`agent.demo.stage`) holds.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from agent.demo.brokers import Broker, choose
from agent.demo.plant import EVERY_S, SEAL_EVERY_S
from agent.demo.screen import Screen
from agent.demo.stage import Stage, both, drain, gap_text, staged, watched
from agent.demo.stored import read_buffer
from agent.demo.tally import NS_PER_S, Kill, tally_all
from agent.demo.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part lasts, in seconds."""

    before_s: float = 12.0
    outage_s: float = 20.0
    kill_after_s: float = 8.0
    dead_s: float = 3.0
    after_s: float = 6.0
    quiet_s: float = 2.5


async def demonstrate(
    directory: Path, recordings: Path, screen: Screen, pace: Pace, port: int | None, broker: type[Broker] | None = None
) -> Verdict:
    """Run the whole of it in a directory; give the verdict. Raises AgentError where something cannot be set up."""
    async with staged(directory, recordings, screen, port, broker or choose()) as stage, watched(stage, screen):
        await _readings_arrive(stage, screen, pace)
        kill = await _outage(stage, screen, pace)
        await drain(stage, screen)
        await asyncio.sleep(pace.after_s)
        screen.step("agent.demo-step-leave")
        await stage.plant.quiet()
        await asyncio.sleep(pace.quiet_s)
        leave_s = await stage.station.leave()
        await asyncio.sleep(1.0)
        screen.step("agent.demo-step-verdict")
        return _judge(stage, kill, leave_s)


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
        gaps=[gap_text(where, gap) for where, found in both(stored, report) for gap in found.gaps],
        findings=[f"{where}: {fault.reason}" for where, found in both(stored, report) for fault in found.faults],
        silences=stage.evidence.silences(),
        readings=stage.evidence.readings,
        leave_s=leave_s,
        broker=stage.broker.name,
        unproven=stage.broker.unproven,
    )
