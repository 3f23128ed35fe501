"""What every driver must pass: checks that a driver's author calls from their tests, against a real far end.

Each check takes `make`, which makes a fresh driver on the same link, and raises AssertionError with what is wrong.

    async def test_it_conforms(instrument):
        await conformance.opens_and_closes(make)
        await conformance.answers_fit(make)
        await conformance.dead_end_is_link_down(make_on_a_dead_end)
        await conformance.cancellation_frees_the_port(make)

What a check leaves behind is nothing: all close what they open, and fail where a task outlives its driver.
"""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from buffer import status
from buffer.frame import Change, Column, Frame, Kind, Value
from drivers.api import Driver, Group
from drivers.errors import LinkDown

Make = Callable[[], Driver[Any]]

_SLACK_S = 0.5
_SETTLE_S = 0.05
_FLOAT_CODES: dict[str, str] = {"float16": ">e", "float32": ">f", "float64": ">d"}


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """Fail where tasks are left that were not there before, or where the event loop had something to complain of."""
    before = asyncio.all_tasks()
    loop, complaints = asyncio.get_running_loop(), list[dict[str, Any]]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        yield
        await asyncio.sleep(_SETTLE_S)
    finally:
        loop.set_exception_handler(handler)
    left = asyncio.all_tasks() - before
    if left:
        _, left = await asyncio.wait(left, timeout=_SLACK_S)
    assert not left, f"tasks outlive the driver: {left}"
    assert not complaints, f"the event loop complains: {complaints}"


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Driver[Any]]:
    """Give a driver with its wire open, and close it."""
    driver = make()
    try:
        await driver.open()
        yield driver
    finally:
        await driver.close()


async def opens_and_closes(make: Make) -> None:
    """A driver opens, closes twice, opens again, and may be closed without ever being opened."""
    async with no_task_left():
        driver = make()
        await driver.close()
        await driver.open()
        await driver.close()
        await driver.close()
        await driver.open()
        await driver.close()


async def answers_fit(make: Make, polls: int = 2) -> None:
    """Every polled group answers with frames of its layout, and every pushed group with changes of its layout."""
    async with no_task_left(), opened(make) as driver:
        assert driver.groups, "a driver fills at least one group"
        for group in driver.groups:
            if group.layout.every_ns is None:
                await _changes_fit(driver, group)
                continue
            for _ in range(polls):
                before_ns = driver.clock.boot_ns()
                frame = await driver.poll(group)
                frame_fits(group, frame)
                assert before_ns - before_ns % 1000 <= frame.t_boot_ns <= driver.clock.boot_ns(), "the time is not now"
        _figures_fit(driver)


def _figures_fit(driver: Driver[Any]) -> None:
    figures = driver.figures()
    devices = [name for name, _ in figures.devices]
    assert set(devices) <= {group.device for group in driver.groups}, "figures of a device that fills no group"
    assert len(set(devices)) == len(devices), "two figures of one device"
    assert figures.held_s <= figures.open_s, "a question was out while the link was closed"
    for tally in (figures.link, *(tally for _, tally in figures.devices)):
        assert tally.answers <= tally.questions, "more answers than questions"


