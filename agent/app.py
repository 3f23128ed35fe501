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

from agent import control, supervise
from agent.broker import Endpoint, split_url
from agent.carrier import Carriage
from agent.clock import SystemClock
from agent.errors import DirectoryRefused
from agent.formats import FORMATS
from agent.health import DeviceHealth, Health, LinkHealth, UplinkHealth
from agent.housekeeping import Rules
from agent.identity import hardware_hash, version
from agent.keeper import Identity, Keeper, Site
from agent.log import Log
from agent.owner import Owner
from agent.poller import House, Poller
from agent.recorder import Recorder
from agent.settings import Settings
from agent.uplink import Uplink
from buffer.frame import Layout
from buffer.keys import known_public, load_or_create
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

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        """Compose the house; makes the device key on the first start. Raises KeyRefused or DirectoryRefused."""
        self._config = settings.loaded.config
        self._digest = settings.loaded.digest
        self._drivers = tuple(settings.drivers.values())
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - jitter, not secrecy
        self._buffer_path = Path(self._config.buffer.path)
        _make_directory(self._buffer_path.parent)
        self._key, self._key_fate = load_or_create(key_path(self._buffer_path))
        self._health = self._new_health()
        catalogues = _catalogues(group for driver in self._drivers for group in driver.groups)
        identity = Identity(self._config.gateway.id, self._key, version(), hardware_hash(), self._digest)
        keys = known_public(key_path(self._buffer_path))
        site = Site(self._buffer_path, identity, keys, catalogues, self._config.buffer.max_block, self._rules())
        self._recorder = Recorder(
            Keeper(site, clock.moment, _event_id),
            Owner("buffer"),
            clock,
            self._health,
            streams=catalogues,
            seal_every_ns=self._config.buffer.seal_every,
            new_event_id=_event_id,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises what the store raises when it cannot be opened."""
        await self._recorder.open(self._config.uplinks)
        if self._key_fate == "replaced" or (self._key_fate == "created" and self._recorder.has_history):
            self._recorder.event("key-lost", key=self._key.kid, urgent=True)
            _log.error("key-lost", key=self._key.kid)
        uplinks = [self._uplink(name, settings) for name, settings in self._config.uplinks.items()]
        async with asyncio.TaskGroup() as house:
            recording = house.create_task(self._recorder.run(), name="recorder")
            others = [house.create_task(uplink.run(), name="uplink") for uplink in uplinks]
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
        await control.serve(path, {"status": lambda: self._health.document(self._clock.boot_ns())})

    def _poller(self, driver: Driver[Any]) -> Poller:
        house = House(self._recorder, self._clock, self._rng)
        return Poller(driver, house, self._health.links[driver.name])

    def _uplink(self, name: str, settings: UplinkSettings) -> Uplink:
        streams = settings.streams or tuple(self._health.streams)
        gateway = self._config.gateway.id
        carriage = Carriage(name, f"{settings.prefix}/{gateway}", streams, FORMATS[settings.format])
        health = self._health.uplinks[name] = UplinkHealth(streams)
        return Uplink(
            carriage,
            self._endpoint(name, settings),
            self._recorder,
            health,
            lambda: self._health.document(self._clock.boot_ns(), name),
            self._rng,
        )

    def _endpoint(self, name: str, settings: UplinkSettings) -> Endpoint:
        _, host, port = split_url(settings.url)
        if settings.mqtt != "5":
            _log.warning("mqtt-311", uplink=name, effect="a refused publish cannot be told from an accepted one")
        client_id = f"{self._config.gateway.id}.{name}"
        protocol = 5 if settings.mqtt == "5" else 4
        if settings.tls is None:
            return Endpoint(host, port, client_id, protocol=protocol, window=settings.window)
        tls = settings.tls
        return Endpoint(host, port, client_id, tls.ca, tls.cert, tls.key, protocol, settings.window)

    def _new_health(self) -> Health:
        health = Health(
            gateway=self._config.gateway.id,
            version=version(),
            key_id=self._key.kid.hex(),
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
