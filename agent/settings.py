"""From the technician's file to drivers that could start: the one way that `run` and `check` share.

What is always true here:

- Whatever is wrong, in the file or in what a driver makes of it, comes out as `ConfigFaults` with a place. Drivers
  are constructed, so what only they can judge is judged; they open nothing.
- The station's own device, `gateway`, is a driver among the others.
- Only the drivers and formats that the file names are imported. Formats are made, and tried on every layout.
- A warning is what can be carried out and is likely not meant; it stands at a place as a fault does and stops nothing.

The commands and the composition root enter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import formats
from agent.estimate import Estimate, estimate
from agent.gateway_device import GatewayDriver
from agent.unwise import WallClock, warnings
from config.errors import ConfigFaults, Fault, KeyPath, SettingsUnavailable, fault_at
from config.load import load
from config.loaded import Loaded
from config.model import OWN_DEVICE, Config, Link
from drivers import registry
from drivers.api import Clock, Driver, DriverMisconfigured


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, and a driver for each of its links, by the link's name."""

    loaded: Loaded
    drivers: Mapping[str, Driver[Any]]
    warnings: tuple[Fault, ...]
    estimate: Estimate

    @property
    def instruments(self) -> dict[str, Driver[Any]]:
        """The drivers of the links that the file names: all but the station's own device."""
        return {name: driver for name, driver in self.drivers.items() if name != OWN_DEVICE}


def read(path: Path, clock: WallClock, credentials: Path | None = None) -> Settings:
    """Load a file and construct its drivers. `credentials` is systemd's directory of them. Raises ConfigFaults."""
    loaded = load(path, settings_for, registry.names(), credentials)
    faults: list[Fault] = []
    drivers: dict[str, Driver[Any]] = {}
    for name, link in loaded.config.links.items():
        try:
            drivers[name] = registry.driver_class(link.driver)(name, link, clock)
        except DriverMisconfigured as error:
            for each in (error, *error.others):
                where = ("links", name, *each.path)
                faults.append(fault_at(loaded.spot(where), each.code, where, **each.fields))
    drivers |= _own_device(loaded.config, clock)
    faults += _format_faults(loaded, drivers) if not faults else ()
    if faults:
        raise ConfigFaults(faults, path)
    cost = estimate((group for driver in drivers.values() for group in driver.groups), loaded.config.buffer)
    return Settings(loaded, drivers, tuple(warnings(loaded, drivers, cost, clock)), cost)


def _own_device(config: Config, clock: Clock) -> dict[str, Driver[Any]]:
    """Give the driver of the station's own device, unless the file wants none."""
    watch = config.gateway.watch
    disk = Path(config.buffer.path).parent
    return {} if watch is None else {OWN_DEVICE: GatewayDriver(watch, clock, config.uplinks, disk)}


def _format_faults(loaded: Loaded, drivers: Mapping[str, Driver[Any]]) -> Iterator[Fault]:
    """Find what each uplink's format cannot do with what the drivers give."""
    given = [(group.stream, group.layout) for driver in drivers.values() for group in driver.groups]
    for name, uplink in loaded.config.uplinks.items():
        station = formats.station(loaded.config, uplink, None)
        carried = [(stream, layout) for stream, layout in given if stream in (uplink.streams or (stream,))]
        for error in formats.judge(station, uplink, carried):
            where: KeyPath = ("uplinks", name, *error.path)
            yield fault_at(loaded.spot(where), error.code, where, **error.fields)


def credentials(environment: Mapping[str, str]) -> Path | None:
    """Give the directory in which systemd puts the service's secrets (systemd.exec(5), LoadCredential)."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def settings_for(name: str) -> type[Link[Any]] | None:
    """Give the model of a driver's link, for `config.load`."""
    try:
        return registry.driver_class(name).Settings
    except registry.UnknownDriver:
        return None
    except registry.DriverBroken as error:
        raise SettingsUnavailable(error.code, **error.fields) from error