async def _changes_fit(driver: Driver[Any], group: Group) -> None:
    seen: asyncio.Queue[Sequence[Change]] = asyncio.Queue()
    listening = asyncio.create_task(driver.listen(group, seen.put), name="conformance-listen")
    try:
        getting = asyncio.create_task(seen.get(), name="conformance-get")
        await asyncio.wait((listening, getting), timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert getting.done(), "nothing was pushed within ten seconds"
        for change in getting.result():
            change_fits(group, change)
    finally:
        for task in (listening, getting):
            task.cancel()
        await asyncio.wait((listening, getting))


def frame_fits(group: Group, frame: Frame) -> None:
    """Fail where a frame is not one of its group."""
    columns = group.layout.columns
    assert len(frame.values) == len(columns), "a frame has one value a column"
    assert frame.span_ns >= 0, "the span is negative"
    assert frame.t_boot_ns % 1000 == 0, "times are whole microseconds"
    if frame.statuses is None:
        assert None not in frame.values, "a value is missing from a frame that is good throughout"
        codes: tuple[int, ...] = (status.GOOD,) * len(columns)
    else:
        assert len(frame.statuses) == len(columns), "a frame has one status a column, or none at all"
        assert any(frame.statuses), "a frame that is good throughout has no statuses"
        codes = frame.statuses
    for column, value, code in zip(columns, frame.values, codes, strict=True):
        _value_fits(column, value, code)


def change_fits(group: Group, change: Change) -> None:
    """Fail where a change is not one of its group."""
    assert 0 <= change.point < len(group.layout.columns), f"no point {change.point} in the layout"
    _value_fits(group.layout.columns[change.point], change.value, change.status)


def _value_fits(column: Column, value: Value, code: int) -> None:
    if value is None:
        assert not status.is_good(code), f"{column.name} is good and has no value"
        return
    assert fits(column.kind, value), f"{column.name}: {value!r} is no {column.kind}"


def fits(kind: Kind, value: Value) -> bool:
    """Say whether a value can be kept exactly in a column of a kind."""
    if kind in ("bool", "text", "bytes"):
        return type(value) is {"bool": bool, "text": str, "bytes": bytes}[kind]
    if kind in _FLOAT_CODES:
        return type(value) is float and _survives(_FLOAT_CODES[kind], value)
    bits = int(kind.lstrip("uint"))
    low, high = (0, (1 << bits) - 1) if kind.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return type(value) is int and low <= value <= high


def _survives(code: str, value: float) -> bool:
    try:
        return bool(struct.unpack(code, struct.pack(code, value))[0] == value)
    except OverflowError:
        return False


async def dead_end_is_link_down(make: Make) -> None:
    """A dead far end is LinkDown within the time-out, with a code and fields, and closing is safe after it."""
    async with no_task_left():
        driver = make()
        started = time.monotonic()
        error = await _raised(driver.open())
        assert isinstance(error, LinkDown), f"a dead end raised {error!r}"
        assert time.monotonic() - started <= driver.link.timeout / 1e9 + _SLACK_S, "it took longer than the time-out"
        assert "." in error.code, "a code begins with its domain"
        await driver.close()
        await driver.close()


async def lost_link_is_link_down(make: Make, cut: Callable[[], Awaitable[None]]) -> None:
    """A wire that is cut while open is LinkDown within the time-out, for polling and for listening."""
    async with no_task_left(), opened(make) as driver:
        waiting = [
            asyncio.create_task(driver.listen(group, _ignore), name="conformance-listen")
            for group in driver.groups
            if group.layout.every_ns is None
        ]
        await asyncio.sleep(_SETTLE_S)
        await cut()
        limit_s = driver.link.timeout / 1e9 + _SLACK_S
        for group in driver.groups:
            if group.layout.every_ns is not None:
                error = await _raised(asyncio.wait_for(driver.poll(group), limit_s))
                assert isinstance(error, LinkDown), f"a poll on a cut wire raised {error!r}"
        for task in waiting:
            error = await _raised(asyncio.wait_for(task, limit_s))
            assert isinstance(error, LinkDown), f"listening on a cut wire raised {error!r}"


async def cancellation_frees_the_port(make: Make) -> None:
    """Cancelled at any of its first awaits, opening or asking, a driver can be closed and the port taken again."""
    for turns in range(6):
        async with no_task_left():
            driver = make()
            task = asyncio.create_task(_open_and_ask(driver), name="conformance-ask")
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
            await driver.close()
            await answers_fit(make, polls=1)


async def _open_and_ask(driver: Driver[Any]) -> None:
    await driver.open()
    for group in driver.groups:
        if group.layout.every_ns is None:
            await driver.listen(group, _ignore)
        else:
            await driver.poll(group)


async def _ignore(_changes: Sequence[Change]) -> None:
    await asyncio.sleep(0)


async def _raised(work: Awaitable[object]) -> BaseException | None:
    """Give what was raised, so that a check can say what it expected instead."""
    (result,) = await asyncio.gather(work, return_exceptions=True)
    return result if isinstance(result, BaseException) else None
