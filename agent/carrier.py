"""A carrier: what one uplink has under way over one connection.

What is always true here:

- In flight are at most the window's publishes and those of one block more, whatever the backlog, so memory does not
  grow with it.
- A block is acknowledged by the success of every publish made from it and by nothing else (B4); where the platform
  confirms, by its word too. Any reason code other than 0x00 leaves it pending, is reported, and stops its stream for a
  while that grows; 0x10 may count as success by setting. Nothing is skipped.
- The layouts and the catalogue that a block needs go before it, once a session, where its format has them read there.
- A block may make many publishes, or none. What its format holds back stays pending and is asked for again once its
  time is known; what it skips is set aside with a reason.
- What is larger than the server's Maximum Packet Size is never sent: a block is parked and entered in the logbook once,
  unless it is a piece of the logbook and no more.
- When the connection ends, all that was in flight is pending again; what is said of it later is ignored.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from agent.broker import NO_MATCHING_SUBSCRIBERS, Message, Session
from agent.confirm import Ack, Unconfirmed, Unfit
from agent.dispatch import TOO_LARGE, Answers, Dispatch
from agent.formats.api import Hold, Skip
from agent.formats.teller import Encoding
from agent.health import UplinkHealth
from agent.kept import Kept, Reading
from agent.lanes import Lanes
from agent.log import Log
from agent.pacing import REFUSED_PAUSES_S, UNHEARD_PAUSES_S, Brakes, Bucket, Window
from agent.parcel import Held, Parcel
from agent.recorder import Recorder
from agent.seek import block_of
from agent.start import OLDEST, Start
from buffer.block import read_header
from buffer.errors import BufferFault

NS_PER_S = 10**9
UNREADABLE_PAUSE_S = 2.0
SHORTEST_WAIT_S = 0.02
READ_BLOCKS = 32
READ_BLOCKS_NEWEST = 8
"""Few enough that those of ordinary size fit into one reading: a reading begins at its oldest."""
READ_BYTES = 512_000

_log = Log("carrier")


@dataclass(frozen=True, slots=True)
class Carriage:
    """What an uplink carries and how. `root` is the gateway's topic root, `trambien/v1/<gateway>`."""

    name: str
    root: str
    streams: tuple[str, ...]
    encoding: Encoding
    newest_first: bool = False
    share_percent: int = 75
    max_rate: int | None = None
    """Bytes a second."""
    unheard_counts: bool = False
    """Whether a block that nobody is subscribed to counts as delivered."""
    confirm_within_s: float | None = None
    """How long the platform may take to confirm; None where the broker's word is enough."""
    resend: bool = False
    """Whether the platform may ask for blocks again."""
    start: Start = OLDEST


@dataclass(slots=True)
class Memory:
    """What an uplink remembers over its connections."""

    lanes: Lanes
    bucket: Bucket
    brakes: Brakes
    unconfirmed: Unconfirmed | None
    max_packet: int | None = None
    """What the server of the last session took."""


