"""What a carrier remembers of blocks on their way: the publishes made from one, and what waits for its time.

What is always true here:

- A parcel is open while publishes may be added; it is told of as done once, when it is closed and all have ended.
- It has failed as soon as one of its publishes ended otherwise than with a reason code that counts as success.
- Held blocks are kept as intervals: a day without a clock costs a few numbers.

The carrier and its dispatch enter.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from agent.formats.api import Hold
from buffer.intervals import Intervals


class Parcel:
    """The publishes made from one block. `good` are the reason codes that count as success, `sent_s` when it began."""

    def __init__(self, done: Callable[[], None], good: tuple[int, ...], sent_s: float) -> None:
        self._done = done
        self._good = good
        self.sent_s = sent_s
        self._open = True
        self._under_way = 0
        self.posted = 0
        self.failed = False
        self.refusals: list[int] = []
        self.topic = ""
        """The first topic refused, or lost."""
        self.unfit: str | None = None
        """Why the block cannot be carried, if it cannot."""

    def post(self, topic: str, answer: asyncio.Future[int]) -> None:
        """Add a publish."""
        self.posted += 1
        self._under_way += 1
        answer.add_done_callback(partial(self._answered, topic))

    def close(self) -> None:
        """Say that no publish follows."""
        self._open = False
        self._tell_if_done()

    def is_good(self, answer: asyncio.Future[int]) -> bool:
        """Say whether a publish that has ended was a success."""
        return _code(answer) in self._good

    def _answered(self, topic: str, answer: asyncio.Future[int]) -> None:
        self._under_way -= 1
        code = _code(answer)
        if code not in self._good:
            self.topic = self.topic or topic
            self.refusals += [] if code is None else [code]
            self.failed = True
        self._tell_if_done()

    def _tell_if_done(self) -> None:
        if not self._open and not self._under_way:
            self._done()


def _code(answer: asyncio.Future[int]) -> int | None:
    return None if answer.cancelled() or answer.exception() is not None else answer.result()


class Held:
    """Blocks that wait until the time of their boot is known. They are in flight for the lanes."""

    def __init__(self) -> None:
        self._boots: dict[bytes, tuple[Hold, dict[str, Intervals]]] = {}

    def add(self, hold: Hold, stream: str, position: int) -> None:
        """Hold a block back."""
        _, streams = self._boots.setdefault(hold.boot_id, (hold, {}))
        streams.setdefault(stream, Intervals()).add(position)

    def release(self, waits: Callable[[Hold], bool]) -> list[tuple[str, int]]:
        """Give what need not wait any more, by stream and position."""
        ready = [boot_id for boot_id, (hold, _) in self._boots.items() if not waits(hold)]
        return [
            (stream, position)
            for boot_id in ready
            for stream, positions in self._boots.pop(boot_id)[1].items()
            for first, last in positions
            for position in range(first, last + 1)
        ]
