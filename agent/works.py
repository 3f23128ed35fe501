"""What runs by the names of the configuration: a poller for each link, an uplink for each platform.

What is always true here:

- A link or an uplink that a change does not touch keeps its task, its driver and its connection.
- A change has an order: what goes is stopped and lets go of its port, what it brought is sealed under the old
  catalogue, positions mean what the new one says, then what comes is started. So no frame meets a catalogue that lacks
  its layout.
- Nothing is stopped before it is known that the change can be carried out; no stored block is touched by it (B7).

The composition root enters.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent import formats
from agent.crew import Crew
from agent.gateway_device import GatewayDriver
from agent.health import Document, Health
from agent.kept import Turn
from agent.log import Log
from agent.poller import House, Poller, health_of
from agent.recorder import Recorder
from agent.reload import carriers, catalogues, difference, fixed_faults, makings
from agent.settings import Settings
from agent.uplink import Uplink
from config.errors import ConfigFaults
from config.model import Config
from config.model import Uplink as UplinkSettings
from drivers.api import Driver

POLL_S = 1.0
"""How long a poll under way is waited for."""

_log = Log("works")


class Works:
    """Pollers and uplinks. `new_uplink` makes one from its name and settings by the configuration in force."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self.config: Config = settings.loaded.config
        self.digest = settings.loaded.digest
        self.drivers: Mapping[str, Driver[Any]] = settings.drivers
        self._health = health

    def start(
        self, group: asyncio.TaskGroup, house: House, new_uplink: Callable[[str, UplinkSettings], Uplink]
    ) -> None:
        """Let all begin, in tasks of the group. The recorder is open."""
        self._house = house
        self._new_uplink = new_uplink
        self._pollers, self._uplinks = Crew[Poller](group, "poller"), Crew[Uplink](group, "uplink")
        self._start_uplinks(self.config.uplinks)
        self._start_pollers(self.drivers)

    async def stop_polling(self) -> None:
        """Stop all pollers, when the polls under way have brought their answers."""
        await self._stop_pollers(self._pollers.names)

    async def drained(self) -> None:
        """Wait until every uplink that is connected has delivered everything."""
        await asyncio.gather(*(uplink.drained() for uplink in self._uplinks.workers()))

    async def stop(self) -> None:
        """Stop all uplinks."""
        await self._stop_uplinks(self._uplinks.names)

    async def apply(self, settings: Settings) -> Document:
        """Go over to other settings; say what changed. Raises ConfigFaults or BufferFault, having changed nothing."""
        config, digest, before = settings.loaded.config, settings.loaded.digest, self.digest
        if fixed := list(fixed_faults(self.config, settings.loaded)):
            raise ConfigFaults(fixed, settings.loaded.path)
        links = difference(makings(self.drivers), makings(settings.drivers))
        drivers = {name: one if name in links.new else self.drivers[name] for name, one in settings.drivers.items()}
        old, new = catalogues(self.drivers.values()), catalogues(drivers.values())
        recorder: Recorder = self._house.recorder
        await recorder.admit(config.uplinks, new)
        uplinks = self._uplink_makings()
        await self._stop_pollers(links.gone)
        await recorder.turn(Turn(new, digest, carriers(config)), config.buffer.seal_every)
        self.config, self.digest, self.drivers = config, digest, drivers
        self._health.config_digest = digest.hex()
        recorder.event("config-applied", config=digest, before=before, streams=dict.fromkeys((*old, *new)), urgent=True)
        self._start_pollers(links.new)
        carried = difference(uplinks, self._uplink_makings())
        await self._stop_uplinks(carried.gone)
        self._start_uplinks(carried.new)
        _log.info("config-applied", config=digest, before=before, links=links, uplinks=carried)
        return {"config": digest.hex(), "before": before.hex(), "links": links._asdict(), "uplinks": carried._asdict()}

    def _streams_of(self, settings: UplinkSettings) -> tuple[str, ...]:
        """Give the streams that an uplink carries: of those that the buffer has the ones it names, or all."""
        return tuple(stream for stream in self._health.streams if stream in (settings.streams or (stream,)))

    def _uplink_makings(self) -> dict[str, object]:
        """Give what each uplink is made from."""
        uplinks = self.config.uplinks.items()
        return {name: (one, self._streams_of(one), formats.station(self.config, one, None)) for name, one in uplinks}

    def _start_pollers(self, names: Iterable[str]) -> None:
        before = self._health.links
        new = {name: health_of(self.drivers[name]) for name in names}
        self._health.links = {name: new.get(name) or before[name] for name in self.drivers}
        for name, health in new.items():
            if isinstance(own := self.drivers[name], GatewayDriver):
                own.see(self._health.uplinks)
            self._pollers.start(name, Poller(self.drivers[name], self._house, health))

    async def _stop_pollers(self, names: Iterable[str]) -> None:
        named = tuple(names)
        for poller in self._pollers.workers(named):
            poller.stop()
        await self._pollers.dismiss(named, POLL_S)

    def _start_uplinks(self, names: Iterable[str]) -> None:
        for name in names:
            self._uplinks.start(name, self._new_uplink(name, self.config.uplinks[name]))

    async def _stop_uplinks(self, names: tuple[str, ...]) -> None:
        workers = self._uplinks.workers(names)
        await self._uplinks.dismiss(names)
        for name, uplink in zip(names, workers, strict=True):
            uplink.retire()
            del self._health.uplinks[name]