class Carrier:
    """Carries blocks over one session until it ends."""

    def __init__(
        self,
        carriage: Carriage,
        session: Session,
        memory: Memory,
        recorder: Recorder,
        health: UplinkHealth,
        answers: Answers,
    ) -> None:
        self._carriage = carriage
        self._lanes = memory.lanes
        self._brakes = memory.brakes
        self._unconfirmed = memory.unconfirmed
        self._recorder = recorder
        self._health = health
        self._answers = answers
        self._now_s = asyncio.get_running_loop().time
        self._loaded: deque[Kept] = deque()
        window = Window(session.window, carriage.share_percent)
        self._dispatch = Dispatch(session, window, memory.bucket, health, answers)
        self._moved = self._dispatch.moved
        self._good = (0, NO_MATCHING_SUBSCRIBERS) if carriage.unheard_counts else (0,)
        self._teller = carriage.encoding.begin()
        self._held = Held()
        self._unreadable_s = 0.0
        self._defined: set[bytes] = set()
        self._leaving = False
        self._over = False
        self._try_parked(memory, session.max_packet)

    def _try_parked(self, memory: Memory, max_packet: int | None) -> None:
        """Make pending again what was too large for another server, or for this one as it was."""
        most, memory.max_packet = memory.max_packet, max_packet
        if most is not None and (memory.max_packet is None or memory.max_packet > most):
            for stream, blocks in self._lanes.unpark(TOO_LARGE).items():
                self._health.regain(stream, TOO_LARGE, blocks)

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._moved.set()

    async def run(self) -> NoReturn:
        """Send what is pending, fresh first, as the window, the rate and the brakes allow."""
        while True:
            self._moved.clear()
            self._remind()
            for stream, position in self._held.release(self._teller.waits):
                self._lanes.give_back(stream, position)
            if not await self._send_next():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s()):
                        await self._moved.wait()

    def end(self) -> None:
        """The session is over: everything under way is pending again."""
        self._over = True
        self._dispatch.end()
        self._lanes.give_back_all()
        self._brakes.untried()

    async def leave(self) -> None:
        """Send nothing new, and wait until what is under way has landed."""
        self._leaving = True
        while self._dispatch.in_flight:  # noqa: ASYNC110 - once, before a connection is renewed
            await asyncio.sleep(0.02)

    async def repeat(self, kept: Kept) -> bool:
        """Send a block again, beside everything else and without touching a cursor; say whether it succeeded."""
        while self._leaving or self._dispatch.wait_s() or not self._dispatch.has_room():  # noqa: ASYNC110 - fresh blocks would take every wake-up
            await asyncio.sleep(max(SHORTEST_WAIT_S, self._dispatch.wait_s()))
        await self._define(kept.catalogue)
        answer = self._teller.tell(kept)
        if isinstance(answer, Hold | Skip):
            return False
        landed: asyncio.Future[Parcel] = asyncio.get_running_loop().create_future()
        await self._dispatch.publish(answer, self._good, landed.set_result, backlog=False)
        parcel = await landed
        if parcel.failed:
            self._teller.forget()
        return parcel.posted > 0 and not parcel.failed and parcel.unfit is None

    async def confirm(self, ack: Ack) -> None:
        """Obey the platform's word. Raises Unfit, and has then changed nothing."""
        if self._unconfirmed is None or ack.stream not in self._carriage.streams:
            raise Unfit("unknown-stream")
        known = self._unconfirmed.digest(ack) or await self._stored_digest(ack)
        if known != ack.digest:
            raise Unfit("wrong-digest" if known else "unknown-block")
        verdict = self._unconfirmed.take(ack)
        for position in verdict.confirmed:
            self._settle(ack.stream, position)
        for position in verdict.missing:
            self._lanes.give_back(ack.stream, position)
        self.wake()

    async def _stored_digest(self, ack: Ack) -> bytes | None:
        """Give the digest of a block confirmed before, or sent before a restart."""
        try:
            kept = await block_of(self._recorder.read, ack.stream, self._recorder.head(ack.stream), ack.up_to)
        except BufferFault:
            return None
        if kept is None or read_header(kept.block.envelope).epoch != ack.epoch:
            return None
        return kept.block.digest

    # -- choosing --------------------------------------------------------------------------------------------------

    async def _send_next(self) -> bool:
        """Send the block whose turn it is; say whether there was one."""
        now_s = self._now_s()
        if self._leaving or now_s < self._unreadable_s or self._dispatch.wait_s() or not self._dispatch.has_room():
            return False
        if self._unconfirmed is not None and not self._unconfirmed.room(self._dispatch.in_flight):
            return False
        if fresh := await self._next_fresh():
            await self._send(fresh, backlog=False)
            return True
        if self._dispatch.has_room(backlog=True) and (kept := await self._next_of_backlog()):
            await self._send(kept, backlog=True)
            return True
        return False

    async def _next_fresh(self) -> Kept | None:
        taken = self._lanes.take_fresh(self._brakes.stopped(self._now_s()))
        if taken is None:
            return None
        if kept := self._recorder.recent(*taken):
            return kept
        return next(iter(await self._load(taken[0], range(taken[1], taken[1] + 1))), None)

    async def _next_of_backlog(self) -> Kept | None:
        stopped = self._brakes.stopped(self._now_s())
        for kept in tuple(self._loaded):
            if kept.stream in stopped:
                self._loaded.remove(kept)
                self._lanes.give_back(kept.stream, kept.position)
        most = READ_BLOCKS_NEWEST if self._lanes.newest_first else READ_BLOCKS
        if not self._loaded and (run := self._lanes.take_backlog(most, stopped)):
            blocks = await self._load(*run)
            self._loaded.extend(reversed(blocks) if self._lanes.newest_first else blocks)
        return self._loaded.popleft() if self._loaded else None

    async def _load(self, stream: str, run: range) -> Sequence[Kept]:
        """Read a run of blocks taken from the lanes; park what is damaged, give back what did not fit."""
        try:
            reading = await self._recorder.read(stream, run[0], run[-1], READ_BYTES)
        except BufferFault:  # told by the recorder; the store is opened again with the next commit
            self._unreadable_s = self._now_s() + UNREADABLE_PAUSE_S
            reading = Reading((), ())
        for position in reading.damaged:
            self._park(stream, position, "damaged")
        gone = {at: one.reason for one in reading.gone for at in range(one.first, one.last + 1)}
        for position, reason in gone.items():  # an event of its own names them
            self._lanes.park(stream, position, reason)
            self._health.lose(stream, reason)
        if reading.damaged or gone:  # what stands behind them has its turn at once
            self.wake()
        known = {*reading.damaged, *gone, *(kept.position for kept in reading.blocks)}
        for position in set(run) - known:
            self._lanes.give_back(stream, position)
        return reading.blocks

    def _remind(self) -> None:
        """Make pending again what the platform did not confirm in time."""
        if self._unconfirmed is None or not (late := self._unconfirmed.overdue(self._now_s())):
            return
        for stream, position in late:
            self._lanes.give_back(stream, position)
        self._answers.unconfirmed(len(late))

    def _wait_s(self) -> float | None:
        """Say when something may change without anybody waking us."""
        now_s = self._now_s()
        waits = [
            self._dispatch.wait_s() or None,
            self._unreadable_s - now_s if self._unreadable_s > now_s else None,
            self._brakes.wait_s(now_s),
            self._unconfirmed.wait_s(now_s) if self._unconfirmed is not None else None,
        ]
        soonest = min((wait_s for wait_s in waits if wait_s is not None), default=None)
        return None if soonest is None else max(SHORTEST_WAIT_S, soonest)

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, kept: Kept, *, backlog: bool) -> None:
        if kept.position in self._recorder.settled(self._carriage.name, kept.stream):  # confirmed since it was taken
            self._lanes.settle(kept.stream, kept.position)
            return
        try:
            await self._define(kept.catalogue)
        except BufferFault:
            self._unreadable_s = self._now_s() + UNREADABLE_PAUSE_S
            self._lanes.give_back(kept.stream, kept.position)
            return
        answer = self._teller.tell(kept)
        if isinstance(answer, Hold):
            self._held.add(answer, kept.stream, kept.position)
        elif isinstance(answer, Skip):
            self._skip(kept, answer.reason)
        else:
            self._brakes.sent(kept.stream)
            done = partial(self._answered, kept, backlog=backlog)
            await self._dispatch.publish(answer, self._good, done, backlog=backlog)

    def _skip(self, kept: Kept, reason: str) -> None:
        """Set aside what its format cannot tell. Many may follow each other, so they are one event a minute."""
        self._lanes.park(kept.stream, kept.position, reason)
        self._health.lose(kept.stream, reason)
        what = f"{self._carriage.name}/{kept.stream}"
        self._recorder.event("blocks-skipped", streams=(kept.stream,), of=what, reason=reason, last=kept.position)

    def _park(self, stream: str, position: int, reason: str, *, quiet: bool = False) -> None:
        """Set aside what cannot be carried, and say so: in `status`, and once in the logbook and the log.

        Where the logbook alone cannot be carried it is not told: the word of it would be one more block like that.
        """
        self._lanes.park(stream, position, reason)
        self._health.lose(stream, reason)
        if self._recorder.told(self._carriage.name, stream, position):
            return
        _log.error("block-parked", uplink=self._carriage.name, stream=stream, position=position, reason=reason)
        if not quiet:
            block = f"{self._carriage.name}/{stream}/{position}"
            self._recorder.event("block-parked", streams=(stream,), block=block, reason=reason)

    async def _define(self, digest: bytes) -> None:
        """Publish, retained, the layouts and the catalogue that a block names, unless this session already has.

        A format that opens blocks is given them instead.
        """
        if digest in self._defined or not self._teller.needs(digest):
            return
        definition = catalogue, layouts = await self._recorder.definition(digest)
        self._teller.learn(digest, definition)
        if not self._teller.defines:
            return
        for layout_id, encoded in layouts.items():
            await self._define_one("layout", layout_id, encoded)
        await self._define_one("catalogue", digest, catalogue)

    async def _define_one(self, kind: str, digest: bytes, encoded: bytes) -> None:
        if digest not in self._defined:
            self._defined.add(digest)
            await self._dispatch.retain(Message(f"{self._carriage.root}/{kind}/{digest.hex()}", encoded, retain=True))

    # -- what became of it -----------------------------------------------------------------------------------------

    def _answered(self, kept: Kept, parcel: Parcel, *, backlog: bool) -> None:
        """Every publish made from a block has ended: acknowledge it, set it aside, or make it pending again."""
        if self._over:
            return
        now_s = self._now_s()
        if parcel.failed:
            self._teller.forget()
            self._lanes.give_back(kept.stream, kept.position)
            self._refuse(kept.stream, parcel, now_s)
        elif parcel.unfit is not None:
            self._brakes.untried(kept.stream)
            self._park(kept.stream, kept.position, parcel.unfit, quiet=not read_header(kept.block.envelope).readings)
        elif parcel.posted:
            self._brakes.release(kept.stream)
            trip_ns, now_ns = int((now_s - parcel.sent_s) * NS_PER_S), self._recorder.clock.boot_ns()
            self._health.quality.acknowledged(now_ns, trip_ns, kept.block.size, backlog=backlog)
            self._delivered(kept, now_s)
        else:
            self._brakes.untried(kept.stream)
            self._nothing_to_tell(kept)
        self.wake()

    def _nothing_to_tell(self, kept: Kept) -> None:
        """Note success without a word: it proves nothing of the broker, so its last refusal stands."""
        refusal = self._health.refusal
        self._settle(kept.stream, kept.position)
        self._health.refusal = refusal

    def _delivered(self, kept: Kept, now_s: float) -> None:
        """The broker has it: that is all, or the platform's word is waited for."""
        confirmed = kept.position in self._recorder.settled(self._carriage.name, kept.stream)
        if self._unconfirmed is None or confirmed:  # the word for an earlier sending may have come meanwhile
            self._settle(kept.stream, kept.position)
        else:
            header = read_header(kept.block.envelope)
            self._lanes.land(kept.stream, kept.position)
            self._unconfirmed.land(kept.stream, kept.position, header, kept.block.digest, now_s)

    def _settle(self, stream: str, position: int) -> None:
        if position not in self._recorder.settled(self._carriage.name, stream):
            self._recorder.settle(self._carriage.name, stream, position)
            self._health.acknowledge(stream)
        self._lanes.settle(stream, position)

    def _refuse(self, stream: str, parcel: Parcel, now_s: float) -> None:
        """Stop the stream for a while and say why; nothing where it was the connection that failed."""
        if not parcel.refusals:
            return
        code = parcel.refusals[0]
        pauses_s = UNHEARD_PAUSES_S if code == NO_MATCHING_SUBSCRIBERS else REFUSED_PAUSES_S
        self._brakes.refuse(stream, pauses_s, now_s)
        self._answers.refused(parcel.topic, code)
