"""One poll of one group: what its requests brought, and the search for what a unit refuses.

What is always true here:

- A frame comes back whenever the unit answered at all. A request that drew an exception, silence or nonsense gives its
  points a status and no value; the others are delivered in the same frame.
- A unit that is silent costs one time-out a poll. Each poll of a group begins with a request that was answered before,
  so the first silence means that the unit is gone (NoAnswer); where nothing was answered yet, the next poll begins
  with the next request. After a second silence in one poll the rest is not asked.
- A request that was refused for its address or quantity is halved, and so on, until it is known which point, hole or
  seam is refused; that is remembered (`parking`) and not asked again before its time, and what the halves brought is
  in the same frame. The search asks nothing more once the poll has lasted as long as the group's interval or a
  time-out, whichever is shorter; the next poll goes on with the halves.
- A group is never without a question: where all its points are parked, the first is asked, so that it shows whether
  the unit is alive.
- The frame's time is that of the last answer, in whole microseconds, and so is its span.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from buffer import status
from buffer.frame import Frame, Value
from drivers.api import Clock
from drivers.errors import BadAnswer, NoAnswer
from drivers.modbus.cost import first_turnaround_s
from drivers.modbus.groups import Part, Plan, Reading
from drivers.modbus.parking import Parking
from drivers.modbus.plan import Request, Span
from drivers.modbus.settings import ModbusDevice

ILLEGAL_DATA_ADDRESS = 2
ILLEGAL_DATA_VALUE = 3
TARGET_SILENT = 11
REFUSALS = (ILLEGAL_DATA_ADDRESS, ILLEGAL_DATA_VALUE)

STATUS_OF_EXCEPTION: dict[int, int] = {
    1: status.BAD_NOT_SUPPORTED,
    ILLEGAL_DATA_ADDRESS: status.BAD_NODE_ID_UNKNOWN,
    ILLEGAL_DATA_VALUE: status.BAD_CONFIGURATION_ERROR,
    4: status.BAD_DEVICE_FAILURE,
    5: status.BAD_WAITING_FOR_INITIAL_DATA,
    6: status.BAD_WAITING_FOR_INITIAL_DATA,
    7: status.BAD_NOT_SUPPORTED,
    8: status.BAD_DEVICE_FAILURE,
    10: status.BAD_NO_COMMUNICATION,
    TARGET_SILENT: status.BAD_TIMEOUT,
}
"""Exception codes (Modbus Application Protocol V1.1b3, 7) in the vocabulary of StatusCodes."""

_MOST_SILENCES = 2
_SETTLED_POLLS = 16
_CHANGED = 1.5
_NEW_WEIGHT = 0.125


class Reply(Protocol):
    """What a unit said: the data bytes of an answer, or an exception code (0 where it is none)."""

    @property
    def data(self) -> bytes:
        """The bytes."""
        ...

    @property
    def exception(self) -> int:
        """The code."""
        ...


class Asker(Protocol):
    """Whoever can ask a question."""

    async def ask(self, unit: int, request: Request) -> Reply:
        """Ask one question. Raises LinkDown, NoAnswer, BadAnswer."""
        ...


class Unit:
    """What is known of one unit: how fast it answers, what it refuses, when it last answered."""

    def __init__(self, device: ModbusDevice) -> None:
        self.number = device.unit
        self.pause_ns = device.pause or 0
        self.parking = Parking(device.retry_parked)
        self.answered_ns = 0


class State:
    """What is remembered of a group from poll to poll: its plan, and which request to begin with."""

    def __init__(self, reading: Reading, unit: Unit) -> None:
        self.reading = reading
        self.unit = unit
        self.first = 0
        self.turnaround_s: float | None = None
        self._planned_s: float | None = None
        self._measured = 0
        self._settled = _SETTLED_POLLS
        self._absent: frozenset[Span] = frozenset()
        self._version = unit.parking.version
        self.plan: Plan = reading.plan(reading.requests())

    def planned(self, now_ns: int) -> Plan:
        """Give the plan to follow now, made anew where something was learned since."""
        parking = self.unit.parking
        if now_ns >= parking.next_ns:
            parking.expire(now_ns)
        if self._version != parking.version:
            self._replan()
        return self.plan

    def took(self, elapsed_s: float) -> None:
        """Learn the device's turnaround from a poll in which every request was answered."""
        here_s = max(0.0, elapsed_s - self.plan.wire_s) / len(self.plan.parts)
        known_s = self.turnaround_s
        self.turnaround_s = here_s if known_s is None else known_s + (here_s - known_s) * _NEW_WEIGHT
        self._measured += 1
        if self._measured >= self._settled:
            self._measured = 0
            planned_s = first_turnaround_s(self.reading.pace) if self._planned_s is None else self._planned_s
            if not planned_s / _CHANGED <= self.turnaround_s <= planned_s * _CHANGED and not self.plan.least:
                self._planned_s = self.turnaround_s
                self._replan()

    def _replan(self) -> None:
        """Plan anew with all that is known; where that changes nothing, look again after twice as many polls."""
        parking = self.unit.parking
        lost = [field.span for field in self.reading.fields if parking.exception(field.span)]
        if len(lost) == len(self.reading.fields):
            lost = [span for span in lost if span != lost[0]]
        self._version = parking.version
        gone = frozenset(lost)
        requests = self.reading.requests(parking.avoid, gone, self._planned_s)
        if requests == tuple(part.request for part in self.plan.parts) and self._absent == gone:
            self._settled *= 2
            return
        self.plan, self._absent, self._settled = self.reading.plan(requests, gone), gone, _SETTLED_POLLS
        self.first = 0


