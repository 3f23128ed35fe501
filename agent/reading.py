"""From the technician's file to drivers that could start, in this process: the way that commands and `run` share.

What is always true here:

- Whatever is wrong, in the file or in what a driver or a format makes of it, comes out as `ConfigFaults` with a place.
- Only the drivers and formats that the file names are imported. Formats are made, and tried on every layout.
- A warning is what can be carried out and is likely not meant; it stands at a place as a fault does and stops nothing.

The commands enter, and the process beside the service (`agent.aside`).
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from agent.identity import version
from agent.settings import Reading, Settings, construct, cost_of
from agent.unwise import WallClock, warnings
from config.errors import ConfigFaults, Fault, KeyPath, SettingsUnavailable, fault_at
from config.load import load
from config.loaded import Loaded
from config.model import Link
from drivers import registry
from drivers.api import Driver


def read(path: Path, clock: WallClock, credentials: Path | None = None) -> Settings:
    """Load a file and construct its drivers. `credentials` is systemd's directory of them. Raises ConfigFaults."""
    loaded = load(path, settings_for, registry.names(), credentials)
    drivers = construct(loaded, clock, _places(loaded))
    if faults := tuple(_format_faults(loaded, drivers)):
        raise ConfigFaults(faults, path)
    cost = cost_of(drivers, loaded.config)
    return Settings(loaded, drivers, tuple(warnings(loaded, drivers, cost, clock)), version())


def _places(loaded: Loaded) -> dict[str, str]:
    """Say where the drivers are that a file names."""
    return {link.driver: registry.place(link.driver) for link in loaded.config.links.values()}


def _format_faults(loaded: Loaded, drivers: Mapping[str, Driver[Any]]) -> Iterator[Fault]:
    """Find what each uplink's format cannot do with what the drivers give. Sealed blocks carry everything."""
    if all(uplink.format == "block" for uplink in loaded.config.uplinks.values()):
        return
    from agent import formats  # noqa: PLC0415  draws all of the uplinks in

    given = [(group.stream, group.layout) for driver in drivers.values() for group in driver.groups]
    for name, uplink in loaded.config.uplinks.items():
        station = formats.station(loaded.config, uplink, None)
        carried = [(stream, layout) for stream, layout in given if stream in (uplink.streams or (stream,))]
        for error in formats.judge(station, uplink, carried):
            where: KeyPath = ("uplinks", name, *error.path)
            yield fault_at(loaded.spot(where), error.code, where, **error.fields)


def settings_for(name: str) -> type[Link[Any]] | None:
    """Give the record of a driver's link, for `config.load`."""
    try:
        return registry.driver_class(name).Settings
    except registry.UnknownDriver:
        return None
    except registry.DriverBroken as error:
        raise SettingsUnavailable(error.code, **error.fields) from error


class _Now(NamedTuple):
    """What time it is by the machine's clock, which is good enough for the days of a certificate."""

    wall_ns: int


class _Clock:
    """The clock of drivers that open nothing."""

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def moment(self) -> _Now:
        return _Now(time.time_ns())


def read_for(path: Path, credentials: Path | None, spots: tuple[KeyPath, ...]) -> Reading:
    """Read a file for another process: with the places at `spots`, and its warnings. Raises ConfigFaults."""
    try:
        settings = read(path, _Clock(), credentials)
    except ConfigFaults as found:
        raise ConfigFaults(map(_plain, found.faults), path) from found
    loaded, told = settings.loaded.knowing_only(spots), tuple(map(_plain, settings.warnings))
    return Reading(loaded, told, _places(loaded), settings.version)


def _plain(fault: Fault) -> Fault:
    """Give a fault whose words any process can say, whatever a driver put in its fields."""
    fields = {name: one if isinstance(one, _PLAIN) else str(one) for name, one in fault.fields.items()}
    return replace(fault, fields=fields)


_PLAIN = (str, int, float, Decimal, Path, type(None))
