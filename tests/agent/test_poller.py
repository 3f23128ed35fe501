"""The poller: its schedule, its fault frames, its wall against drivers that misbehave."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import GROUP, Bench, until

from agent.health import DeviceHealth, LinkHealth
from agent.poller import House, Poller
from buffer import status
from buffer.frame import Change, Column, Frame, Layout
from config.model import Device, Link
from drivers.api import Driver, Emit, Group
from drivers.errors import BadAnswer, LinkDown, NoAnswer

MS = 10**6


def group(device: str, every_ms: int | None) -> Group:
    """A group of one point."""
    every_ns = None if every_ms is None else every_ms * MS
    return Group(device, "main", Layout("bus-1", device, "scripted", every_ns, (Column("serial", "uint32"),)))


class Scripted(Driver[Any]):
    """A driver that does what the test says: `answer` is asked at every poll, `opening` at every open."""

    Settings = Link

    def __init__(self, clock: Any, *groups: Group, answer: Callable[[str], int], opening: Callable[[], None]) -> None:
        link = Link(driver="scripted", timeout=100 * MS, devices={"a": Device()})
        super().__init__("bus-1", link, clock)
        self.groups = groups
        self.polls: list[str] = []
        self.opened = self.closed = 0
        self.pushed: asyncio.Queue[int] = asyncio.Queue()
        self._answer = answer
        self._opening = opening

    async def open(self) -> None:
        """Open as the test says."""
        self.opened += 1
        self._opening()

    async def close(self) -> None:
        """Count."""
        self.closed += 1

    async def poll(self, group: Group) -> Frame:
        """Answer as the test says."""
        self.polls.append(group.device)
        value = self._answer(group.device)
        await asyncio.sleep(0)
        return Frame(self.clock.boot_ns(), 1000, (value,))

    async def listen(self, group: Group, emit: Emit) -> None:
        """Push what the test pushes; a negative number is a lost link."""
        while True:
            value = await self.pushed.get()
            if value < 0:
                raise LinkDown("drivers.test")
            await emit([Change(0, None, self.clock.boot_ns(), value)])


@asynccontextmanager
async def polling(
    tmp_path: Path,
    *groups: Group,
    answer: Callable[[str], int] = lambda _device: 1,
    opening: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[Scripted, LinkHealth, list[tuple[str, Any]]]]:
    """Run a poller over a scripted driver; collect what it hands to the recorder."""
    seen: list[tuple[str, Any]] = []
    async with Bench(tmp_path / "buffer.db", seal_every_s=30) as bench:
        bench.recorder.add = lambda one, frame: seen.append((one.device, frame))  # type: ignore[method-assign]
        bench.recorder.add_changes = lambda one, changes: seen.extend((one.device, c) for c in changes)  # type: ignore[method-assign]
        bench.recorder.event = lambda kind, **data: seen.append((kind, data))  # type: ignore[method-assign]
        driver = Scripted(bench.clock, *groups, answer=answer, opening=opening)
        health = LinkHealth("scripted", {one.device: DeviceHealth("main") for one in groups})
        task = asyncio.create_task(Poller(driver, House(bench.recorder, bench.clock, random.Random(1)), health).run())
        try:
            yield driver, health, seen
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            assert driver.closed >= driver.opened


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reopen soon."""
    monkeypatch.setattr("agent.poller.FIRST_PAUSE_S", 0.05)


def frames(seen: list[tuple[str, Any]], device: str) -> list[Frame]:
    """Give the frames of a device."""
    return [one for name, one in seen if name == device and isinstance(one, Frame)]


def kinds(seen: list[tuple[str, Any]]) -> list[str]:
    """Give the kinds of the events."""
    return [name for name, one in seen if isinstance(one, dict)]


async def test_a_group_is_polled_at_its_interval(tmp_path: Path) -> None:
    """Ticks stand on the grid of boot time."""
    async with polling(tmp_path, group("a", 50)) as (_, health, seen):
        await until(lambda: len(frames(seen, "a")) >= 6)
        achieved = health.devices["a"].document()["achieved_ms"]
    offsets = [frame.t_boot_ns % (50 * MS) for frame in frames(seen, "a")[1:]]
    assert 30 < achieved["p50"] < 90
    assert max(offsets) < 40 * MS
    assert health.devices["a"].alive


