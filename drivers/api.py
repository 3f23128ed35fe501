"""The page for driver authors: what a driver is given, what it must give, and what it may raise.

A driver owns one *link*: one wire, one connection. It is made from the link's part of the technician's file, says at
once and without I/O which groups it will fill, and then fills them:

    driver = ModbusDriver("bus-1", link, clock)   # pure: may raise DriverMisconfigured, opens nothing
    driver.groups                                 # what it will fill
    await driver.open()                           # or LinkDown
    frame = await driver.poll(group)              # or LinkDown, NoAnswer, BadAnswer, Misfit
    await driver.listen(group, emit)              # for groups that the instrument pushes; returns never, or raises
    await driver.write("meter", "setpoint", value)  # what a command asks for; gives what the instrument then holds
    driver.figures()                              # what the wire carried
    driver.parked()                               # what instruments refuse, and is not asked for now
    driver.planned_load()                         # the share of the wire's time that all this will take
    await driver.close()                          # always safe, also after a failed open and twice

What is always true of it:

- One caller at a time: the poller owns the link, so a half-duplex bus needs no lock. `listen` runs beside `poll`.
- The poller keeps the schedule, the retries and the back-off; a driver asks once and answers or raises.
- `write` is for the link's owner too, between polls. It writes to points that are marked writable, within their limits,
  which are judged before anything goes to the wire; else it raises WriteRefused.
- `poll` returns a frame whenever the device said anything of use: a part that failed has a status and no value.
- Values are raw (see `buffer.frame`); nothing is scaled here.
- It raises only what `drivers.errors` names. Foreign exceptions are translated in the one file that imports the
  foreign library. Anything else is a bug; the poller logs it with its traceback and treats the link as down.
- Cancellation may come at any await; `close` must still leave the port free.
- Its time-outs are its own: no await on the wire lasts longer than its configured `timeout`.

A new driver is a folder with `driver.py`, `settings.py`, `README.md` and `sample.yaml`, and one entry point in the
group `trambien.drivers`. `drivers.conformance` is the suite that it must pass.

Its settings are plain records below `Link`, `Device` and `Point`, with marks of `config.shape` beside the types:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class MeterPoint(Point):
        number: Annotated[int, Between(0, 255), Key("no")]      # `no:` in the file
        deadband: Exact | None = None

        def __post_init__(self) -> None:                        # what keys mean together; all of them are sound here
            if self.deadband and Decimal(self.deadband) < 0:
                raise Wrong("meter.deadband", deadband=self.deadband)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class MeterDevice(Device[MeterPoint]):
        unit: Annotated[int, Between(1, 247)]

    @dataclass(frozen=True, slots=True, kw_only=True)
    class MeterLink(Link[MeterDevice]):
        driver: Literal["meter"] = "meter"
        serial: Serial

- They are judged by another process than the one that polls, and go there by pickle: their fields hold plain values,
  and `settings.py` imports no library of the wire.
- Types are exact and every key is known. A list is a tuple. A code is a key into the words of `config/locale`.
- Whoever makes one writes `MeterPoint(...)`, without brackets; a value that may be wrong goes through `config.judge`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from buffer.frame import Change, Frame, Layout, Value
from config.model import Link
from drivers.errors import WriteRefused

L = TypeVar("L", bound=Link[Any])


class Clock(Protocol):
    """The time a driver may know."""

    def boot_ns(self) -> int:
        """Give CLOCK_BOOTTIME in nanoseconds."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one device with one interval, whatever requests the driver makes of them.

    `layout.every_ns` is the interval, or None where the instrument pushes. `stream` is the chain it is kept in.
    """

    device: str
    stream: str
    layout: Layout


Emit = Callable[[Sequence[Change]], Awaitable[None]]
"""Takes changes in order of arrival; awaits while the queue behind it is full."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What one far end, or a whole link, has cost and brought since the driver was made.

    `errors` has a count for each kind that occurred. `round_trip_s` is p50, p95 and p99 of the last answers.
    """

    questions: int = 0
    answers: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    errors: tuple[tuple[str, int], ...] = ()
    round_trip_s: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a link has carried since the driver was made.

    `open_s` is how long it was open, `held_s` how long a question was out, `carried_s` how long its bytes took where
    the line has a known pace. Two readings, subtracted, give what happened between them.
    """

    link: Tally = Tally()
    devices: tuple[tuple[str, Tally], ...] = ()
    open_s: float = 0.0
    held_s: float = 0.0
    carried_s: float | None = None

    @property
    def load(self) -> float | None:
        """The fraction of what the line can carry that it did carry; None where nobody knows."""
        return None if self.carried_s is None or not self.open_s else self.carried_s / self.open_s

    @property
    def held(self) -> float:
        """The fraction of the time in which a question was out, so that no other could be."""
        return self.held_s / self.open_s if self.open_s else 0.0


@dataclass(frozen=True, slots=True)
class Parked:
    """A part of a device that is not asked for now, because the device refuses it.

    `table` and `address` are the driver's own way to name the place, `count` how many cells it has (0: two neighbours
    that are not answered together). `points` are those that stand in it; none where it is a hole. `reason` is a message
    code.
    """

    device: str
    table: str
    address: int
    count: int
    points: tuple[str, ...]
    reason: str


class DriverMisconfigured(Exception):
    """The settings are well-formed but cannot be carried out. `path` leads to the place inside the link.

    `others` are faults that were found with it; they have no others themselves.
    """

    others: "tuple[DriverMisconfigured, ...]" = ()

    def __init__(self, path: tuple[str | int, ...], code: str, **fields: object) -> None:
        self.path = path
        self.code = code
        self.fields = fields
        super().__init__(code, path, fields)

    def with_others(self, others: "Sequence[DriverMisconfigured]") -> Self:
        """Add what was found with it."""
        self.others = tuple(others)
        return self


class Driver(ABC, Generic[L]):
    """One link. Subclasses set `Settings`, fill `groups` in their constructor, and implement what they can do."""

    Settings: ClassVar[type[Link[Any]]]
    """The model of a link's part of the technician's file."""

    groups: tuple[Group, ...]

    def __init__(self, name: str, link: L, clock: Clock) -> None:
        self.name = name
        self.link = link
        self.clock = clock

    @abstractmethod
    async def open(self) -> None:
        """Open the wire. Raises LinkDown."""

    @abstractmethod
    async def close(self) -> None:
        """Close the wire and free the port. Never raises; may be called twice."""

    def figures(self) -> Figures:
        """Give what the link has carried; a driver that does not count gives none. May be called at any time."""
        return Figures()

    async def poll(self, group: Group) -> Frame:
        """Ask for every point of a polled group, once."""
        raise NotImplementedError(group)

    async def listen(self, group: Group, emit: Emit) -> None:
        """Pass on what the instrument pushes, until cancelled. Raises LinkDown when the source is gone."""
        raise NotImplementedError(group, emit)

    async def write(self, device: str, point: str, value: Decimal) -> Value:
        """Write an engineering value; give the raw value that the instrument holds afterwards, read back.

        Raises WriteRefused (nothing was sent), LinkDown, NoAnswer, BadAnswer (it was sent; what holds is not known).
        """
        raise WriteRefused("drivers.no-writes", device=device, point=point, value=value)

    def parked(self) -> tuple[Parked, ...]:
        """Give what is not asked for now, because a device refuses it."""
        return ()

    def planned_load(self) -> float | None:
        """Give the share of the wire's time that the groups need at their intervals; None where nobody can tell."""
        return None
