"""The simulated driver: a link without a wire, for a first look, a demonstration and tests of what stands above it.

What is always true here: every poll of an open link answers at once with the next value of each wave; a closed link
is down. A new driver begins its waves anew.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from buffer import status
from buffer.frame import MAX_POINTS, Frame, Layout, Value
from drivers.api import Clock, Driver, DriverMisconfigured, Group
from drivers.columns import column_of
from drivers.errors import LinkDown
from drivers.plausible import RawRange, raw_range
from drivers.simulated.settings import SimulatedLink, SimulatedPoint
from drivers.simulated.waves import wave


class _Source(NamedTuple):
    group: Group
    waves: tuple[Iterator[Value], ...]
    plausible: tuple[RawRange, ...]


class SimulatedDriver(Driver[SimulatedLink]):
    """Makes its readings up."""

    Settings: ClassVar = SimulatedLink

    def __init__(self, name: str, link: SimulatedLink, clock: Clock) -> None:
        super().__init__(name, link, clock)
        made = tuple(source for device in link.devices for source in _of_device(name, link, device))
        self.groups = tuple(source.group for source in made)
        self._sources = {(source.group.device, source.group.layout.every_ns): source for source in made}
        self._open = False

    async def open(self) -> None:
        """Begin to answer."""
        self._open = True

    async def close(self) -> None:
        """Answer no more."""
        self._open = False

    async def poll(self, group: Group) -> Frame:
        """Give the next value of each wave. Raises LinkDown while closed."""
        if not self._open:
            raise LinkDown("simulated.closed", link=self.name)
        source = self._sources[group.device, group.layout.every_ns]
        now_ns = self.clock.boot_ns()
        values = tuple(next(values) for values in source.waves)
        return Frame(now_ns - now_ns % 1000, 0, values, _judged(values, source.plausible))


def _judged(values: tuple[Value, ...], plausible: tuple[RawRange, ...]) -> tuple[int, ...] | None:
    codes = tuple(
        status.GOOD if not isinstance(value, int | float) or bounds.holds(value) else status.BAD_OUT_OF_RANGE
        for value, bounds in zip(values, plausible, strict=True)
    )
    return codes if any(codes) else None


def _of_device(name: str, link: SimulatedLink, device_name: str) -> Iterator[_Source]:
    device = link.devices[device_name]
    path = ("devices", device_name)
    if not device.points:
        raise DriverMisconfigured(path, "drivers.no-points", device=device_name)
    if len(device.points) > MAX_POINTS:
        raise DriverMisconfigured(path, "drivers.too-many-points", most=MAX_POINTS)
    intervals: dict[int, dict[str, SimulatedPoint]] = {}
    for point_name, point in device.points.items():
        every_ns = point.every or device.every
        if every_ns is None:
            raise DriverMisconfigured((*path, "points", point_name), "drivers.every-missing", point=point_name)
        intervals.setdefault(every_ns, {})[point_name] = point
    for every_ns, points in intervals.items():
        columns = tuple(
            column_of(point_name, point.type, point, f"wave:{point.wave}") for point_name, point in points.items()
        )
        waves = tuple(
            wave(point, every_ns, f"{device.seed}/{device_name}/{point_name}") for point_name, point in points.items()
        )
        plausible = tuple(raw_range(point, whole="int" in point.type) for point in points.values())
        layout = Layout(name, device_name, "simulated", every_ns, columns)
        yield _Source(Group(device_name, device.stream, layout), waves, plausible)
