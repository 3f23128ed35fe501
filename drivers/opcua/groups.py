"""From a link's settings to its groups. Pure.

A device that reads has one group for each interval; a device that subscribes is one group without an interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from buffer.frame import MAX_POINTS, Layout
from drivers.api import DriverMisconfigured, Group
from drivers.columns import column_of
from drivers.opcua.fit import Fit
from drivers.opcua.settings import OpcUaDevice, OpcUaLink, OpcUaPoint
from drivers.plausible import raw_range


@dataclass(frozen=True, slots=True)
class Source:
    """A group, its points in layout order, and how each value is taken."""

    group: Group
    device: OpcUaDevice
    points: tuple[OpcUaPoint, ...]
    fits: tuple[Fit, ...]


def sources(name: str, link: OpcUaLink) -> tuple[Source, ...]:
    """Make the groups of a link. Raises DriverMisconfigured."""
    return tuple(source for device in link.devices for source in _of_device(name, link, device))


def _of_device(name: str, link: OpcUaLink, device_name: str) -> Iterator[Source]:
    device = link.devices[device_name]
    path = ("devices", device_name)
    if not device.points:
        raise DriverMisconfigured(path, "drivers.no-points", device=device_name)
    if len(device.points) > MAX_POINTS:
        raise DriverMisconfigured(path, "drivers.too-many-points", most=MAX_POINTS)
    if device.subscribe is not None and device.every is not None:
        raise DriverMisconfigured((*path, "every"), "opcua.every-and-subscribe", device=device_name)
    intervals: dict[int | None, dict[str, OpcUaPoint]] = {}
    for point_name, point in device.points.items():
        intervals.setdefault(_every_ns(device, point, (*path, "points", point_name)), {})[point_name] = point
    for every_ns, points in intervals.items():
        columns = tuple(column_of(point_name, point.type, point, point.node) for point_name, point in points.items())
        fits = tuple(_fit(point) for point in points.values())
        group = Group(device_name, device.stream, Layout(name, device_name, "opcua", every_ns, columns))
        yield Source(group, device, tuple(points.values()), fits)


def _every_ns(device: OpcUaDevice, point: OpcUaPoint, path: tuple[str | int, ...]) -> int | None:
    every_ns = point.every or device.every
    if device.subscribe is not None:
        if point.every is not None:
            raise DriverMisconfigured((*path, "every"), "opcua.every-and-subscribe", device=path[1])
        return None
    if every_ns is None:
        raise DriverMisconfigured(path, "opcua.every-or-subscribe", point=path[-1])
    if point.deadband is not None:
        raise DriverMisconfigured((*path, "deadband"), "opcua.deadband-needs-subscribe", point=path[-1])
    return every_ns


def _fit(point: OpcUaPoint) -> Fit:
    return Fit(point.type, raw_range(point, whole="int" in point.type))
