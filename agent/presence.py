"""What an uplink says of itself: `online`, which is the will too, and `state`.

What is always true here:

- `online` goes before everything; its session number counts within the running store's epoch, so that a late will of
  an older session can be told from the present.
- `state` is told when something changed that matters at once, and else every five minutes: each minute it was more than
  all blocks of a small station. Never while the last is unanswered.
- What is larger than the server's Maximum Packet Size is reported and left out.
"""

import asyncio
import json
from typing import NoReturn

from agent.beat import beat
from agent.broker import FIRST_FAILURE, Message, Session
from agent.dispatch import Answers
from agent.health import Document
from agent.state import State

STATE_EVERY_S = 300.0
STATE_SETTLES_S = 2.0
FAREWELL_S = 0.3


def online(root: str, epoch: bytes, session: int, *, up: bool) -> Message:
    """Say that the station is there, or that it left."""
    return _json(root, "online", {"online": up, "epoch": epoch.hex(), "session": session})


def _json(root: str, topic: str, document: Document) -> Message:
    payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Message(f"{root}/{topic}", payload, retain=True)


class Presence:
    """The retained topics of one uplink over one session."""

    def __init__(self, root: str, session: Session, state: State, answers: Answers) -> None:
        self._root = root
        self._session = session
        self._state = state
        self._answers = answers

    async def run(self, greeting: Message) -> NoReturn:
        """Publish `online`, then `state` whenever it changed and at least every five minutes."""
        self._answers.retained(greeting)
        loop = asyncio.get_running_loop()
        told: object = None
        told_s = -STATE_EVERY_S
        while True:
            essence = self._state.essence()
            if loop.time() - told_s >= STATE_EVERY_S or essence != told:
                told, told_s = essence, loop.time()
                await asyncio.wait([self._tell(_json(self._root, "state", self._state.document()))])
            await beat(STATE_SETTLES_S)

    def _tell(self, message: Message) -> asyncio.Future[int]:
        if self._session.fits(message):
            return self._answers.retained(message)
        self._answers.too_large(message.topic, message.size, self._session.max_packet or 0)
        left_out: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        left_out.set_result(0)
        return left_out

    async def farewell(self, message: Message) -> None:
        """Say that the station leaves, as its will would have; wait a moment for the answer."""
        await asyncio.wait([self._session.publish(message)], timeout=FAREWELL_S)


def failed(answer: asyncio.Future[int]) -> int | None:
    """Give the reason code with which a publish was refused, None where it was not."""
    if answer.cancelled() or answer.exception() is not None or answer.result() < FIRST_FAILURE:
        return None
    return answer.result()