async def test_a_silent_device_gives_fault_frames_and_is_asked_rarely_while_others_keep_their_schedule(
    tmp_path: Path,
) -> None:
    """One dead instrument slows another by no more than its probes."""

    def answer(device: str) -> int:
        if device == "dead":
            raise NoAnswer("drivers.test")
        return 1

    async with polling(tmp_path, group("dead", 20), group("alive", 20), answer=answer) as (driver, health, seen):
        await until(lambda: len(frames(seen, "alive")) >= 40)
    assert len(frames(seen, "dead")) >= 35
    assert {frame.statuses for frame in frames(seen, "dead")} == {
        (status.BAD_TIMEOUT,),
        (status.BAD_NO_COMMUNICATION,),
    }
    assert driver.polls.count("dead") <= 12
    assert kinds(seen).count("device-lost") == 1
    assert health.devices["dead"].alive is False


async def test_the_first_good_answer_brings_a_device_back(tmp_path: Path) -> None:
    """Said once, and polled at every tick again."""
    silent = {"left": 4}

    def answer(device: str) -> int:
        if device == "a" and silent["left"]:
            silent["left"] -= 1
            raise NoAnswer("drivers.test")
        return 1

    async with polling(tmp_path, group("a", 20), answer=answer) as (_, health, seen):
        await until(lambda: "device-back" in kinds(seen))
        await until(lambda: sum(frame.statuses is None for frame in frames(seen, "a")) >= 5)
        assert health.devices["a"].alive


async def test_a_bad_answer_is_a_fault_frame_and_no_silence(tmp_path: Path) -> None:
    """A device that talks nonsense is alive, and is asked again at the next tick."""

    def answer(_device: str) -> int:
        raise BadAnswer("drivers.test")

    async with polling(tmp_path, group("a", 10), group("b", 1000), answer=answer) as (driver, _, seen):
        await until(lambda: driver.polls.count("a") >= 10)
    assert {frame.statuses for frame in frames(seen, "a")} == {(status.BAD_COMMUNICATION_ERROR,)}
    assert "device-lost" not in kinds(seen)


async def test_a_link_that_is_down_gives_fault_frames_and_is_opened_again(tmp_path: Path) -> None:
    """Every due tick has a frame that says why it is empty; up and down are told once each."""
    state = {"down": True}

    def opening() -> None:
        if state["down"]:
            raise LinkDown("drivers.test")

    async with polling(tmp_path, group("a", 20), opening=opening) as (driver, health, seen):
        await until(lambda: len(frames(seen, "a")) >= 10 and driver.opened >= 2)
        assert {frame.statuses for frame in frames(seen, "a")} == {(status.BAD_NOT_CONNECTED,)}
        assert health.up is False
        assert not driver.polls
        state["down"] = False
        await until(lambda: bool(health.up) and frames(seen, "a")[-1].statuses is None)
    assert kinds(seen) == ["link-down", "link-up"]


async def test_a_link_lost_while_polling_is_closed_and_opened_again(tmp_path: Path) -> None:
    """LinkDown from a poll reaches whoever keeps the link."""
    lost = iter([False, True] + [False] * 1000)

    def answer(_device: str) -> int:
        if next(lost):
            raise LinkDown("drivers.test")
        return 1

    async with polling(tmp_path, group("a", 20), answer=answer) as (driver, health, seen):
        await until(lambda: driver.opened >= 2 and bool(health.up))
        await until(lambda: frames(seen, "a")[-1].statuses is None)
    assert kinds(seen) == ["link-up", "link-down", "link-up"]


@pytest.mark.parametrize("place", ["open", "poll"])
async def test_a_bug_in_a_driver_is_a_lost_link_and_nothing_worse(tmp_path: Path, place: str) -> None:
    """The driver wall: whatever it raises, the house stands and the link is tried again."""
    bugs = {"left": 2}

    def stumble(*_: object) -> int:
        if bugs["left"]:
            bugs["left"] -= 1
            raise ZeroDivisionError
        return 1

    scripts = {"opening": stumble} if place == "open" else {"answer": stumble}
    async with polling(tmp_path, group("a", 20), **scripts) as (driver, health, seen):  # type: ignore[arg-type]
        await until(lambda: driver.opened >= 3 and bool(health.up))
        await until(lambda: bool(frames(seen, "a")) and frames(seen, "a")[-1].statuses is None)


async def test_changes_are_passed_on_in_order_and_a_lost_listener_reopens_the_link(tmp_path: Path) -> None:
    """What pushes is listened to for as long as the link is up."""
    async with polling(tmp_path, group("a", None)) as (driver, health, seen):
        for value in (1, 2, 3, -1, 4):
            driver.pushed.put_nowait(value)
        await until(lambda: any(one == 4 for one in [c.value for _, c in seen if isinstance(c, Change)]))
    assert [change.value for _, change in seen if isinstance(change, Change)] == [1, 2, 3, 4]
    assert driver.opened == 2
    assert health.devices["a"].alive


