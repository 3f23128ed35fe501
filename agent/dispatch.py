"""Dispatch: what one connection has under way, publish by publish, as window and rate allow.

What is always true here:

- In flight are at most the window's publishes and those of one block more: the messages of a block are made one at a
  time, each when there is room for it. The backlog has its own share of them.
- What is larger than the server's Maximum Packet Size is never sent.
- Once the connection is over nothing is counted any more.

The carrier enters.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.broker import Message, Session
from agent.formats.api import CannotTell
from agent.health import UplinkHealth
from agent.log import Log
from agent.pacing import Bucket, Window
from agent.parcel import Parcel

TOO_LARGE = "too-large"

_log = Log("carrier")


@dataclass(frozen=True, slots=True)
class Answers:
    """The uplink's ears: `refused` hears of a topic and its reason code; `retained` publishes and judges by itself."""

    refused: Callable[[str, int], None]
    retained: Callable[[Message], asyncio.Future[int]]
    too_large: Callable[[str, int, int], None]
    unconfirmed: Callable[[int], None]


class Dispatch:
    """Publishes over one session until it ends."""

    def __init__(
        self, session: Session, window: Window, bucket: Bucket, health: UplinkHealth, answers: Answers
    ) -> None:
        self._session = session
        self._window = window
        self._bucket = bucket
        self._health = health
        self._answers = answers
        self._now_s = asyncio.get_running_loop().time
        self._backlog = 0
        self._over = False
        self.in_flight = 0
        self.moved = asyncio.Event()
        """Set whenever something has landed."""

    def end(self) -> None:
        """The connection is over."""
        self._over = True

    def wait_s(self) -> float:
        """Say how long the rate makes the next publish wait."""
        return self._bucket.wait_s(self._now_s())

    def has_room(self, *, backlog: bool = False) -> bool:
        """Say whether the window has room for a publish."""
        free = self.in_flight < self._window.open
        return free and (not backlog or self._backlog < self._window.backlog)

    async def publish(
        self, messages: Iterator[Message], good: tuple[int, ...], done: Callable[[Parcel], None], *, backlog: bool
    ) -> None:
        """Publish what a block makes; `done` hears when all of it has ended. Once something failed, no more is sent."""
        parcel = Parcel(lambda: done(parcel), good, self._now_s())
        try:
            for message in messages:
                await self._room()
                if parcel.failed or not self._fits(message, parcel):
                    break
                self._post(message, parcel, backlog=backlog)
        except CannotTell as error:
            _log.error("block-untold", reason=error.reason, detail=error.detail)
            parcel.unfit = error.reason
        parcel.close()

    async def retain(self, message: Message) -> None:
        """Publish a definition; one that does not fit is left out: it stands in the stream's own blocks too."""
        if not self._session.fits(message):
            self._tell_too_large(message)
            return
        await self._room()
        self._spend(message)
        self._answers.retained(message).add_done_callback(lambda _: self._landed(backlog=False))

    async def _room(self) -> None:
        """Wait until window and rate have room for one more publish; let others have their turn in any case."""
        await asyncio.sleep(self.wait_s())
        while not self.has_room():
            self.moved.clear()
            await self.moved.wait()

    def _fits(self, message: Message, parcel: Parcel) -> bool:
        if self._session.fits(message):
            return True
        self._tell_too_large(message)
        parcel.unfit = TOO_LARGE
        return False

    def _tell_too_large(self, message: Message) -> None:
        self._answers.too_large(message.topic, message.size, self._session.max_packet or 0)

    def _post(self, message: Message, parcel: Parcel, *, backlog: bool) -> None:
        self._backlog += backlog
        self._spend(message)
        sent_s = self._now_s()
        full = not self.has_room(backlog=backlog)
        answer = self._session.publish(message)
        answer.add_done_callback(lambda answer: self._answered(answer, parcel, sent_s, backlog=backlog, full=full))
        parcel.post(message.topic, answer)

    def _spend(self, message: Message) -> None:
        self.in_flight += 1
        self._health.bytes_sent += len(message.payload)
        self._bucket.spend(len(message.payload))

    def _answered(
        self, answer: asyncio.Future[int], parcel: Parcel, sent_s: float, *, backlog: bool, full: bool
    ) -> None:
        """One publish has ended: the window learns from what succeeded."""
        now_s = self._now_s()
        if parcel.is_good(answer):
            self._window.acknowledged(now_s - sent_s, now_s, full=full)
        self._landed(backlog=backlog)

    def _landed(self, *, backlog: bool) -> None:
        if not self._over:
            self.in_flight -= 1
            self._backlog -= backlog
            self.moved.set()
