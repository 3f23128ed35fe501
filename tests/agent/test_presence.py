"""What an uplink says of itself: at once where it matters, rarely where figures only move."""

import asyncio
import json
from contextlib import suppress

import pytest
from rig import Platform, until

from agent import presence
from agent.broker import Message, connect
from agent.dispatch import Answers
from agent.health import Document, Health, UplinkHealth
from agent.presence import Presence, online
from agent.state import State

ROOT = "trambien/v1/station-1"


@pytest.fixture
async def states(platform: Platform):
    """Give what a platform heard as `state`, in order."""
    heard: list[Document] = []
    async with await connect(platform.endpoint("listener")) as session:
        session.on_message = lambda message: heard.append(json.loads(message.payload))
        await session.subscribe(f"{ROOT}/state")
        yield heard


async def tell(platform: Platform, health: Health, settle_s: float, act) -> None:
    """Have an uplink tell of a station while something is done."""
    async with await connect(platform.endpoint("gateway")) as session:

        def retained(message: Message) -> asyncio.Future[int]:
            return session.publish(message)

        answers = Answers(lambda *_: None, retained, lambda *_: None, lambda _: None)
        moved = iter(range(1, 1 << 30))
        one = Presence(ROOT, session, State(health, "province", lambda: next(moved)), answers)
        running = asyncio.create_task(one.run(online(ROOT, b"E" * 8, 1, up=True)))
        try:
            await act()
            await asyncio.sleep(settle_s)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def health():
    """Give a station with one platform."""
    made = Health("station-1", "0.1.0", "ab" * 32, "cd" * 32, 0)
    made.uplinks["province"] = UplinkHealth(("main",))
    return made


async def test_what_matters_is_told_at_once_and_nothing_in_between(platform, states, health, monkeypatch):
    """The figures move all the time, and for minutes that is no reason to speak."""
    monkeypatch.setattr(presence, "STATE_SETTLES_S", 0.02)

    async def change() -> None:
        await until(lambda: len(states) == 1)
        await asyncio.sleep(0.3)
        health.volatile = True
        await until(lambda: len(states) == 2)

    await tell(platform, health, 0.3, change)
    assert [state.get("buffer") for state in states] == [None, {"volatile": True}]


async def test_figures_that_only_move_are_told_in_the_end(platform, states, health, monkeypatch):
    """A platform is not left with figures of yesterday."""
    monkeypatch.setattr(presence, "STATE_SETTLES_S", 0.02)
    monkeypatch.setattr(presence, "STATE_EVERY_S", 0.1)
    await tell(platform, health, 0, lambda: until(lambda: len(states) >= 3))
    assert states[0]["boot_ns"] < states[1]["boot_ns"] < states[2]["boot_ns"]