class Poll:
    """One poll of one group: what its parts brought so far."""

    def __init__(self, asker: Asker, clock: Clock, state: State, most_ns: int) -> None:
        self._asker = asker
        self._clock = clock
        self._state = state
        self._unit = state.unit
        self._began_ns = self._answered_ns = clock.boot_ns()
        self._plan = state.planned(self._began_ns)
        self._until_ns = self._began_ns + min(most_ns, state.reading.group.layout.every_ns or most_ns)
        self._values: list[Sequence[Value]] = [()] * len(self._plan.parts)
        self._faults: dict[int, Sequence[int]] = {}
        self._silence: NoAnswer | BadAnswer | None = None
        self._silences = 0
        self._refused = False

    async def run(self) -> Frame:
        """Ask everything and make the frame. Raises LinkDown, NoAnswer, BadAnswer."""
        parts, first = self._plan.parts, self._state.first
        for turn in range(len(parts)):
            index = (first + turn) % len(parts)
            if self._silences >= _MOST_SILENCES:
                self._failed(index, status.BAD_TIMEOUT)
            else:
                await self._ask(index, parts[index])
        if self._answered_ns == self._began_ns and self._silence is not None:
            raise self._silence
        if not self._faults:
            self._state.took((self._answered_ns - self._began_ns) / 1e9)
        absent = await self._absent() if self._plan.absent else ()
        if not self._refused:
            self._unit.parking.searched()
        return self._frame(absent)

    async def _ask(self, index: int, part: Part) -> None:
        values, code = await self._one(part, index)
        if values is not None:
            self._values[index] = values
            return
        if code not in REFUSALS:
            self._failed(index, code)
            return
        self._refused = True
        found: dict[int, Value] = {}
        codes: dict[int, int] = {}
        await self._search(part, code, found, codes)
        self._values[index] = tuple(found.get(column) for column in part.columns)
        self._faults[index] = tuple(codes.get(column, status.GOOD) for column in part.columns)

    async def _one(self, part: Part, index: int = 0) -> tuple[tuple[Value, ...] | None, int]:
        """Ask one question; give its values, or none and an exception of REFUSALS or the status of the failure."""
        if self._unit.pause_ns:
            await self._pause()
        try:
            reply = await self._asker.ask(self._unit.number, part.request)
        except NoAnswer as error:
            return None, self._silent(index, error)
        except BadAnswer as error:
            self._silence = error
            return None, error.status
        if exception := reply.exception:
            if exception == TARGET_SILENT:
                return None, self._silent(index, NoAnswer("modbus.target-silent", unit=self._unit.number))
            self._answered_ns = self._unit.answered_ns = self._clock.boot_ns()
            failed = STATUS_OF_EXCEPTION.get(exception, status.BAD_COMMUNICATION_ERROR)
            return None, exception if exception in REFUSALS else failed
        self._answered_ns = self._unit.answered_ns = self._clock.boot_ns()
        return part.decode(reply.data), 0

    async def _pause(self) -> None:
        wait_ns = self._unit.answered_ns + self._unit.pause_ns - self._clock.boot_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)

    def _silent(self, index: int, error: NoAnswer) -> int:
        if self._answered_ns == self._began_ns:
            self._state.first = (index + 1) % len(self._plan.parts)
            raise error
        self._silences += 1
        return error.status

    async def _search(self, part: Part, exception: int, found: dict[int, Value], codes: dict[int, int]) -> None:
        """Halve a refused request until it is known what is refused; bring what the halves bring."""
        refused = [(part, exception)]
        while refused:
            whole, why = refused.pop()
            halves = self._halved(whole)
            codes.update(dict.fromkeys(whole.columns, STATUS_OF_EXCEPTION[why]))
            if halves is None:
                self._unit.parking.refused(whole.fields[0].span, why, self._clock.boot_ns())
            elif self._silences >= _MOST_SILENCES or self._clock.boot_ns() >= self._until_ns:
                self._unit.parking.halved(halves[1].fields[0].span)
            else:
                refused += await self._ask_halves(halves, why, found, codes)

    async def _ask_halves(
        self, halves: tuple[Part, Part], why: int, found: dict[int, Value], codes: dict[int, int]
    ) -> list[tuple[Part, int]]:
        refused: list[tuple[Part, int]] = []
        answered = 0
        for half in halves:
            values, code = await self._one(half)
            if values is not None:
                answered += 1
                found.update(zip(half.columns, values, strict=True))
                codes.update(dict.fromkeys(half.columns, status.GOOD))
            elif code in REFUSALS:
                refused.append((half, code))
            else:
                codes.update(dict.fromkeys(half.columns, code))
        if answered == len(halves):
            left = max((field.span for field in halves[0].fields), key=lambda span: span.end)
            right = halves[1].fields[0].span
            self._unit.parking.refused_between(left, right, why, self._clock.boot_ns())
        return refused

    def _halved(self, part: Part) -> tuple[Part, Part] | None:
        """Split a part between two of its spans; None where it has but one."""
        spans = sorted({field.span for field in part.fields})
        if len(spans) == 1:
            return None
        cut = spans[len(spans) // 2]
        low = [column for column, field in zip(part.columns, part.fields, strict=True) if field.span < cut]
        high = part.columns[len(low) :]
        return self._state.reading.part(low), self._state.reading.part(high)

    async def _absent(self) -> Sequence[tuple[Value, int]]:
        """Give what stands for the parked points, one of which may be tried again now."""
        reading, parking = self._state.reading, self._unit.parking
        due = parking.due((reading.fields[column].span for column in self._plan.absent), self._began_ns)
        tried: dict[int, Value] = {}
        if due is not None and not self._silences:
            part = reading.part([column for column in self._plan.absent if reading.fields[column].span == due])
            values, code = await self._one(part)
            if values is not None:
                parking.answered(due)
                tried = dict(zip(part.columns, values, strict=True))
            elif code in REFUSALS:
                parking.refused(due, code, self._clock.boot_ns())
        return [self._parked(column, tried) for column in self._plan.absent]

    def _parked(self, column: int, tried: dict[int, Value]) -> tuple[Value, int]:
        if column in tried:
            return tried[column], status.GOOD
        exception = self._unit.parking.exception(self._state.reading.fields[column].span)
        return None, STATUS_OF_EXCEPTION.get(exception, status.BAD_NODE_ID_UNKNOWN)

    def _failed(self, index: int, code: int) -> None:
        width = self._plan.parts[index].width
        self._values[index] = (None,) * width
        self._faults[index] = (code,) * width

    def _frame(self, absent: Sequence[tuple[Value, int]]) -> Frame:
        plan, weigh, brought = self._plan, self._state.reading.judge, self._values
        if len(brought) == 1 and not absent:
            values = tuple(brought[0])
        else:
            values = (*(value for part in brought for value in part), *(value for value, _ in absent))
        if plan.order is not None:
            values = plan.order(values)
        statuses = None
        if weigh is not None:
            values, statuses = weigh(values)
        if self._faults or absent:
            statuses = self._with_faults([code for _, code in absent], statuses)
        t_ns, span_ns = self._answered_ns, self._answered_ns - self._began_ns
        return Frame(t_ns - t_ns % 1000, span_ns - span_ns % 1000, values, statuses)

    def _with_faults(self, absent: Sequence[int], judged: tuple[int, ...] | None) -> tuple[int, ...] | None:
        good = status.GOOD
        parts = enumerate(self._plan.parts)
        spread = [code for index, part in parts for code in self._faults.get(index, (good,) * part.width)]
        spread += absent
        failed = spread if self._plan.order is None else self._plan.order(spread)
        codes = tuple(fault or code for fault, code in zip(failed, judged or (good,) * len(spread), strict=True))
        return codes if any(codes) else None
