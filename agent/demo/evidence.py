"""What the demonstration's receiver proved: which numbers arrived, and when each stream was silent.

What is always true here:

- It is fed with proven and decoded blocks only, in any order, each once.
- The time in which the agent was dead is read from the chain: from the last reading of one epoch to the first of the
  next, whose `start` event names its predecessor.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from agent.receiver import Opened
from buffer.frame import Layout, Value

SERIAL = "serial"
"""The point in which every instrument says the number of its answer."""
PUSH_EVENTS = ("config-push", "push-refused")


@dataclass(frozen=True, slots=True)
class Silence:
    """The time between two epochs of a stream, in boot time; named if a `start` event of the later one stands there."""

    stream: str
    from_boot_ns: int
    to_boot_ns: int
    epoch: str
    named: bool


@dataclass(slots=True)
class _Epoch:
    first_seq: int
    first_ns: int | None = None
    last_ns: int | None = None
    started: bool = False


@dataclass(slots=True)
class Evidence:
    """Grows with every opened block. `numbers` are the serial numbers that arrived, by device.

    `pushes` are the steps of configuration pushes that the logbook in the chain tells, in its words.
    """

    numbers: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    readings: int = 0
    pushes: set[str] = field(default_factory=set)
    _epochs: defaultdict[str, dict[bytes, _Epoch]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, opened: Opened) -> None:
        """Take one block."""
        header, payload = opened.header, opened.payload
        self.readings += header.readings
        self.pushes.update(str(dict(event.data)["push"]) for event in payload.events if event.type in PUSH_EVENTS)
        for index, frames in payload.frames:
            layout = opened.layouts[index]
            if (at := _serial_at(layout)) is not None:
                self._note(layout.device, (frame.values[at] for frame in frames))
        for index, changes in payload.changes:
            layout = opened.layouts[index]
            at = _serial_at(layout)
            self._note(layout.device, (change.value for change in changes if change.point == at))
        self._time(opened)

    def silences(self) -> list[Silence]:
        """Give the time between the epochs of each stream."""
        found = []
        for stream, epochs in self._epochs.items():
            ordered = sorted(epochs.items(), key=lambda item: item[1].first_seq)
            for (_, before), (epoch, after) in pairwise(ordered):
                begin_ns, end_ns = before.last_ns or 0, after.first_ns or 0
                found.append(Silence(stream, begin_ns, end_ns, epoch.hex(), after.started))
        return found

    def _note(self, device: str, values: Iterable[Value]) -> None:
        self.numbers[device].update(value for value in values if isinstance(value, int))

    def _time(self, opened: Opened) -> None:
        header = opened.header
        epoch = self._epochs[header.stream].setdefault(header.epoch, _Epoch(header.seq))
        epoch.first_seq = min(epoch.first_seq, header.seq)
        epoch.started = epoch.started or any(event.type == "start" for event in opened.payload.events)
        times = [frame.t_boot_ns for _, frames in opened.payload.frames for frame in frames]
        times += [change.t_boot_ns for _, changes in opened.payload.changes for change in changes]
        if times:
            epoch.first_ns = min(times) if epoch.first_ns is None else min(epoch.first_ns, *times)
            epoch.last_ns = max(times) if epoch.last_ns is None else max(epoch.last_ns, *times)


def _serial_at(layout: Layout) -> int | None:
    names = [column.name for column in layout.columns]
    return names.index(SERIAL) if SERIAL in names else None
