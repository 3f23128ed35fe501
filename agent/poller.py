"""The poller: owns one link, keeps its schedule, and hands every frame to the recorder.

What is always true here:

- One task asks the wire; it is the only one that does, so a half-duplex bus needs no lock.
- Every served tick gives a frame: the instrument's, or a fault frame that says why there is none. A tick that could
  not be served at all is counted as missed.
- The probe of a dead instrument waits until everything else that is due was served.
- An instrument that fails costs others no more than its probes (B10). A link that is down is tried again with
  back-off, and logged once when it goes and once when it is back.
- This is the driver wall: whatever else a driver raises is logged with its traceback and treated as LinkDown. It is
  the one place in the house with a blind `except`.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.beat import Alarm
from agent.companions import until_one_ends
from agent.health import DeviceHealth, LinkHealth
from agent.log import Log
from agent.probing import Probing
from agent.recorder import Recorder
from agent.schedule import Schedule, Tick
from buffer import status
from buffer.frame import Change, Frame, fault_frame
from drivers.api import Clock, Driver, Group
from drivers.errors import BadAnswer, DriverError, LinkDown, Misfit, NoAnswer

NS_PER_S = 10**9
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_REST_NS = 5 * NS_PER_S

_log = Log("poller")


@dataclass(frozen=True, slots=True)
class House:
    """What a poller needs of the house around it."""

    recorder: Recorder
    clock: Clock
    rng: random.Random
    alarm: Alarm = field(default_factory=Alarm)


def health_of(driver: Driver[Any]) -> LinkHealth:
    """Give the figures of a link that was not opened yet."""
    devices = {group.device: DeviceHealth(group.stream, every_ns=_shortest(driver, group)) for group in driver.groups}
    return LinkHealth(driver.link.driver, devices, parked=driver.parked, figures=driver.figures)


def _shortest(driver: Driver[Any], one: Group) -> int | None:
    """Give the shortest interval of the groups of one device."""
    intervals = [group.layout.every_ns for group in driver.groups if group.device == one.device]
    return min((every_ns for every_ns in intervals if every_ns is not None), default=None)


class Poller:
    """Polls and listens on one link until cancelled."""

    def __init__(self, driver: Driver[Any], house: House, health: LinkHealth) -> None:
        self._driver = driver
        self._house = house
        self._health = health
        self._polled = tuple(group for group in driver.groups if group.layout.every_ns is not None)
        self._pushed = tuple(group for group in driver.groups if group.layout.every_ns is None)
        devices = tuple(dict.fromkeys(group.device for group in self._polled))
        self._probing = Probing(devices, driver.link.timeout)
        self._streams = tuple(dict.fromkeys(group.stream for group in driver.groups))
        self._lost: asyncio.Future[None] | None = None
        self._begun: dict[int, int] = {}
        self._tried = asyncio.Event()
        self._stop = asyncio.Event()
        self._rest: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Keep the link open and serve its ticks, until `stop` or cancellation."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep_open(), name=f"link {self._driver.name}")
            if self._polled:
                await self._serve_ticks()
            else:
                await self._stop.wait()
            keeping.cancel()

    def stop(self) -> None:
        """Ask `run` to return when the poll under way, if there is one, has brought its answer."""
        self._stop.set()
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    async def _keep_open(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._driver.open()
                self._link_up()
                pause_s = FIRST_PAUSE_S
                await self._until_lost()
            except LinkDown as error:
                self._link_down(error)
            except Exception as error:  # noqa: BLE001 - the driver wall
                self._link_down(self._bug(error))
            finally:
                self._lost = None
                self._tried.set()
                await self._close()
            await asyncio.sleep(pause_s * self._house.rng.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _close(self) -> None:
        try:
            await self._driver.close()
        except Exception as error:  # noqa: BLE001 - the driver wall
            self._bug(error)

    async def _until_lost(self) -> None:
        """Listen to what pushes until a listener or the tick loop says that the link is gone; raise why."""
        self._lost = asyncio.get_running_loop().create_future()
        self._tried.set()
        listeners = [asyncio.create_task(self._listen(group), name=f"listen {group.device}") for group in self._pushed]
        await until_one_ends(self._lost, listeners)

    async def _listen(self, group: Group) -> None:
        recorder = self._house.recorder
        device = self._health.devices[group.device]

        async def emit(changes: Sequence[Change]) -> None:
            await recorder.room()
            recorder.add_changes(group, changes)
            device.heard(changes[-1].t_boot_ns)

        await self._driver.listen(group, emit)

    async def _serve_ticks(self) -> None:
        await self._tried.wait()
        clock, recorder = self._house.clock, self._house.recorder
        schedule = Schedule([group.layout.every_ns or NS_PER_S for group in self._polled], clock.boot_ns())
        while not self._stop.is_set():
            now_ns = clock.boot_ns()
            if (due_ns := schedule.next_due_ns()) > now_ns:
                await self._sleep(now_ns, due_ns)
                continue
            if (tick := schedule.take(now_ns)) is None:
                continue
            group = self._polled[tick.number]
            if not self._probing.alive(group.device) and schedule.put_behind(tick):
                continue
            self._note_begin(tick, now_ns)
            await recorder.room()
            with recorder.polling:
                recorder.add(group, await self._frame(group))
            self._count_missed(group, schedule.done(tick, clock.boot_ns()))

    async def _sleep(self, now_ns: int, due_ns: int) -> None:
        """Rest until a tick is due, but not for long: timers stand still in suspend; `stop` ends it."""
        until_ns = min(due_ns, (now_ns // LONGEST_REST_NS + 1) * LONGEST_REST_NS)
        self._rest = self._house.alarm.at(until_ns, (until_ns - now_ns) / NS_PER_S)
        await self._rest

    async def _frame(self, group: Group) -> Frame:
        """Poll one group once, or say in its frame why not."""
        now_ns = self._house.clock.boot_ns()
        if self._lost is None or self._lost.done():
            return self._fault(group, now_ns, status.BAD_NOT_CONNECTED)
        if not self._probing.may_ask(group.device, now_ns):
            return self._fault(group, now_ns, status.BAD_NO_COMMUNICATION)
        try:
            frame = await self._driver.poll(group)
            self._answered(group, frame)
        except DriverError as error:
            return self._failed(group, error)
        except Exception as error:  # noqa: BLE001 - the driver wall
            return self._failed(group, self._bug(error))
        return frame

    def _failed(self, group: Group, error: DriverError) -> Frame:
        now_ns = self._house.clock.boot_ns()
        self._health.devices[group.device].error = (error.code, error.fields)
        match error:
            case LinkDown():
                if self._lost is not None and not self._lost.done():
                    self._lost.set_exception(error)
            case NoAnswer():
                if self._probing.silent(group.device, now_ns, group.layout.every_ns or NS_PER_S):
                    self._device_lost(group, error)
            case BadAnswer() | Misfit():
                self._note_life(group)
        return self._fault(group, now_ns, error.status)

    def _fault(self, group: Group, now_ns: int, code: int) -> Frame:
        self._health.devices[group.device].faults += 1
        return fault_frame(group.layout, now_ns, code)

    def _answered(self, group: Group, frame: Frame) -> None:
        self._health.devices[group.device].answered(frame.t_boot_ns)
        self._note_life(group)

    def _note_life(self, group: Group) -> None:
        if self._probing.answered(group.device):
            self._health.devices[group.device].alive = True
            _log.info("device-back", link=self._driver.name, device=group.device)
            self._house.recorder.event("device-back", streams=(group.stream,), device=group.device)

    def _device_lost(self, group: Group, error: DriverError) -> None:
        self._health.devices[group.device].alive = False
        _log.warning("device-lost", link=self._driver.name, device=group.device, error=error)
        self._house.recorder.event("device-lost", streams=(group.stream,), device=group.device, code=error.code)

    def _link_up(self) -> None:
        if self._health.open(self._house.clock.boot_ns()):
            _log.info("link-up", link=self._driver.name)
            self._house.recorder.event("link-up", streams=self._streams, link=self._driver.name)

    def _link_down(self, error: LinkDown) -> None:
        if self._health.fail(self._house.clock.boot_ns(), error.code, error.fields):
            _log.warning("link-down", link=self._driver.name, error=error)
            self._house.recorder.event("link-down", streams=self._streams, link=self._driver.name, code=error.code)

    def _bug(self, error: Exception) -> LinkDown:
        _log.bug("driver-bug", link=self._driver.name, driver=self._driver.link.driver)
        return LinkDown("drivers.bug", link=self._driver.name, driver=self._driver.link.driver, error=repr(error))

    def _note_begin(self, tick: Tick, now_ns: int) -> None:
        """Keep how late a tick begins, and how long after the one before."""
        device = self._health.devices[self._polled[tick.number].device]
        device.lateness_ns.append(now_ns - tick.due_ns)
        if (before_ns := self._begun.get(tick.number)) is not None:
            device.achieved_ns.append(now_ns - before_ns)
        self._begun[tick.number] = now_ns

    def _count_missed(self, group: Group, missed: int) -> None:
        if missed:
            self._health.devices[group.device].missed += missed
            self._house.recorder.missed(group.stream, missed)
