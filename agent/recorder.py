"""The recorder: gathers frames, changes and events, and has them sealed and committed at every interval.

What is always true here:

- Frames, changes and events are gathered (`agent.gathering`) while what came before is sealed in the owner's thread.
- Uplinks learn of a block after its commit and never before (B3).
- What could not be committed is kept in order and tried again. Where that goes on for some seconds, it is sealed in
  memory instead (`agent.volatile`), and uplinks learn of it as of any block; the store is tried again, later each
  time, and adopts what there was room for. What there was not is named by an event `lost`.
- What was acknowledged of blocks in memory is written in the commit that adopts them, and never before.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.gathering import Gathering
from agent.health import Health
from agent.keeper import Keeper
from agent.kept import AckKey, Definition, Kept, Reading, Turn
from agent.log import Log
from agent.owner import Owner
from agent.schedule import Seals
from agent.volatile import Lost, Outage, Ring
from buffer.changes import Account, Loss
from buffer.errors import BufferFault, CommitFailed
from buffer.frame import Change, Event, EventData, Frame
from buffer.intervals import Intervals
from buffer.seal import Batch, Moment
from drivers.api import Clock, Group

NS_PER_S = 10**9
RECENT_BYTES = 500_000
TIDY_AT_BYTES = 32_768
"""After so much housekeeping looks at the room that is left, however soon; else with every turn."""
TURN_NS = 5 * NS_PER_S
"""However long the interval, the loop turns this often, so that the watchdog sees it live."""

TOLD = "#told"
"""Behind an uplink's name: under it is kept which of its blocks the logbook was told of. No uplink is called so."""

Listener = Callable[[Sequence[Kept]], None]

_log = Log("recorder")


