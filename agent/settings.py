"""From the technician's file to drivers that could start: the one way that `run` and `check` share.

What is always true here:

- Whatever is wrong, in the file or in what a driver makes of it, comes out as `ConfigFaults` with a place. Drivers
  are constructed, so what only they can judge is judged; they open nothing.
- Only the drivers and formats that the file names are imported. Formats are made, and tried on every layout.
- A warning is what can be carried out and is likely not meant; it stands at a place as a fault does and stops nothing.

The commands and the composition root enter.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import formats
from config import checks
from config.errors import ConfigFaults, Fault, KeyPath, SettingsUnavailable, fault_at
from config.load import Loaded, load
from config.model import Link, Serial
from drivers import registry
from drivers.api import Clock, Driver, DriverMisconfigured


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, and a driver for each of its links, by the link's name."""

    loaded: Loaded
    drivers: Mapping[str, Driver[Any]]
    warnings: tuple[Fault, ...] = ()


STABLE_NAMES = Path("/dev/serial/by-id")
"""Where udev names serial adapters by maker and serial number (60-serial.rules)."""

_UNSTABLE = re.compile(r"^/dev/tty(USB|ACM)\d+$")


def read(path: Path, clock: Clock, credentials: Path | None = None) -> Settings:
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
    faults += _format_faults(loaded, drivers) if len(drivers) == len(loaded.config.links) else ()
    if faults:
        raise ConfigFaults(faults, path)
    return Settings(loaded, drivers, tuple(_warnings(loaded, drivers)))


def _format_faults(loaded: Loaded, drivers: Mapping[str, Driver[Any]]) -> Iterator[Fault]:
    """Find what each uplink's format cannot do with what the drivers give."""
    given = [(group.stream, group.layout) for driver in drivers.values() for group in driver.groups]
    for name, uplink in loaded.config.uplinks.items():
        station = formats.station(loaded.config, uplink, None)
        carried = [(stream, layout) for stream, layout in given if stream in (uplink.streams or (stream,))]
        for error in formats.judge(station, uplink, carried):
            where: KeyPath = ("uplinks", name, *error.path)
            yield fault_at(loaded.spot(where), error.code, where, **error.fields)


def _warnings(loaded: Loaded, drivers: Mapping[str, Driver[Any]]) -> Iterator[Fault]:
    """Find what will work and is likely not meant, links before uplinks."""
    for name, link in loaded.config.links.items():
        serial = getattr(link, "serial", None)
        if isinstance(serial, Serial) and _UNSTABLE.match(serial.port):
            where: KeyPath = ("links", name, "serial", "port")
            words = {"port": serial.port, "stable": stable_name(serial.port, STABLE_NAMES)}
            yield fault_at(loaded.spot(where), "config.unstable-port", where, **words)
        load = drivers[name].planned_load()
        if load is not None and load > 1:
            where = ("links", name)
            yield fault_at(loaded.spot(where), "config.bus-overloaded", where, link=name, percent=math.ceil(load * 100))
    yield from checks.stream_warnings(loaded.config.uplinks, loaded.config.links, loaded.places)


def stable_name(port: str, directory: Path) -> str:
    """Give the name of an adapter that stays; where the adapter is not plugged in, where to look for it."""
    try:
        names = sorted(directory.iterdir())
    except OSError:
        names = []
    return next((str(name) for name in names if name.resolve() == Path(port)), f"{directory}/...")


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
