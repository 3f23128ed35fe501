"""A carrier: what one uplink has under way over one connection.

What is always true here:

- In flight are at most `window` publishes, whatever the backlog, so memory does not grow with it.
- A block is acknowledged by the success of every publish made from it and by nothing else (B4). Any reason code other
  than 0x00 leaves it pending, is reported, and makes the carrier pause, longer each time; nothing is skipped.
- The layouts and the catalogue that a block needs go before it, once a session.
- When the connection ends, all that was in flight is pending again; what is said of it later is ignored.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from agent.broker import NO_MATCHING_SUBSCRIBERS, Message, Session
from agent.formats import Format
from agent.health import UplinkHealth
from agent.keeper import Kept, Reading
from agent.lanes import Lanes
from agent.log import Log
from agent.recorder import Recorder
from buffer.errors import BufferFault

REFUSED_PAUSES_S = (2.0, 5.0, 15.0, 60.0)
UNHEARD_PAUSES_S = (2.0, 5.0)
"""Nobody is subscribed yet: whoever comes should not wait long."""
UNREADABLE_PAUSE_S = 2.0
PACKET_HEAD = 16
"""What a PUBLISH is at most larger than its topic and payload (MQTT 5, 3.3)."""
RESERVED = 2
"""Of the server's Receive Maximum, what `online` and `state` may take."""

_log = Log("carrier")
READ_BLOCKS = 32
READ_BYTES = 512_000


@dataclass(frozen=True, slots=True)
class Carriage:
    """What an uplink carries and how. `root` is the gateway's topic root, `trambien/v1/<gateway>`."""

    name: str
    root: str
    streams: tuple[str, ...]
    format: Format


@dataclass(frozen=True, slots=True)
class Answers:
    """The uplink's ears: `refused` hears of a topic and its reason code; `retained` publishes and judges by itself."""

    refused: Callable[[str, int], None]
    retained: Callable[[Message], asyncio.Future[int]]
    too_large: Callable[[str, int, int], None]


