"""The device `gateway`: the station measures itself and its links, and keeps that like every other reading.

What is always true here:

- It is a driver like any other to the poller and the recorder: a link, one device, one group of its own interval.
- What is not known (no thermal zone, no acknowledgement since the last poll) has no value and the status BadNoData.
- It is kept in the stream that the configuration names; whoever carries that stream sees how good every link is.

The composition root enters.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from agent import machine
from agent.health import UplinkHealth
from agent.link_quality import Quality
from buffer import status
from buffer.frame import Column, Frame, Layout, Value
from config.model import OWN_DEVICE, Device, Link, Point, Watch
from drivers.api import Clock, Driver, Group

_MACHINE = (
    Column("load", "float32", note="mean of a minute"),
    Column("cpu", "float32", "%", note="of one core, this process, since the last poll"),
    Column("memory_total", "uint64", "B"),
    Column("memory_free", "uint64", "B"),
    Column("memory_most", "uint64", "B", note="the most that this process ever had"),
    Column("temperature", "float32", "°C"),
    Column("disk_total", "uint64", "B", note="of the buffer's file system"),
    Column("disk_free", "uint64", "B", note="of the buffer's file system"),
)
_UPLINK = (
    Column("up", "bool"),
    Column("p50", "float32", "ms", note="round trip of an acknowledgement, since the last poll"),
    Column("p95", "float32", "ms"),
    Column("p99", "float32", "ms"),
    Column("drain", "float32", "B/s", note="payload acknowledged while a backlog was drained"),
    Column("losses", "uint32", note="sessions lost since the start"),
    Column("cause", "text", note="of the last loss"),
    Column("outage", "float32", "s", note="how long the last loss took"),
    Column("available_hour", "float32", "%"),
    Column("available_day", "float32", "%"),
    Column("sent", "uint64", "B", note="payload since the start"),
    Column("pending", "uint32", note="blocks"),
)
_NOTHING: tuple[Value, ...] = (None,) * len(_UPLINK)


class GatewayDriver(Driver[Link[Device[Point]]]):
    """Measures the station. `uplinks` are the names of those configured; `disk` lies on the buffer's file system."""

    Settings = Link

    def __init__(self, watch: Watch, clock: Clock, uplinks: Iterable[str], disk: Path) -> None:
        device: Device[Point] = Device(every=watch.every, stream=watch.stream)
        super().__init__(OWN_DEVICE, Link(driver=OWN_DEVICE, devices={OWN_DEVICE: device}), clock)
        self._names = tuple(uplinks)
        self._uplinks: Mapping[str, UplinkHealth] = {}
        self._disk = disk
        self._cpu: tuple[int, float] | None = None
        columns = _MACHINE + tuple(
            Column(f"{name}_{column.name}", column.kind, column.unit, note=column.note)
            for name in self._names
            for column in _UPLINK
        )
        self.groups = (
            Group(OWN_DEVICE, watch.stream, Layout(OWN_DEVICE, OWN_DEVICE, OWN_DEVICE, watch.every, columns)),
        )

    def see(self, uplinks: Mapping[str, UplinkHealth]) -> None:
        """Be told where what is known of the uplinks stands."""
        self._uplinks = uplinks

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    async def poll(self, group: Group) -> Frame:  # noqa: ARG002  it has one
        """Measure."""
        began_ns = self.clock.boot_ns()
        values: list[Value] = [*self._machine(began_ns)]
        for name in self._names:
            health = self._uplinks.get(name)
            values += _NOTHING if health is None else _uplink(health.quality.take(began_ns), health)
        now_ns = self.clock.boot_ns()
        unknown = any(value is None for value in values)
        statuses = tuple(status.BAD_NO_DATA if value is None else status.GOOD for value in values)
        return Frame(now_ns, now_ns - began_ns, tuple(values), statuses if unknown else None)

    def _machine(self, now_ns: int) -> tuple[Value, ...]:
        seen = machine.look(self._disk)
        before, self._cpu = self._cpu, (now_ns, seen.cpu_s)
        cpu = None
        if before is not None and now_ns > before[0]:
            cpu = (seen.cpu_s - before[1]) * 1e11 / (now_ns - before[0])
        return (
            seen.load,
            cpu,
            seen.memory_total,
            seen.memory_free,
            seen.memory_most,
            seen.temperature,
            seen.disk_total,
            seen.disk_free,
        )


def _uplink(quality: Quality, health: UplinkHealth) -> tuple[Value, ...]:
    return (
        quality.up,
        quality.p50_ms,
        quality.p95_ms,
        quality.p99_ms,
        quality.drain_rate,
        quality.losses,
        quality.cause,
        quality.outage_s,
        quality.hour_percent,
        quality.day_percent,
        health.bytes_sent,
        sum(health.pending.values()),
    )
