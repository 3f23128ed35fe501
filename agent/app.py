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
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from agent import control, ota, push_mail, supervise
from agent.broker import Endpoint, split_url
from agent.carrier import Carriage
from agent.clock import SystemClock
from agent.errors import DirectoryRefused
from agent.formats import FORMATS
from agent.health import Health, UplinkHealth
from agent.identity import hardware_hash, version
from agent.journal import Hold
from agent.keeper import Identity, Keeper, Site
from agent.log import Log
from agent.ota import Ota
from agent.owner import Owner
from agent.poller import House
from agent.recorder import Recorder
from agent.reload import Reloader, catalogues
from agent.settings import Settings
from agent.uplink import Uplink
from agent.works import Works
from buffer.keys import known_public, load_or_create
from config.model import Config
from config.model import Uplink as UplinkSettings

SEAL_S = 2.0
DELIVER_S = 1.2
"""How long leaving waits for the last seal, and for its delivery."""
EVENT_ID_BYTES = 8

_log = Log("app")


class App:
    """One station, from its settings. `read` reads a configuration file: the same again for a reload, a pushed one."""

    def __init__(self, settings: Settings, clock: SystemClock, read: Callable[[Path], Settings], hold: Hold) -> None:
        """Compose the house; makes the device key on the first start. Raises KeyRefused or DirectoryRefused."""
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - jitter, not secrecy
        self._buffer_path = Path(settings.loaded.config.buffer.path)
        _make_directory(self._buffer_path.parent)
        self._key, self._key_fate = load_or_create(key_path(self._buffer_path))
        self._health = _new_health(settings, self._key.kid, clock.boot_ns())
        self._works = Works(settings, self._health)
        known = catalogues(settings.drivers.values())
        identity = Identity(self._config.gateway.id, self._key, version(), hardware_hash(), self._works.digest)
        keys = known_public(key_path(self._buffer_path))
        site = Site(self._buffer_path, identity, keys, known, self._config.buffer.max_block)
        self._recorder = Recorder(
            Keeper(site, clock.moment, _event_id),
            Owner("buffer"),
            clock,
            self._health,
            streams=known,
            seal_every_ns=self._config.buffer.seal_every,
            new_event_id=_event_id,
        )
        file = settings.loaded.path
        self._reloader = Reloader(file, partial(read, file), self._works.apply, self._recorder, self._health)
        house = ota.House(self._reloader.order, lambda: self._health.document(clock.boot_ns()), self._recorder.event)
        self._ota = Ota(hold, house, clock.moment, read, self._config.gateway.id)

    @property
    def _config(self) -> Config:
        """The configuration in force."""
        return self._works.config

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises what the store raises when it cannot be opened."""
        supervise.on_reload(self._reloader.ask)
        await self._recorder.open(self._config.uplinks)
        if self._key_fate == "replaced" or (self._key_fate == "created" and self._recorder.has_history):
            self._recorder.event("key-lost", key=self._key.kid, urgent=True)
            _log.error("key-lost", key=self._key.kid)
        async with asyncio.TaskGroup() as house:
            recording = house.create_task(self._recorder.run(), name="recorder")
            self._works.start(house, House(self._recorder, self._clock, self._rng), self._uplink)
            others = [house.create_task(self._serve_control(), name="control")]
            others.append(house.create_task(supervise.feed_watchdog(lambda: self._recorder.turns), name="watchdog"))
            reloading = house.create_task(self._reloader.run(), name="reload")
            others.append(house.create_task(self._ota.run(), name="pushes"))
            supervise.notify("READY=1")
            _log.info("running", gateway=self._health.gateway, key=self._health.key_id, links=len(self._works.drivers))
            await stop.wait()
            supervise.notify("STOPPING=1")
            await _cancel([reloading])
            await self._works.stop_polling()
            await self._leave(recording, others)

    async def _leave(
        self,
        recording: asyncio.Task[None],
        others: list[asyncio.Task[Any]],
    ) -> None:
        self._recorder.event("stop", reason="asked", urgent=True)
        self._recorder.stop()
        await asyncio.wait([recording], timeout=SEAL_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._works.drained(), DELIVER_S)
        await _cancel(others)
        await self._works.stop()
        if recording.done():
            await self._recorder.close()
        recording.cancel()
        _log.info("stopped")

    async def _serve_control(self) -> None:
        path = control.socket_path(self._buffer_path)
        answers = {"status": lambda: self._health.document(self._clock.boot_ns())}
        await control.serve(path, answers, {"reload": self._reloader.order, "accept-remote": self._ota.accept_remote})

    def _uplink(self, name: str, settings: UplinkSettings) -> Uplink:
        streams = self._works.streams_of(settings)
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
            partial(push_mail.serve, name=name, root=carriage.root, pushes=self._ota)
            if "config" in settings.accept
            else None,
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


def _new_health(settings: Settings, kid: bytes, now_ns: int) -> Health:
    loaded = settings.loaded
    return Health(loaded.config.gateway.id, version(), kid.hex(), loaded.digest.hex(), now_ns)


def key_path(buffer_path: Path) -> Path:
    """Give the device key that belongs to a buffer: a sibling, so that both are kept or lost together."""
    return buffer_path.with_name("device.key")


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