async def test_stopping_waits_for_the_answer_under_way(tmp_path: Path) -> None:
    """What the instrument was asked for is taken before the poller returns."""
    asked = asyncio.Event()

    async with Bench(tmp_path / "buffer.db") as bench:
        driver = Scripted(bench.clock, group("a", 1000), answer=lambda _device: 7, opening=lambda: None)
        plain = driver.poll

        async def slow(one: Group) -> Frame:
            asked.set()
            await asyncio.sleep(0.2)
            return await plain(one)

        driver.poll = slow  # type: ignore[method-assign]
        seen: list[Frame] = []
        bench.recorder.add = lambda _one, frame: seen.append(frame)  # type: ignore[method-assign]
        health = LinkHealth("scripted", {"a": DeviceHealth("main")})
        poller = Poller(driver, House(bench.recorder, bench.clock, random.Random(1)), health)
        running = asyncio.create_task(poller.run())
        await asked.wait()
        poller.stop()
        await asyncio.wait_for(running, 2)
    assert [frame.values for frame in seen] == [(7,)]
    assert driver.closed >= 1


async def test_stopping_a_link_that_rests_or_only_listens_is_immediate(tmp_path: Path) -> None:
    """Neither the next tick nor a silent instrument is waited for."""
    async with Bench(tmp_path / "buffer.db") as bench:
        for one in (group("a", 60_000), group("a", None)):
            driver = Scripted(bench.clock, one, answer=lambda _device: 7, opening=lambda: None)
            bench.recorder.add = lambda *_: None  # type: ignore[method-assign]
            health = LinkHealth("scripted", {"a": DeviceHealth("main")})
            poller = Poller(driver, House(bench.recorder, bench.clock, random.Random(1)), health)
            running = asyncio.create_task(poller.run())
            await asyncio.sleep(0.1)
            poller.stop()
            await asyncio.wait_for(running, 1)


async def test_a_driver_that_gives_no_frame_or_stumbles_when_closed_ends_nothing(tmp_path: Path) -> None:
    """The driver wall has no holes."""
    async with polling(tmp_path, group("a", 20)) as (driver, health, seen):
        plain_poll, plain_close, bugs = driver.poll, driver.close, [2]

        async def poll(one: Group) -> Frame:
            if bugs[0]:
                bugs[0] -= 1
                return None  # type: ignore[return-value]
            return await plain_poll(one)

        async def close() -> None:
            await plain_close()
            raise ZeroDivisionError

        driver.poll, driver.close = poll, close  # type: ignore[method-assign]
        await until(lambda: driver.opened >= 2 and bool(health.up) and frames(seen, "a")[-1].statuses is None)
        driver.close = plain_close  # type: ignore[method-assign]


async def test_a_tick_that_came_due_in_suspend_is_served_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's timers stand still while the machine sleeps; boot time does not."""
    monkeypatch.setattr("agent.poller.LONGEST_REST_NS", 50 * MS)
    hourly = 3_600_000
    async with polling(tmp_path, group("a", hourly)) as (driver, _, seen):
        await until(lambda: len(frames(seen, "a")) == 1)
        awake = driver.clock.boot_ns
        driver.clock.boot_ns = lambda: awake() + hourly * MS
        await until(lambda: len(frames(seen, "a")) == 2)


async def test_a_seal_is_due_when_what_was_asked_at_its_moment_has_come(tmp_path: Path) -> None:
    """Nobody waits for the timer behind it."""
    one = group("a", 50)
    async with Bench(tmp_path / "buffer.db", seal_every_s=3600) as bench:
        add = bench.recorder.add
        bench.recorder.add = lambda _, frame: add(GROUP, Frame(frame.t_boot_ns, 0, (1, 1.5)))  # type: ignore[method-assign]
        driver = Scripted(bench.clock, one, answer=lambda _device: 1, opening=lambda: None)
        health = LinkHealth("scripted", {"a": DeviceHealth("main")})
        task = asyncio.create_task(Poller(driver, House(bench.recorder, bench.clock, random.Random(1)), health).run())
        await until(lambda: bool(bench.committed) and bench.recorder._gathering.unsealed > 0)
        before = len(bench.committed)
        bench.recorder.polling._place_ns = 0  # an hour has passed
        await until(lambda: len(bench.committed) > before)
        task.cancel()
        await asyncio.wait([task])