class Carrier:
    """Carries blocks over one session until it ends."""

    def __init__(
        self,
        carriage: Carriage,
        session: Session,
        lanes: Lanes,
        recorder: Recorder,
        health: UplinkHealth,
        answers: Answers,
    ) -> None:
        self._carriage = carriage
        self._session = session
        self._lanes = lanes
        self._recorder = recorder
        self._health = health
        self._answers = answers
        self._loaded: deque[Kept] = deque()
        self._in_flight = 0
        self._window = max(1, session.window - RESERVED)
        self._refusals = 0
        self._hold_s = 0.0
        self._defined: set[bytes] = set()
        self._over = False
        self._moved = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._moved.set()

    async def run(self) -> NoReturn:
        """Send what is pending, fresh first, as the window allows."""
        while True:
            self._moved.clear()
            if self._hold_s:
                hold_s, self._hold_s = self._hold_s, 0.0
                await asyncio.sleep(hold_s)
            elif self._in_flight < self._window and (kept := await self._next()) is not None:
                await self._send(kept)
            else:
                await self._moved.wait()

    def end(self) -> None:
        """The session is over: everything under way is pending again."""
        self._over = True
        self._lanes.give_back_all()

    async def _next(self) -> Kept | None:
        """Give the block to send now: a fresh one, else one of the backlog, else None."""
        if fresh := self._lanes.take_fresh():
            if kept := self._recorder.recent(*fresh):
                return kept
            await self._load(fresh[0], range(fresh[1], fresh[1] + 1))
        if not self._loaded and (run := self._lanes.take_backlog(READ_BLOCKS)):
            await self._load(*run)
        return self._loaded.popleft() if self._loaded else None

    async def _load(self, stream: str, run: range) -> None:
        """Read a run of blocks taken from the lanes; park what is damaged, give back what did not fit."""
        try:
            reading = await self._recorder.read(stream, run[0], run[-1], READ_BYTES)
        except BufferFault:  # told by the recorder; the store is opened again with the next commit
            self._hold_s = UNREADABLE_PAUSE_S
            reading = Reading((), ())
        for position in reading.damaged:
            self._park(stream, position, "damaged")
        for position in reading.gone:
            self._lanes.park(stream, position)
            self._health.lose(stream, "pruned")
        self._loaded.extend(reading.blocks)
        for position in set(run).difference(reading.damaged, reading.gone, (kept.position for kept in reading.blocks)):
            self._lanes.give_back(stream, position)

    async def _send(self, kept: Kept) -> None:
        try:
            await self._define(kept.catalogue)
        except BufferFault:
            self._hold_s = UNREADABLE_PAUSE_S
            self._lanes.give_back(kept.stream, kept.position)
            return
        messages = self._carriage.format(self._carriage.root, kept)
        largest = max(len(message.topic) + len(message.payload) + PACKET_HEAD for message in messages)
        if self._session.max_packet is not None and largest > self._session.max_packet:
            self._answers.too_large(messages[0].topic, largest, self._session.max_packet)
            self._park(kept.stream, kept.position, "too-large")
            return
        self._in_flight += len(messages)
        self._health.bytes_sent += sum(len(message.payload) for message in messages)
        publishes = [self._session.publish(message) for message in messages]
        topic = messages[0].topic
        answers = asyncio.gather(*publishes, return_exceptions=True)
        answers.add_done_callback(lambda done: self._answered(kept, topic, done.result()))

    def _park(self, stream: str, position: int, reason: str) -> None:
        """Set aside what cannot be carried, and say so: in the logbook, in the log, in `status`."""
        self._lanes.park(stream, position)
        self._health.lose(stream, reason)
        _log.error("block-parked", uplink=self._carriage.name, stream=stream, position=position, reason=reason)
        block = f"{self._carriage.name}/{stream}/{position}"
        self._recorder.event("block-parked", streams=(stream,), block=block, reason=reason)

    async def _define(self, digest: bytes) -> None:
        """Publish, retained, the layouts and the catalogue that a block names, unless this session already has."""
        if digest in self._defined:
            return
        catalogue, layouts = await self._recorder.definition(digest)
        for layout_id, encoded in layouts.items():
            if layout_id not in self._defined:
                await self._define_one("layout", layout_id, encoded)
        await self._define_one("catalogue", digest, catalogue)

    async def _define_one(self, kind: str, digest: bytes, encoded: bytes) -> None:
        while self._in_flight >= self._window:
            self._moved.clear()
            await self._moved.wait()
        self._in_flight += 1
        message = Message(f"{self._carriage.root}/{kind}/{digest.hex()}", encoded, retain=True)
        self._answers.retained(message).add_done_callback(lambda _: self._landed())
        self._health.bytes_sent += len(encoded)
        self._defined.add(digest)

    def _landed(self) -> None:
        if not self._over:
            self._in_flight -= 1
            self.wake()

    def _answered(self, kept: Kept, topic: str, results: Sequence[int | BaseException]) -> None:
        """Every publish made from a block has ended: acknowledge it, or make it pending again."""
        if self._over:
            return
        self._in_flight -= len(results)
        codes = [code for code in results if isinstance(code, int)]
        if len(codes) == len(results) and not any(codes):
            self._refusals = 0
            self._recorder.settle(self._carriage.name, kept.stream, kept.position)
            self._lanes.settle(kept.stream, kept.position)
            self._health.acknowledge(kept.stream)
        else:
            self._lanes.give_back(kept.stream, kept.position)
            self._hold(topic, [code for code in codes if code])
        self.wake()

    def _hold(self, topic: str, refusals: Sequence[int]) -> None:
        if not refusals or self._hold_s:
            return
        pauses_s = UNHEARD_PAUSES_S if refusals[0] == NO_MATCHING_SUBSCRIBERS else REFUSED_PAUSES_S
        self._hold_s = pauses_s[min(self._refusals, len(pauses_s) - 1)]
        self._refusals += 1
        self._answers.refused(topic, refusals[0])
