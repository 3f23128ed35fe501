"""The composition root: the only file that knows everyone.

What is always true here:

- A fault of configuration, key or buffer ends the start before anything is polled, and nothing is lost by it.
- Leaving has an order: pollers stop, what they brought is sealed, uplinks get a moment to deliver it, the store closes.
  All of it takes less than five seconds, whatever hangs.
- A task of the house that fails is a bug of ours: it ends the process, systemd restarts it, recovery proves the head.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent import control, formats, supervise
from agent.clock import SystemClock
from agent.errors import DirectoryRefused
from agent.formats.placing import ChainPlacer
from agent.health import DeviceHealth, Health, LinkHealth, UplinkHealth
from agent.housekeeping import Rules
from agent.identity import hardware_hash, version
from agent.keeper import Identity, Keeper, Site
from agent.log import Log
from agent.orders import KeyOrders
from agent.owner import Owner
from agent.poller import House, Poller
from agent.recorder import Recorder
from agent.settings import Settings
from agent.time_floor import TimeFloor
from agent.timekeeper import Timekeeper
from agent.uplink import Uplink
from agent.uplink_settings import carriage_of, endpoints_of
from buffer.custody import Custody, believed
from buffer.frame import Layout
from buffer.quota import Quota
from config.model import Uplink as UplinkSettings
from drivers.api import Driver, Group

POLL_S = 1.0
SEAL_S = 2.0
DELIVER_S = 1.2
"""How long leaving waits for polls under way, for the last seal, and for its delivery."""
EVENT_ID_BYTES = 8

_log = Log("app")


class App:
    """One station, from its settings."""

    def __init__(self, settings: Settings, clock: SystemClock, credentials: Path | None = None) -> None:
        """Compose the house; makes the device key on the first start, or takes the one among systemd's credentials.

        Raises KeyRefused, CredentialRefused or DirectoryRefused.
        """
        self._config = settings.loaded.config
        self._digest = settings.loaded.digest
        self._drivers = tuple(settings.drivers.values())
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - jitter, not secrecy
        self._buffer_path = Path(self._config.buffer.path)
        _make_directory(self._buffer_path.parent)
        path = key_path(self._buffer_path)
        history = self._buffer_path.exists()
        self._custody = Custody.open(path, credentials and credentials / path.name, history=history)
        self._health = self._new_health()
        catalogues = _catalogues(group for driver in self._drivers for group in driver.groups)
        identity = Identity(self._config.gateway.id, self._custody.signer, version(), hardware_hash(), self._digest)
        max_block = self._config.buffer.max_block
        site = Site(
            self._buffer_path,
            identity,
            believed(path),
            catalogues,
            max_block,
            custody=self._custody,
            rules=self._rules(),
        )
        owner = Owner("buffer")
        self._recorder = Recorder(
            Keeper(site, clock.moment, _event_id),
            owner,
            clock,
            self._health,
            streams=catalogues,
            seal_every_ns=self._config.buffer.seal_every,
            new_event_id=_event_id,
        )
        floor = TimeFloor(self._buffer_path.with_name("clock.floor"), clock.boot_ns())
        self._timekeeper = Timekeeper(clock, self._recorder, floor)
        self._orders = KeyOrders(self._custody, self._recorder, owner, self._health)
        self._placer = ChainPlacer(clock.boot_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises what the store raises when it cannot be opened."""
        await self._recorder.open(self._config.uplinks)
        self._timekeeper.look()
        self._orders.note()
        if not self._custody.enrolled:
            self._recorder.event("key-lost", key=self._custody.signer.kid, urgent=True)
            _log.error("key-lost", key=self._custody.signer.kid)
        uplinks = [self._uplink(name, settings) for name, settings in self._config.uplinks.items()]
        async with asyncio.TaskGroup() as house:
            recording = house.create_task(self._recorder.run(), name="recorder")
            others = [house.create_task(uplink.run(), name="uplink") for uplink in uplinks]
            others.append(house.create_task(self._timekeeper.run(), name="timekeeper"))
            if any(uplink.format != formats.BLOCK for uplink in self._config.uplinks.values()):
                others.append(house.create_task(self._placer.run(self._recorder, self._health.streams), name="placer"))
            others.append(house.create_task(self._serve_control(), name="control"))
            others.append(house.create_task(supervise.feed_watchdog(lambda: self._recorder.turns), name="watchdog"))
            pollers = [self._poller(driver) for driver in self._drivers]
            polling = [house.create_task(poller.run(), name="poller") for poller in pollers]
            supervise.notify("READY=1")
            _log.info("running", gateway=self._health.gateway, key=self._health.key_id, links=len(polling))
            await stop.wait()
            supervise.notify("STOPPING=1")
            for poller in pollers:
                poller.stop()
            await asyncio.wait(polling, timeout=POLL_S)
            await _cancel(polling)
            await self._leave(recording, uplinks, others)

    async def _leave(
        self,
        recording: asyncio.Task[None],
        uplinks: list[Uplink],
        others: list[asyncio.Task[Any]],
    ) -> None:
        self._recorder.event("stop", reason="asked", urgent=True)
        self._recorder.stop()
        await asyncio.wait([recording], timeout=SEAL_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(uplink.drained() for uplink in uplinks)), DELIVER_S)
        await _cancel(others)
        if recording.done():
            await self._recorder.close()
        recording.cancel()
        _log.info("stopped")

    def _rules(self) -> Rules:
        buffer = self._config.buffer
        quota = Quota(buffer.limit, buffer.keep, buffer.reserve, buffer.when_full)
        return Rules(quota, {name: uplink.streams for name, uplink in self._config.uplinks.items()})

    async def _serve_control(self) -> None:
        path = control.socket_path(self._buffer_path)
        answers = {"status": lambda: self._health.document(self._clock.boot_ns())}
        await control.serve(path, answers, self._orders.table())

    def _poller(self, driver: Driver[Any]) -> Poller:
        house = House(self._recorder, self._clock, self._rng)
        return Poller(driver, house, self._health.links[driver.name])

    def _uplink(self, name: str, settings: UplinkSettings) -> Uplink:
        station = formats.station(self._config, settings, self._custody.signer)
        encoding = formats.encoding(station, settings, self._placer)
        known, zone = tuple(self._health.streams), self._config.gateway.timezone
        carriage = carriage_of(name, station.root, encoding, settings, known, zone)
        health = UplinkHealth(carriage.streams, restricted=settings.points is not None)
        self._health.uplinks[name] = health
        return Uplink(
            carriage,
            endpoints_of(f"{self._config.gateway.id}.{name}", settings),
            self._recorder,
            health,
            lambda: self._health.document(self._clock.boot_ns(), name),
            self._rng,
        )

    def _new_health(self) -> Health:
        health = Health(
            gateway=self._config.gateway.id,
            version=version(),
            key_id=self._custody.signer.kid.hex(),
            config_digest=self._digest.hex(),
            started_ns=self._clock.boot_ns(),
        )
        for driver in self._drivers:
            devices = {
                group.device: DeviceHealth(group.stream, every_ns=_shortest(driver, group.device))
                for group in driver.groups
            }
            health.links[driver.name] = LinkHealth(
                driver.link.driver, devices, parked=driver.parked, figures=driver.figures
            )
        return health


def _shortest(driver: Driver[Any], device: str) -> int | None:
    """Give the shortest interval of a device's groups."""
    intervals = [group.layout.every_ns for group in driver.groups if group.device == device]
    return min((every_ns for every_ns in intervals if every_ns is not None), default=None)


def key_path(buffer_path: Path) -> Path:
    """Give the device key that belongs to a buffer: a sibling, so that both are kept or lost together."""
    return buffer_path.with_name("device.key")


def _catalogues(groups: Iterable[Group]) -> dict[str, tuple[Layout, ...]]:
    catalogues: dict[str, tuple[Layout, ...]] = {}
    for group in groups:
        catalogues[group.stream] = (*catalogues.get(group.stream, ()), group.layout)
    return catalogues


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryRefused("agent.directory-refused", directory=path, reason=error.strerror) from error


def _event_id() -> bytes:
    return os.urandom(EVENT_ID_BYTES)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
