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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent import control, formats, ota, push_mail, supervise
from agent.clock import SystemClock
from agent.companions import dismiss
from agent.formats.placing import ChainPlacer
from agent.health import Health, UplinkHealth
from agent.housekeeping import Rules
from agent.identity import hardware_hash
from agent.journal import Hold
from agent.keeper import Identity, Keeper, Site
from agent.log import Log
from agent.opener import make_directory
from agent.orders import KeyOrders
from agent.ota import Ota
from agent.owner import Owner
from agent.poller import House
from agent.recorder import Recorder
from agent.reload import Reloader, carriers, catalogues
from agent.settings import Settings
from agent.state import State
from agent.time_floor import TimeFloor
from agent.timekeeper import Timekeeper
from agent.uplink import Uplink
from agent.uplink_settings import carriage_of, endpoints_of
from agent.works import Works
from buffer.custody import Custody, believed
from buffer.keys import key_path
from buffer.quota import Quota
from config.model import Config
from config.model import Uplink as UplinkSettings

SEAL_S = 2.0
DELIVER_S = 1.2
"""How long leaving waits for the last seal, and for its delivery."""
EVENT_ID_BYTES = 8
new_event_id = partial(os.urandom, EVENT_ID_BYTES)

_log = Log("app")


class App:
    """One station, from its settings. `read` reads a configuration file: the same again for a reload, a pushed one."""

    def __init__(
        self,
        settings: Settings,
        clock: SystemClock,
        read: Callable[[Path], Settings],
        hold: Hold,
        credentials: Path | None = None,
    ) -> None:
        """Compose the house; makes the device key on the first start, or takes the one among systemd's credentials.

        Raises KeyRefused, CredentialRefused or DirectoryRefused.
        """
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - jitter, not secrecy
        self._buffer_path = Path(settings.loaded.config.buffer.path)
        make_directory(self._buffer_path.parent)
        path = key_path(self._buffer_path)
        history = self._buffer_path.exists()
        self._custody = Custody.open(path, credentials and credentials / path.name, history=history)
        self._health = _new_health(settings, self._custody.signer.kid, clock.boot_ns())
        self._works = Works(settings, self._health)
        known, digest = catalogues(settings.drivers.values()), settings.loaded.digest
        identity = Identity(self._config.gateway.id, self._custody.signer, settings.version, hardware_hash(), digest)
        site = Site(
            self._buffer_path,
            identity,
            believed(path),
            known,
            self._config.buffer.max_block,
            custody=self._custody,
            rules=_rules(self._config),
        )
        owner = Owner("buffer")
        self._recorder = Recorder(
            Keeper(site, clock.moment, new_event_id),
            owner,
            clock,
            self._health,
            streams=known,
            seal_every_ns=self._config.buffer.seal_every,
            new_event_id=new_event_id,
        )
        floor = TimeFloor(self._buffer_path.with_name("clock.floor"), clock.boot_ns())
        self._timekeeper = Timekeeper(clock, self._recorder, floor)
        self._orders = KeyOrders(self._custody, self._recorder, owner, self._health)
        self._placer = ChainPlacer(clock.boot_id)
        self._times_needed = asyncio.Event()
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
        self._timekeeper.look()
        self._orders.note()
        if not self._custody.enrolled:
            self._recorder.event("key-lost", key=self._custody.signer.kid, urgent=True)
            _log.error("key-lost", key=self._custody.signer.kid)
        async with asyncio.TaskGroup() as house:
            recording = house.create_task(self._recorder.run(), name="recorder")
            others = [house.create_task(self._timekeeper.run(), name="timekeeper")]
            others.append(house.create_task(self._place(), name="placer"))
            self._works.start(house, House(self._recorder, self._clock, self._rng), self._uplink)
            others.append(house.create_task(self._serve_control(), name="control"))
            others.append(house.create_task(supervise.feed_watchdog(lambda: self._recorder.turns), name="watchdog"))
            reloading = house.create_task(self._reloader.run(), name="reload")
            others.append(house.create_task(self._ota.run(), name="pushes"))
            supervise.notify("READY=1")
            _log.info("running", gateway=self._health.gateway, key=self._health.key_id, links=len(self._works.drivers))
            await stop.wait()
            supervise.notify("STOPPING=1")
            await dismiss([reloading])
            await self._works.stop_polling()
            await self._leave(recording, others)

    async def _leave(self, recording: asyncio.Task[None], others: list[asyncio.Task[Any]]) -> None:
        self._recorder.event("stop", reason="asked", urgent=True)
        self._recorder.stop()
        await asyncio.wait([recording], timeout=SEAL_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._works.drained(), DELIVER_S)
        await dismiss(others)
        await self._works.stop()
        if recording.done():
            await self._recorder.close()
        recording.cancel()
        _log.info("stopped")

    async def _serve_control(self) -> None:
        path = control.socket_path(self._buffer_path)
        answers = {"status": lambda: self._health.document(self._clock.boot_ns())}
        orders = {"reload": self._reloader.order, "accept-remote": self._ota.accept_remote}
        await control.serve(path, answers, {**self._orders.table(), **orders})

    async def _place(self) -> None:
        """Read the chains for the formats that give times, once one of them is needed."""
        await self._times_needed.wait()
        await self._placer.run(self._recorder, tuple(self._health.streams))

    def _uplink(self, name: str, settings: UplinkSettings) -> Uplink:
        if settings.format != formats.BLOCK:
            self._times_needed.set()
        station = formats.station(self._config, settings, lambda: self._custody.signer)
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
            State(self._health, name, self._clock.boot_ns),
            self._rng,
            partial(push_mail.serve, name=name, root=carriage.root, pushes=self._ota)
            if "config" in settings.accept
            else None,
        )


def _rules(config: Config) -> Rules:
    buffer = config.buffer
    quota = Quota(buffer.limit, buffer.keep, buffer.reserve, buffer.when_full)
    return Rules(quota, carriers(config))


def _new_health(settings: Settings, kid: bytes, now_ns: int) -> Health:
    loaded = settings.loaded
    return Health(loaded.config.gateway.id, settings.version, kid.hex(), loaded.digest.hex(), now_ns)
