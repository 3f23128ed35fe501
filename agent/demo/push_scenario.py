"""What the demonstration of pushes does, in order: one is obeyed, one is forged, one cuts the station off.

What is always true here:

- The agent is started once and never again: what it undoes, it undoes by itself.
- That a push is obeyed is seen at the instrument, which is asked more often; that one was undone, at the file and at
  the readings that arrive again; that each was told, in the chain that the receiver proves.
- What is said of the stage (`agent.demo.stage`) holds.
"""

import asyncio
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from agent import durable
from agent.demo.brokers import Broker, choose
from agent.demo.operators import Operators, Outcome
from agent.demo.push_verdict import Facts, PushVerdict
from agent.demo.screen import Screen
from agent.demo.stage import Stage, both, drain, gap_text, staged, watched
from agent.demo.stored import read_buffer
from agent.demo.tally import NS_PER_S, tally_all
from config.trust import FILE_NAME

OFTEN = "500ms"
"""How often the first instrument is asked once the first push is obeyed: twice as often."""
NOWHERE = 9
"""The port of the broker that is not there (RFC 863: nothing is ever answered there)."""
DEVICE = "plant"
MEASURED_S = 7


@dataclass(frozen=True, slots=True)
class PushPace:
    """How long each part lasts, in seconds."""

    before_s: float = 10.0
    after_s: float = 4.0
    quiet_s: float = 2.5


async def demonstrate_pushes(
    directory: Path,
    recordings: Path,
    screen: Screen,
    pace: PushPace,
    port: int | None,
    broker: type[Broker] | None = None,
) -> PushVerdict:
    """Run the whole of it in a directory; give the verdict. Raises AgentError where something cannot be set up."""
    kind = broker or choose()
    async with staged(directory, recordings, screen, port, kind, ("config",)) as stage, watched(stage, screen):
        operators = Operators(replace(stage.endpoint, client_id="operator"), screen)
        screen.step("agent.demo-step-operators")
        durable.write(stage.config.with_name(FILE_NAME), operators.trust(), 0o644)
        screen.step("agent.demo-step-agent")
        await stage.station.start()
        screen.step("agent.demo-step-arriving")
        await asyncio.sleep(pace.before_s)
        good = stage.plant.configuration(stage.buffer, stage.access, OFTEN)
        before_s = _asked_every_s(stage)
        obeyed = await _obeyed(stage, operators, good)
        after_s = _asked_every_s(stage)
        outcomes = (obeyed, await _forged(stage, operators), await _cut_off(stage, operators))
        await drain(stage, screen)
        await asyncio.sleep(pace.after_s)
        screen.step("agent.demo-step-leave")
        await stage.plant.quiet()
        await asyncio.sleep(pace.quiet_s)
        leave_s = await stage.station.leave()
        await asyncio.sleep(1.0)
        screen.step("agent.demo-step-verdict")
        stands = stage.config.read_bytes() == good
        return _judge(stage, outcomes, Facts(before_s, after_s, stands, leave_s))


async def _obeyed(stage: Stage, operators: Operators, good: bytes) -> Outcome:
    """Ask the first instrument twice as often."""
    operators.screen.step("agent.demo-step-push-good", device=DEVICE, every=OFTEN)
    return await operators.send("good", stage.config.read_bytes(), good, operators.lan)


async def _forged(stage: Stage, operators: Operators) -> Outcome:
    """Ask the instrument more rarely, by a key that the station does not know."""
    operators.screen.step("agent.demo-step-push-forged")
    wanted = stage.plant.configuration(stage.buffer, stage.access, "1h")
    return await operators.send("forged", stage.config.read_bytes(), wanted, operators.stranger)


async def _cut_off(stage: Stage, operators: Operators) -> Outcome:
    """Name a broker that is not there, well signed."""
    operators.screen.step("agent.demo-step-push-fatal", port=NOWHERE)
    wanted = stage.plant.configuration(stage.buffer, replace(stage.access, port=NOWHERE), OFTEN)
    return await operators.send("fatal", stage.config.read_bytes(), wanted, operators.lan, operators.minh)


def _asked_every_s(stage: Stage) -> float:
    """Give how far apart the last answers of the first instrument are."""
    times = [answer.t_boot_ns for answer in stage.plant.served[DEVICE]]
    recent = [time_ns for time_ns in times if time_ns > times[-1] - MEASURED_S * NS_PER_S]
    return fmean(later - earlier for earlier, later in pairwise(recent)) / NS_PER_S


def _judge(stage: Stage, outcomes: tuple[Outcome, ...], facts: Facts) -> PushVerdict:
    stored = read_buffer(stage.buffer, stage.public_key)
    report = stage.receiver.verifier.report()
    return PushVerdict(
        instruments=tally_all(stage.plant.served, stored.numbers, stage.evidence.numbers, None),
        blocks=stored.report.blocks,
        proven=report.blocks,
        gaps=[gap_text(where, gap) for where, found in both(stored, report) for gap in found.gaps],
        findings=[f"{where}: {fault.reason}" for where, found in both(stored, report) for fault in found.faults],
        epochs_ended=len(stage.evidence.silences()),
        readings=stage.evidence.readings,
        outcomes=outcomes,
        told=sorted(stage.evidence.pushes),
        facts=facts,
        broker=stage.broker.name,
        unproven=stage.broker.unproven,
    )
