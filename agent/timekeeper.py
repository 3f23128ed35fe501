"""The timekeeper: watches the clocks, believes what it has reason to, and enters what happened to time.

What is always true here:

- `Judge` is the rules, pure: it is shown looks at the clocks and evidence of their quality, and gives notices.
- Quality is `synchronised` while a source says so; `holdover` when none does any more but one did in this boot, and the
  clock was not set since (the error grows by 100 ppm of the time since); else `unsynchronised`, or `unknown` where no
  way to ask works. A process that starts in holdover does not know it and says `unsynchronised`.
- A step seals first: its event is committed, with the readings before it, under a header of the clock before it; only
  then may a header show the clock after it (`accept`). A clock that is set more often than once a minute is told of
  once a minute; until then headers carry on the clock before.
- Evidence that a daemon took before a step says nothing of the clock after it.
- While synchronised an anchor is entered every hour, at the first synchronisation, and at the end of a holdover one for
  the moment before it too (`clock-held`): a daemon may slew between the two, and a reader must see how far.
- The event loop's timers run on CLOCK_MONOTONIC, which no wall clock moves and which stops in suspend: what waits for
  boot time looks at it again every few seconds.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent import clock_sources
from agent.beat import beat
from agent.clock import Belief, Look, SystemClock, grown, stepped
from agent.clock_sources import Evidence
from agent.kept import Kept
from agent.log import Log
from agent.owner import in_daemon
from agent.recorder import Recorder
from agent.time_floor import TimeFloor
from buffer.block import ClockQuality, read_header
from buffer.frame import EventData

NS_PER_S = 10**9
LOOK_S = 5.0
ASK_NS = 60 * NS_PER_S
"""Daemons that must be spoken to are asked so often, and only while the kernel and timesyncd say nothing good."""
ANCHOR_NS = 3600 * NS_PER_S
QUIET_NS = 60 * NS_PER_S
SUSPEND_NS = NS_PER_S

_log = Log("time")


class Notice(NamedTuple):
    """What happened to time, as an event: its type, whether it seals at once, and its data."""

    kind: str
    urgent: bool
    data: dict[str, EventData]


class Judge:
    """The rules. Show it looks, take `belief`, call `accept` when the event of a step is committed."""

    def __init__(self, look: Look) -> None:
        self.belief = Belief(look.boot_ns, look.offset_ns, clock_sources.UNKNOWN)
        self._boot_not_awake_ns = look.boot_ns - look.monotonic_ns
        self._last = look
        self._best: Belief | None = None
        """When it was last synchronised, since the clock was last set."""
        self._anchored_ns: int | None = None
        self._pending: Look | None = None
        self._accepted_ns = look.boot_ns - QUIET_NS
        self._doubt_before_ns: int | None = None
        """Evidence from before this boot time is of another clock."""

    @property
    def pending(self) -> bool:
        """Say whether a step waits for its event to be committed."""
        return self._pending is not None

    def look(self, look: Look, evidence: Evidence) -> list[Notice]:
        """Judge what the clocks show now."""
        notices = self._slept(look)
        if self._pending is None and stepped(self.belief.offset_ns, look):
            if look.boot_ns - self._accepted_ns >= QUIET_NS:
                notices.append(self._step(look))
        elif self._pending is None:
            notices += self._quality(look, self._sound(look, evidence))
        self._last = look
        return notices

    def accept(self, boot_ns: int) -> None:
        """Let headers show the clock after the step: its event is committed."""
        assert self._pending is not None
        quality = "unknown" if self.belief.clock.quality == "unknown" else "unsynchronised"
        clock = ClockQuality(quality, None, self.belief.clock.source)
        self.belief = Belief(boot_ns, self._pending.offset_ns, clock)
        self._pending, self._best, self._accepted_ns = None, None, boot_ns

    def _slept(self, look: Look) -> list[Notice]:
        asleep_ns = look.boot_ns - look.monotonic_ns
        slept_ns, self._boot_not_awake_ns = asleep_ns - self._boot_not_awake_ns, asleep_ns
        if slept_ns < SUSPEND_NS:
            return []
        return [Notice("suspended", urgent=False, data={"slept_ns": slept_ns, "boot_ns": look.boot_ns})]

    def _step(self, look: Look) -> Notice:
        self._pending, self._doubt_before_ns = look, self._last.boot_ns
        before_ns = self.belief.offset_ns
        data: dict[str, EventData] = {
            "by_ns": look.offset_ns - before_ns,
            "boot_ns": look.boot_ns,
            "before_ns": before_ns,
            "after_ns": look.offset_ns,
        }
        return Notice("clock-stepped", urgent=True, data=data)

    def _sound(self, look: Look, evidence: Evidence) -> ClockQuality:
        """Pass over what a daemon said of the clock before it was set."""
        if evidence.taken_wall_ns is None or self._doubt_before_ns is None:
            return evidence.clock
        taken_boot_ns = evidence.taken_wall_ns - look.offset_ns
        if self._doubt_before_ns <= taken_boot_ns <= look.boot_ns + SUSPEND_NS:
            return evidence.clock
        return ClockQuality("unsynchronised", None, evidence.clock.source)

    def _quality(self, look: Look, clock: ClockQuality) -> list[Notice]:
        before = self.belief
        if clock.quality == "synchronised" and clock.max_error_ns is not None:
            self.belief = self._best = Belief(look.boot_ns, look.offset_ns, clock)
            return self._anchors(before, look, clock)
        if self._best is None:
            self.belief = Belief(look.boot_ns, before.offset_ns, clock)
            return []
        held = grown(self._best.clock, "holdover", look.boot_ns - self._best.boot_ns)
        self.belief = Belief(look.boot_ns, self._best.offset_ns, held)
        return [_anchor("clock-lost", look, held, urgent=False)] if before.clock.quality == "synchronised" else []

    def _anchors(self, before: Belief, look: Look, clock: ClockQuality) -> list[Notice]:
        """Give the anchors that are due: at a change, and every hour."""
        anchor = _anchor("clock-synchronised", look, clock, urgent=before.clock.quality != "synchronised")
        if before.clock.quality == "synchronised":
            if self._anchored_ns is not None and look.boot_ns - self._anchored_ns < ANCHOR_NS:
                return []
            self._anchored_ns = look.boot_ns
            return [anchor]
        self._anchored_ns = look.boot_ns
        if before.clock.quality != "holdover":
            return [anchor]
        last = self._last._replace(wall_ns=self._last.boot_ns + before.offset_ns)
        return [_anchor("clock-held", last, before.clock, urgent=False), anchor]


def _anchor(kind: str, look: Look, clock: ClockQuality, *, urgent: bool) -> Notice:
    data: dict[str, EventData] = {
        "source": clock.source,
        "boot_ns": look.boot_ns,
        "wall_ns": look.wall_ns,
        "max_error_ns": clock.max_error_ns,
    }
    return Notice(kind, urgent, data)


class Timekeeper:
    """The task: looks, has the rules judge, enters the notices, and keeps the floor."""

    def __init__(
        self,
        clock: SystemClock,
        recorder: Recorder,
        floor: TimeFloor,
        *,
        quick: Callable[[int], Evidence] = clock_sources.quick,
        thorough: Callable[[], Evidence | None] = clock_sources.thorough,
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._floor = floor
        self._quick = quick
        self._thorough = thorough
        self._judge = Judge(clock.look())
        self._asked: tuple[int, Evidence | None] | None = None
        self._stepped_ns = 0
        recorder.listeners.append(self._committed)

    def look(self) -> None:
        """Look once; before the first block is sealed this makes its header right."""
        look = self._clock.look()
        for kind, urgent, data in self._judge.look(look, self._evidence(look)):
            _log.info(kind, **data)
            self._recorder.event(kind, streams=None, urgent=urgent, **data)
            if kind == "clock-stepped":
                self._stepped_ns = look.boot_ns
        belief = self._clock.belief = self._judge.belief
        self._floor.note(belief, look)

    async def run(self) -> None:
        """Look every few seconds until cancelled; then keep the floor a last time."""
        try:
            while True:
                await self._ask()
                self.look()
                if self._floor.due(self._clock.boot_ns()):
                    await in_daemon("time-floor", self._floor.keep)
                await beat(LOOK_S)
        finally:
            self._floor.keep()

    def _evidence(self, look: Look) -> Evidence:
        """Take what is quick to know; where that is not good, what the daemons last said."""
        told = self._quick(look.wall_ns)
        if told.clock.quality == "synchronised" or self._asked is None or self._asked[1] is None:
            return told
        asked_ns, (clock, taken_wall_ns) = self._asked[0], self._asked[1]
        if clock.quality != "synchronised":
            return told if told.clock.quality != "unknown" else self._asked[1]
        return Evidence(grown(clock, clock.quality, look.boot_ns - asked_ns), taken_wall_ns)

    async def _ask(self) -> None:
        """Ask the daemons, if it is time and nothing better is known."""
        now_ns = self._clock.boot_ns()
        if self._asked is not None and now_ns - self._asked[0] < ASK_NS:
            return
        if self._quick(self._clock.look().wall_ns).clock.quality != "synchronised":
            self._asked = now_ns, await in_daemon("time-sources", self._thorough)
        else:
            self._asked = None

    def _committed(self, kept: Sequence[Kept]) -> None:
        """Once the event of a step is on the disk, let headers show the clock after it."""
        if not self._judge.pending:
            return
        intervals = (read_header(one.block.envelope).interval for one in kept)
        if any(interval is not None and interval[1] >= self._stepped_ns for interval in intervals):
            self._judge.accept(self._clock.boot_ns())
            self._clock.belief = self._judge.belief
