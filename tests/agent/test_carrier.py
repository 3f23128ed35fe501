"""A carrier whose session is over: whatever is said of its publishes later concerns nobody."""

import asyncio
from pathlib import Path

import hostile
from carrying import ROOT, filled
from hostile import Hostile, Plan
from rig import Bench, until

from agent.broker import Endpoint, Session, connect
from agent.carrier import Carriage, Carrier, Memory
from agent.dispatch import Answers
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.lanes import Lanes
from agent.pacing import Brakes, Bucket


def ears(session: Session) -> Answers:
    """Hear nothing."""
    return Answers(lambda *_: None, session.publish, lambda *_: None, lambda *_: None)


async def test_what_ends_after_the_session_takes_no_block_from_the_next_one(tmp_path: Path) -> None:
    """The block is in flight over the new session: a loss told late by the old one must not make it pending again."""
    async with Bench(tmp_path / "buffer.db") as bench, Hostile(after=Plan(acts=(hostile.LOSE,) * 99)) as broker:
        await filled(bench)
        head = bench.recorder.head("main")
        settled = bench.recorder.settled("province", "main")
        lanes = Lanes({"main": (settled, head)})
        health = UplinkHealth(("main",), pending={"main": head})
        memory = Memory(lanes, Bucket(None, 0.0), Brakes(), None)
        carriage = Carriage("province", ROOT, ("main",), Signed(ROOT))
        session = await connect(Endpoint("127.0.0.1", broker.port, "x"))
        carrier = Carrier(carriage, session, memory, bench.recorder, health, ears(session))
        carrying = asyncio.create_task(carrier.run())
        await until(lambda: len(broker.blocks()) > 0)
        carrying.cancel()
        await asyncio.wait([carrying])
        carrier.end()
        assert lanes.take_backlog(head) == ("main", range(1, head + 1)), "all that was under way is pending again"
        await session.close()
        await asyncio.sleep(0.1)
        assert lanes.take_backlog(head) is None, "and in flight once, over the next session"
        assert health.pending == {"main": head}