class Recorder:
    """The way in for frames and the way to committed blocks. Everything here runs in the event loop."""

    def __init__(
        self,
        keeper: Keeper,
        owner: Owner,
        clock: Clock,
        health: Health,
        *,
        streams: Iterable[str],
        seal_every_ns: int,
        new_event_id: Callable[[], bytes],
    ) -> None:
        self._keeper = keeper
        self._owner = owner
        self.clock = clock
        self._health = health
        self._new_event_id = new_event_id
        self._gathering = Gathering(clock, streams, new_event_id)
        self._stop = asyncio.Event()
        self._urgent, self._roomy = self._gathering.urgent, self._gathering.roomy
        self.polling = Seals(seal_every_ns, clock.boot_ns, self._urgent.set)
        """A poll is made `with` it: what all polls of one moment bring is sealed when the last of them has ended."""
        self._settled: dict[AckKey, Intervals] = {}
        self._unwritten: set[AckKey] = set()
        self._recent: OrderedDict[tuple[str, int], Kept] = OrderedDict()
        self._recent_bytes = 0
        self._tidied_ns, self._untidied = -TURN_NS, 0
        self._ring = Ring()
        self._outage = Outage()
        self.listeners: list[Listener] = []
        self.turns = 0
        """Grows with every turn of the sealing loop: the progress that feeds the watchdog."""

    # -- the way in ------------------------------------------------------------------------------------------------

    async def room(self) -> None:
        """Wait while too many readings wait for a commit."""
        await self._roomy.wait()

    def add(self, group: Group, frame: Frame) -> None:
        """Take one frame of a group."""
        self._gathering.add(group, frame)

    def add_changes(self, group: Group, changes: Sequence[Change]) -> None:
        """Take changes of a group, in order of arrival."""
        self._gathering.add_changes(group, changes)

    def missed(self, stream: str, ticks: int) -> None:
        """Count ticks that could not be served."""
        self._gathering.missed(stream, ticks)

    def event(
        self, kind: str, *, streams: Iterable[str] | None = None, urgent: bool = False, **data: EventData
    ) -> None:
        """Enter an event in the streams it concerns: by default in all. Its data begin with its subject."""
        self._gathering.event(kind, data, streams, urgent=urgent)

    # -- the way out -----------------------------------------------------------------------------------------------

    def recent(self, stream: str, position: int) -> Kept | None:
        """Give a block committed lately, or sealed in memory, if it is still there."""
        return self._recent.get((stream, position)) or self._ring.get(stream, position)

    async def read(self, stream: str, first: int, last: int, max_bytes: int) -> Reading:
        """Read blocks, committed ones first; at least one is found, whole or not, however small `max_bytes`.

        Nothing is found of a commit of which it is not known yet whether it failed.
        """
        if first > (head := self.head(stream)):
            return self._ring.read(stream, first, last, max_bytes)
        return await self._owner.call(lambda: self._keeper.read(stream, first, min(last, head), max_bytes))

    async def definition(self, digest: bytes) -> Definition:
        """Give a catalogue's bytes and the bytes of each layout it lists, by id."""
        return await self._owner.call(lambda: self._keeper.definition(digest))

    @property
    def has_history(self) -> bool:
        """Say whether the store held blocks when it was opened, or holds some now."""
        return any(ledger.head for ledger in self._health.streams.values())

    def head(self, stream: str) -> int:
        """Give the position of a stream's last committed block, 0 where there is none."""
        return self._health.streams[stream].head

    def moment(self) -> Moment:
        """Take all clocks at once, as for the header of a block."""
        return self._keeper.moment()

    @property
    def epoch(self) -> bytes:
        """The epoch of the store as it is open now."""
        return self._keeper.epoch

    def settled(self, uplink: str, stream: str) -> Intervals:
        """Give the positions that an uplink has acknowledged. It grows through `settle` only."""
        return self._settled[uplink, stream]

    def settle(self, uplink: str, stream: str, position: int) -> None:
        """Note that every publish made from a block has succeeded; it is written with the next commit."""
        self.settle_range(uplink, stream, position, position)

    def settle_range(self, uplink: str, stream: str, first: int, last: int) -> None:
        """Note positions that are no longer an uplink's concern, both ends included."""
        self._settled[uplink, stream].add_range(first, last)
        self._unwritten.add((uplink, stream))

    async def rotate_key(self) -> None:
        """Put a new device key in force. Raises what the keeper raises."""
        self._committed(await self._owner.call(self._keeper.rotate))

    def told(self, uplink: str, stream: str, position: int) -> bool:
        """Say whether the logbook was told of an uplink's trouble with a block; it counts as told from now on."""
        key = (uplink + TOLD, stream)
        known = position in self._settled[key]
        self._settled[key].add(position)
        self._unwritten.add(key)
        return known

    # -- sealing ---------------------------------------------------------------------------------------------------

    async def open(self, uplinks: Iterable[str]) -> None:
        """Open the buffer and learn what each uplink has acknowledged. Raises what the store raises."""
        self._settled = await self._owner.call(lambda: self._keeper.open(_kept_under(uplinks)))
        self._gathering.begin()
        self._note_ledger()

    async def admit(self, uplinks: Iterable[str], streams: Iterable[str]) -> None:
        """Learn what uplinks and streams that come anew have been settled before. Raises what the store raises."""
        found = await self._owner.call(lambda: self._keeper.acknowledged(_kept_under(uplinks), streams))
        self._settled = {**found, **self._settled}

    async def turn(self, turn: Turn, seal_every_ns: int) -> None:
        """Seal what was gathered; from then on positions mean what the new catalogues say.

        What fills frames of a layout that goes must have stopped, and of one that comes must not have begun.
        """
        self._gathering.tell_all_merged()
        self._gathering.close_batches()
        self._urgent.set()
        while self._gathering.oldest is not None:  # noqa: ASYNC110 - once a reload, and for a commit at most
            await asyncio.sleep(0.01)
        await self._owner.call(lambda: self._keeper.turn(turn))
        self._gathering.turn(turn.catalogues)
        self.polling.every_ns = seal_every_ns
        self._urgent.set()
        self._note_ledger()

    async def run(self) -> None:
        """Seal at every interval until `stop`, then once more."""
        while not self._stop.is_set():
            if await self._seal():
                await self._tidy()
                await self._until_next_seal()
            else:
                await self._until(self._stop, (self._outage.next_ns - self.clock.boot_ns()) / NS_PER_S)
        self._gathering.tell_all_merged()
        if not await self._seal() or self._health.volatile:
            because = "the buffer cannot be written"
            _log.error("readings-lost", unsealed=self._gathering.unsealed, in_memory=len(self._ring), because=because)

    def stop(self) -> None:
        """Ask `run` to seal what there is and return."""
        self._stop.set()
        self._urgent.set()

    async def close(self) -> None:
        """Write the last acknowledgements and close the store. `run` must have returned."""
        if self._unwritten and not self._health.volatile:
            await self._commit({})
        await self._owner.call(self._keeper.close)
        self._owner.end()

    async def _until_next_seal(self) -> None:
        until_ns = self.polling.latest_ns
        if self._health.volatile:
            until_ns = min(until_ns, self._outage.next_ns)
        while (wait_ns := until_ns - self.clock.boot_ns()) > 0 and not self._urgent.is_set():
            self.turns += 1
            await self._until(self._urgent, min(wait_ns, TURN_NS) / NS_PER_S)
            if wait_ns > TURN_NS:
                await self._tidy()

    async def _tidy(self) -> None:
        """Have housekeeping plan what is due, where it is time; it is done with the next commit."""
        now_ns = self.clock.boot_ns()
        if now_ns < self._tidied_ns + TURN_NS and self._untidied < TIDY_AT_BYTES and not self._keeper.restless:
            return
        self._tidied_ns, self._untidied = now_ns, 0
        with contextlib.suppress(BufferFault):  # the next commit meets the same, and tells of it
            await self._owner.call(self._keeper.tidy)
        if (alarm := self._keeper.alarm) is not None and self._health.buffer_alarm is None:
            _log.error("buffer-alarm", code=alarm[0], **alarm[1])
        self._health.buffer_alarm, self._health.buffer = alarm, self._keeper.buffer

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event for so long; unlike `wait_for`, this never swallows a cancellation."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def _seal(self) -> bool:
        """Seal all that waits, oldest first, and commit it, or keep it in memory. Gives False where it must wait."""
        self.turns += 1
        if not self._stop.is_set():
            self._urgent.clear()
        self.polling.sealed()
        self._gathering.tell_merged()
        self._gathering.close_batches()
        if self._health.volatile and not await self._heal():
            await self._seal_in_memory()
        while (batches := self._gathering.oldest) is not None:
            if await self._commit(batches):
                self._gathering.done_with_oldest()
            elif self._may_go_on():
                await self._become_volatile()
            else:
                return False
        return True

    def _may_go_on(self) -> bool:
        """Say whether it is time to seal in memory: not before it is known which key is in force."""
        long = self._outage.lasts(self.clock.boot_ns()) or not self._roomy.is_set()
        return long and not self._keeper.rotation_in_doubt

    async def _commit(self, batches: dict[str, Batch]) -> bool:
        written = {key: self._settled[key].copy() for key in self._unwritten}
        self._unwritten.clear()
        try:
            kept = await self._owner.call(lambda: self._keeper.seal(batches, written))
        except CommitFailed as error:
            self._commit_failed(error, written)
            return False
        self._committed(kept)
        return True

    def _commit_failed(self, error: CommitFailed, written: Iterable[AckKey]) -> None:
        if self._health.buffer_error is None:
            _log.error("commit-failed", error=error)
        self._unwritten.update(written)
        self._health.buffer_error = (error.code, error.fields)
        self._outage.failed(self.clock.boot_ns())

    def _committed(self, kept: Sequence[Kept]) -> None:
        if self._health.buffer_error is not None:
            _log.info("commit-works-again")
            self._health.buffer_error = None
            self._outage.over()
        for one in kept:
            self._recent[one.stream, one.position] = one
            self._recent_bytes += one.block.size
            self._untidied += one.block.size
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= self._recent.popitem(last=False)[1].block.size
        self._note_ledger()
        self._announce(kept)

    def _announce(self, kept: Sequence[Kept]) -> None:
        for listener in self.listeners:
            listener(kept)

    # -- without a disk --------------------------------------------------------------------------------------------

    async def _become_volatile(self) -> None:
        assert self._health.buffer_error is not None
        code, fields = self._health.buffer_error
        _log.error("sealing-in-memory", code=code, **fields)
        self._health.volatile = True
        self.event("buffer-failed", code=code, reason=str(fields.get("reason", "")), urgent=True)
        self._gathering.close_batches()
        await self._seal_in_memory()

    async def _seal_in_memory(self) -> None:
        """Seal all that waits, oldest first, into the ring."""
        while (batches := self._gathering.oldest) is not None:
            await self._hold(batches)
            self._gathering.done_with_oldest()

    async def _hold(self, batches: dict[str, Batch]) -> None:
        kept = await self._owner.call(lambda: self._keeper.seal_volatile(batches))
        self._ring.add(kept, self._delivered)
        self._note_ledger()
        self._announce(kept)

    def _delivered(self, stream: str, position: int) -> bool:
        carriers = self._keeper.carriers_of(stream)
        return bool(carriers) and all(position in self._settled[uplink, stream] for uplink in carriers)

    async def _heal(self) -> bool:
        """Try, when it is time, to have the store adopt what is in memory."""
        if not self._stop.is_set() and self.clock.boot_ns() < self._outage.next_ns:
            return False
        written = {key: self._settled[key].copy() for key in self._unwritten}
        try:
            lost = self._ring.take_lost(await self._owner.call(self._keeper.reach))
            if lost:
                await self._name(lost)
            kept = await self._adopt(written)
        except CommitFailed as error:
            self._commit_failed(error, ())
            return False
        self._unwritten.difference_update(key for key in written if self._settled[key] == written[key])
        self._healed(kept)
        return True

    async def _adopt(self, written: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        held = self._ring.held()
        try:
            return await self._owner.call(lambda: self._keeper.adopt(held, written))
        except CommitFailed:
            self._ring.tried()
            raise

    async def _name(self, lost: dict[str, Lost]) -> None:
        """Seal what says which blocks are lost, behind all that is in memory."""
        batches = {stream: self._naming(stream, run) for stream, run in lost.items()}
        kept = await self._owner.call(lambda: self._keeper.seal_volatile(batches))
        self._ring.add_naming(kept, lost)
        self._note_ledger()
        self._announce(kept)

    def _naming(self, stream: str, lost: Lost) -> Batch:
        """Give the event that names blocks for which there was no room; the store counts them where it adopts."""
        kind, data = Loss(Account(stream, *lost)).told()
        return Batch(events=[Event(kind, self.clock.boot_ns(), self._new_event_id(), data)])

    def _healed(self, kept: Sequence[Kept]) -> None:
        self._health.volatile = False
        self.event("buffer-back", adopted=len(self._ring) + len(kept), urgent=True)
        self._ring.clear()
        self._committed(kept)

    def _note_ledger(self) -> None:
        self._health.streams = self._keeper.ledgers
        self._health.clock = self._keeper.clock
        gone = {stream: positions.count() for stream, positions in self._ring.gone.items()}
        self._health.ring = {"blocks": len(self._ring), "bytes": self._ring.size, "lost": gone}


def _kept_under(uplinks: Iterable[str]) -> tuple[str, ...]:
    """Give the names under which something is kept of these uplinks."""
    return tuple(name for uplink in uplinks for name in (uplink, uplink + TOLD))
