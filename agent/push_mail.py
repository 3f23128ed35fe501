"""The post of pushes over one session: `config/set` comes in, `config/result` stands retained.

What is always true here:

- Only an uplink marked `accept: [config]` is given one. What comes on other topics goes on to whoever heard it before.
- A result is told when something changed, at most once a second, and at every connection.
- A subscription that is refused is reported; blocks go on.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn, Protocol

from agent.broker import Message, Session
from agent.errors import BrokerRefused
from agent.log import Log

SET, RESULT = "config/set", "config/result"
SETTLES_S = 1.0
LOOK_EVERY_S = 60.0
"""A file that was changed here is told, too, if later."""

_log = Log("push")


class Pushes(Protocol):
    """Whoever judges pushes."""

    turns: int
    """Grows whenever a result may have changed."""

    def take(self, platform: str, payload: bytes) -> None:
        """Take a message."""
        ...

    def result(self, platform: str) -> bytes:
        """Give what the platform is told."""
        ...


async def serve(
    session: Session, retained: Callable[[Message], object], *, name: str, root: str, pushes: Pushes
) -> NoReturn:
    """Hear and tell until cancelled."""
    before = session.on_message

    def take(message: Message) -> None:
        if message.topic == f"{root}/{SET}":
            if message.payload:  # an empty one only clears what was retained
                pushes.take(name, message.payload)
        elif before is not None:
            before(message)

    session.on_message = take
    try:
        await session.subscribe(f"{root}/{SET}")
    except BrokerRefused as error:
        _log.error("subscription-refused", uplink=name, error=error)
    told, seen, looked_s = b"", -1, 0.0
    loop = asyncio.get_running_loop()
    while True:
        if pushes.turns != seen or loop.time() - looked_s >= LOOK_EVERY_S:
            seen, looked_s = pushes.turns, loop.time()
            if (result := pushes.result(name)) != told:
                retained(Message(f"{root}/{RESULT}", result, retain=True))
                told = result
        await asyncio.sleep(SETTLES_S)
