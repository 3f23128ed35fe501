"""The Modbus driver: one link, polled group by group.

What is always true here:

- A frame comes back whenever the unit answered at all. A request that drew an exception, silence or nonsense gives its
  points a status and no value; the others are delivered in the same frame.
- A unit that is silent costs one time-out a poll. Each poll of a group begins with a request that was answered before,
  so the first silence means that the unit is gone (NoAnswer); where nothing was answered yet, the next poll begins
  with the next request. After a second silence in one poll the rest is not asked.
- A request that read over a hole and was refused for its address is not made again: from the next poll on the group
  reads only what its points want.
- The frame's time is that of the last answer, in whole microseconds, and so is its span.
"""

from typing import ClassVar

from buffer import status
from buffer.frame import Frame, Value
from drivers.api import Clock, Driver, Figures, Group
from drivers.errors import BadAnswer, NoAnswer
from drivers.modbus.groups import Part, Plan, Reading, in_layout_order, readings
from drivers.modbus.settings import ModbusLink
from drivers.modbus.wire import Wire

ILLEGAL_DATA_ADDRESS = 2
ILLEGAL_DATA_VALUE = 3
TARGET_SILENT = 11

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


class _State:
    """What is remembered of a group from poll to poll: its plan, and which request to begin with."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.plan = reading.bridged
        self.first = 0


class _Poll:
    """One poll of one group: what its parts brought so far."""

    def __init__(self, state: _State, began_ns: int) -> None:
        self.state = state
        self.plan: Plan = state.plan
        self.began_ns = self.answered_ns = began_ns
        self.values: list[tuple[Value, ...]] = [()] * len(self.plan.parts)
        self.faults: dict[int, int] = {}
        self.silence: NoAnswer | BadAnswer | None = None
        self.silences = 0

    def order(self) -> list[int]:
        count = len(self.plan.parts)
        return [(self.state.first + i) % count for i in range(count)]

    def failed(self, index: int, code: int) -> None:
        self.faults[index] = code
        self.values[index] = (None,) * self.plan.parts[index].width


class ModbusDriver(Driver[ModbusLink]):
    """Polls the units of one wire."""

    Settings: ClassVar = ModbusLink

    def __init__(self, name: str, link: ModbusLink, clock: Clock) -> None:
        super().__init__(name, link, clock)
        made = readings(name, link)
        self.groups = tuple(reading.group for reading in made)
        self._states = {(reading.group.device, reading.group.layout.every_ns): _State(reading) for reading in made}
        self._wire = Wire(link)

    async def open(self) -> None:
        """Open the wire. Raises LinkDown."""
        await self._wire.open()

    async def close(self) -> None:
        """Close the wire and free the port."""
        self._wire.close()

    def figures(self) -> Figures:
        """Give what the wire carried, as a whole and for each device; two devices of one unit share its figures."""
        return self._wire.figures({name: device.unit for name, device in self.link.devices.items()})

    async def poll(self, group: Group) -> Frame:
        """Ask for every point of a group, once. Raises LinkDown, NoAnswer, BadAnswer."""
        state = self._states[group.device, group.layout.every_ns]
        poll = _Poll(state, self.clock.boot_ns())
        parts = poll.plan.parts
        for index in poll.order():
            if poll.silences >= _MOST_SILENCES:
                poll.failed(index, status.BAD_TIMEOUT)
            else:
                await self._ask(poll, index, parts[index])
        if poll.answered_ns == poll.began_ns and poll.silence is not None:
            raise poll.silence
        return _frame(poll)

    async def _ask(self, poll: _Poll, index: int, part: Part) -> None:
        try:
            data, exception = await self._wire.ask(poll.state.reading.unit, part.request)
        except NoAnswer as error:
            _silent(poll, index, error)
        except BadAnswer as error:
            poll.silence = error
            poll.failed(index, error.status)
        else:
            if exception:
                self._refused(poll, index, exception)
                return
            poll.answered_ns = self.clock.boot_ns()
            poll.values[index] = part.decode(data)

    def _refused(self, poll: _Poll, index: int, exception: int) -> None:
        if exception == TARGET_SILENT:
            unit = poll.state.reading.unit
            _silent(poll, index, NoAnswer("modbus.target-silent", unit=unit))
            return
        poll.answered_ns = self.clock.boot_ns()
        poll.failed(index, STATUS_OF_EXCEPTION.get(exception, status.BAD_COMMUNICATION_ERROR))
        if exception in (ILLEGAL_DATA_ADDRESS, ILLEGAL_DATA_VALUE) and poll.plan.parts[index].request.holes:
            poll.state.plan = poll.state.reading.whole
            poll.state.first = 0


def _silent(poll: _Poll, index: int, error: NoAnswer) -> None:
    if poll.answered_ns == poll.began_ns:
        poll.state.first = (index + 1) % len(poll.plan.parts)
        raise error
    poll.silences += 1
    poll.failed(index, error.status)


def _frame(poll: _Poll) -> Frame:
    """Make the frame of what the parts brought."""
    plan, judge = poll.plan, poll.state.reading.judge
    values = poll.values[0] if len(poll.values) == 1 else tuple(value for part in poll.values for value in part)
    if plan.order is not None:
        values = in_layout_order(plan, values)
    statuses = None
    if judge is not None:
        values, statuses = judge(values)
    if poll.faults:
        statuses = _with_faults(poll, statuses)
    t_ns, span_ns = poll.answered_ns, poll.answered_ns - poll.began_ns
    return Frame(t_ns - t_ns % 1000, span_ns - span_ns % 1000, values, statuses)


def _with_faults(poll: _Poll, judged: tuple[int, ...] | None) -> tuple[int, ...]:
    spread = [
        poll.faults.get(index, status.GOOD) for index, part in enumerate(poll.plan.parts) for _ in range(part.width)
    ]
    failed = spread if poll.plan.order is None else poll.plan.order(spread)
    return tuple(fault or code for fault, code in zip(failed, judged or (0,) * len(spread), strict=True))
