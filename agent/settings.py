"""A configuration and the drivers that could start by it.

What is always true here:

- The file is read and judged by a process of its own (`agent.aside`), which hands over plain records: what judges it
  takes more memory than all that the station does afterwards. The commands read it themselves (`agent.reading`).
- Drivers are constructed, on both sides, so what only they can judge is judged; they open nothing.
- The station's own device, `gateway`, is a driver among the others.

The commands and the composition root enter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agent.aside import Worker
from agent.estimate import Estimate, estimate
from agent.gateway_device import GatewayDriver
from config.errors import ConfigFaults, Fault, KeyPath, fault_at
from config.loaded import Loaded
from config.model import OWN_DEVICE, Config
from drivers import registry
from drivers.api import Clock, Driver, DriverMisconfigured


class Reading(NamedTuple):
    """What the reader aside hands over. `places` are where the drivers are that the file names."""

    loaded: Loaded
    warnings: tuple[Fault, ...]
    places: Mapping[str, str]
    version: str


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, and a driver for each of its links, by the link's name; and the version that read it."""

    loaded: Loaded
    drivers: Mapping[str, Driver[Any]]
    warnings: tuple[Fault, ...]
    version: str

    @property
    def instruments(self) -> dict[str, Driver[Any]]:
        """The drivers of the links that the file names: all but the station's own device."""
        return {name: driver for name, driver in self.drivers.items() if name != OWN_DEVICE}

    @property
    def estimate(self) -> Estimate:
        """What it will cost in flash."""
        return cost_of(self.drivers, self.loaded.config)


def cost_of(drivers: Mapping[str, Driver[Any]], config: Config) -> Estimate:
    """Add up what all groups will cost."""
    return estimate((group for driver in drivers.values() for group in driver.groups), config.buffer)


def read_aside(
    path: Path,
    clock: Clock,
    credentials: Path | None = None,
    spots: Iterable[KeyPath] = (),
    worker: Worker | None = None,
) -> Settings:
    """Have a file read by a process of its own, and construct its drivers here.

    `credentials` is systemd's directory of them, `spots` are the places of the file that will be asked for. Raises
    ConfigFaults and AsideFailed.
    """
    if worker is None:
        with Worker() as own:
            return read_aside(path, clock, credentials, spots, own)
    read: Reading = worker.ask("read", path, credentials, tuple(spots))
    return Settings(read.loaded, construct(read.loaded, clock, read.places), read.warnings, read.version)


def construct(loaded: Loaded, clock: Clock, places: Mapping[str, str]) -> dict[str, Driver[Any]]:
    """Make the driver of each link, and that of the station's own device. Raises ConfigFaults."""
    faults: list[Fault] = []
    drivers: dict[str, Driver[Any]] = {}
    for name, link in loaded.config.links.items():
        try:
            drivers[name] = registry.driver_at(link.driver, places[link.driver])(name, link, clock)
        except registry.DriverBroken as error:
            where: KeyPath = ("links", name, "driver")
            faults.append(fault_at(loaded.spot(where), error.code, where, **error.fields))
        except DriverMisconfigured as error:
            for each in (error, *error.others):
                where = ("links", name, *each.path)
                faults.append(fault_at(loaded.spot(where), each.code, where, **each.fields))
    if faults:
        raise ConfigFaults(faults, loaded.path)
    return drivers | _own_device(loaded.config, clock)


def _own_device(config: Config, clock: Clock) -> dict[str, Driver[Any]]:
    """Give the driver of the station's own device, unless the file wants none."""
    watch = config.gateway.watch
    disk = Path(config.buffer.path).parent
    return {} if watch is None else {OWN_DEVICE: GatewayDriver(watch, clock, config.uplinks, disk)}


def credentials(environment: Mapping[str, str]) -> Path | None:
    """Give the directory in which systemd puts the service's secrets (systemd.exec(5), LoadCredential)."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None
