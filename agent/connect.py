"""A first look at every instrument: each link opened once, each device asked once, nothing written.

What is always true here:

- All links are looked at beside each other, each within the time given, whatever hangs; the ports are free afterwards.
- A device answers if any of its groups brought a value. What kept it from answering is a code with its fields.
- Values are engineering values, `raw * scale + offset`, computed exactly.
- This is a driver wall too: whatever else a driver raises is told as its bug, and costs its own link alone.

`trambien check --connect` enters, when no service holds the ports.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agent.health import Trouble
from agent.log import Log
from buffer import status
from buffer.frame import Change, Column, Frame, Value
from drivers.api import Driver, Group
from drivers.errors import DriverError

SILENT = "agent.connect-silent"
NO_TIME = "agent.connect-no-time"
_log = Log("connect")


@dataclass(frozen=True, slots=True)
class Shown:
    """A point's engineering value as text, its unit, and the name of its StatusCode."""

    point: str
    value: str | None
    unit: str
    status: str


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one device. `seconds` is until its first answer, counted from when it was asked."""

    link: str
    device: str
    seconds: float | None
    values: tuple[Shown, ...]
    trouble: Trouble | None

    @property
    def answers(self) -> bool:
        """Say whether it answered."""
        return self.seconds is not None


async def look(drivers: Mapping[str, Driver[Any]], within_s: float) -> tuple[Look, ...]:
    """Look at every device of every link."""
    links = await asyncio.gather(*(_look_at(driver, within_s) for driver in drivers.values()))
    return tuple(one for link in links for one in link)


async def _look_at(driver: Driver[Any], within_s: float) -> list[Look]:
    groups: dict[str, list[Group]] = {}
    for group in driver.groups:
        groups.setdefault(group.device, []).append(group)
    found: dict[str, Look] = {}
    trouble: Trouble = (SILENT, {"seconds": within_s})
    try:
        async with asyncio.timeout(within_s):
            await driver.open()
            trouble = NO_TIME, {"seconds": within_s}
            for device, its in groups.items():
                found[device] = await _ask(driver, device, its, within_s / len(groups))
    except TimeoutError:
        pass
    except DriverError as error:
        trouble = error.code, error.fields
    except Exception as error:  # noqa: BLE001 - a driver wall
        trouble = _bug(driver, error)
    finally:
        await _close(driver)
    return [found.get(device) or Look(driver.name, device, None, (), trouble) for device in groups]


async def _close(driver: Driver[Any]) -> None:
    try:
        await driver.close()
    except Exception as error:  # noqa: BLE001 - a driver wall
        _bug(driver, error)


def _bug(driver: Driver[Any], error: Exception) -> Trouble:
    _log.bug("driver-bug", link=driver.name, driver=driver.link.driver)
    return "drivers.bug", {"link": driver.name, "driver": driver.link.driver, "error": repr(error)}


async def _ask(driver: Driver[Any], device: str, groups: Sequence[Group], within_s: float) -> Look:
    """Ask for every group of a device, or hear what it pushes; one that pushes gets its share of the time."""
    began_s = time.monotonic()
    seconds: float | None = None
    shown: list[Shown] = []
    trouble: Trouble | None = None
    for group in groups:
        try:
            values = await _first(driver, group, within_s / len(groups))
        except TimeoutError:
            trouble = SILENT, {"seconds": round(within_s, 1)}
            continue
        except DriverError as error:
            trouble = error.code, error.fields
            continue
        seconds = time.monotonic() - began_s if seconds is None else seconds
        shown += values
    return Look(driver.name, device, seconds, tuple(shown), trouble)


async def _first(driver: Driver[Any], group: Group, within_s: float) -> list[Shown]:
    columns = group.layout.columns
    if group.layout.every_ns is not None:
        return list(_of_frame(columns, await driver.poll(group)))
    heard: dict[int, Change] = {}
    enough = asyncio.Event()

    async def emit(changes: Sequence[Change]) -> None:
        for change in changes:
            heard.setdefault(change.point, change)
        if len(heard) == len(columns):
            enough.set()

    listening = asyncio.create_task(driver.listen(group, emit), name=f"listen {group.device}")
    waiting = asyncio.create_task(enough.wait(), name=f"enough {group.device}")
    try:
        await asyncio.wait((listening, waiting), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            await listening
    finally:
        for task in (listening, waiting):
            task.cancel()
        await asyncio.gather(listening, waiting, return_exceptions=True)
    if not heard:
        raise TimeoutError
    return [_shown(columns[at], change.value, change.status) for at, change in sorted(heard.items())]


def _of_frame(columns: Sequence[Column], frame: Frame) -> Iterable[Shown]:
    codes = frame.statuses or (status.GOOD,) * len(columns)
    for column, value, code in zip(columns, frame.values, codes, strict=True):
        yield _shown(column, value, code)


def _shown(column: Column, value: Value, code: int) -> Shown:
    return Shown(column.name, engineering(column, value), column.unit, status.name(code))


def engineering(column: Column, raw: Value) -> str | None:
    """Give the engineering value of a raw one as text; what is no number stays as it is."""
    if raw is None or isinstance(raw, bool | str | bytes):
        return raw if raw is None else raw.hex() if isinstance(raw, bytes) else str(raw)
    number = Decimal(str(raw)) if isinstance(raw, float) else Decimal(raw)
    if not number.is_finite() or not (column.scale or column.offset):
        return str(raw)
    return format((number * Decimal(column.scale or 1) + Decimal(column.offset or 0)).normalize(), "f")
