"""What is legal in the technician's file and likely not meant: each a warning at its place, which stops nothing.

What is always true here: whoever asks has sound settings; files that they name are looked at, nothing is opened for
writing and no port is touched. Days are counted by the wall clock, which is evidence only.

`agent.settings` enters.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from agent.certificate import ends_of
from agent.estimate import Estimate
from config import checks
from config.errors import Fault, KeyPath, fault_at
from config.loaded import Loaded
from config.model import Serial
from config.shape import Strict
from config.trust import FILE_NAME
from drivers.api import Clock, Driver

STABLE_NAMES = Path("/dev/serial/by-id")
"""Where udev names serial adapters by maker and serial number (60-serial.rules)."""
SOON_DAYS = 30
"""A certificate that ends within so many days should be asked for anew now."""

_UNSTABLE = re.compile(r"^/dev/tty(USB|ACM)\d+$")
_NS_PER_DAY = 86_400 * 10**9


class Dated(Protocol):
    """A moment with its date."""

    @property
    def wall_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        ...


class WallClock(Clock, Protocol):
    """The clock of drivers, with the date."""

    def moment(self) -> Dated:
        """Give what time it is, as far as it may be believed."""
        ...


def warnings(loaded: Loaded, drivers: Mapping[str, Driver[Any]], cost: Estimate, clock: WallClock) -> Iterator[Fault]:
    """Find what will work and is likely not meant, in the order of the file's parts."""
    for name, uplink in loaded.config.uplinks.items():
        yield from _certificates(uplink, ("uplinks", name), loaded, clock)
        if "config" in uplink.accept:
            yield from _pushes(("uplinks", name, "accept"), loaded)
    yield from _room(loaded, cost)
    for name, link in loaded.config.links.items():
        yield from _certificates(link, ("links", name), loaded, clock)
        yield from _port(getattr(link, "serial", None), ("links", name, "serial", "port"), loaded)
        load = drivers[name].planned_load()
        if load is not None and load > 1:
            where: KeyPath = ("links", name)
            yield fault_at(loaded.spot(where), "config.bus-overloaded", where, link=name, percent=math.ceil(load * 100))
    yield from checks.stream_warnings(loaded.config.uplinks, loaded.config.links, loaded.places)


def _pushes(where: KeyPath, loaded: Loaded) -> Iterator[Fault]:
    """Find what keeps every push from being obeyed: nobody is believed, or this account could not write it."""
    folder = loaded.path.parent
    if not (folder / FILE_NAME).exists():
        yield fault_at(loaded.spot(where), "push.no-trust", where)
    if not os.access(folder, os.W_OK):
        yield fault_at(loaded.spot(where), "push.disk", where)


def _port(serial: object, where: KeyPath, loaded: Loaded) -> Iterator[Fault]:
    if isinstance(serial, Serial) and _UNSTABLE.match(serial.port):
        words = {"port": serial.port, "stable": stable_name(serial.port, STABLE_NAMES)}
        yield fault_at(loaded.spot(where), "config.unstable-port", where, **words)


def stable_name(port: str, directory: Path) -> str:
    """Give the name of an adapter that stays; where the adapter is not plugged in, where to look for it."""
    try:
        names = sorted(directory.iterdir())
    except OSError:
        names = []
    return next((str(name) for name in names if name.resolve() == Path(port)), f"{directory}/...")


def _room(loaded: Loaded, cost: Estimate) -> Iterator[Fault]:
    buffer = loaded.config.buffer
    keep_days, days = buffer.keep / _NS_PER_DAY, cost.days(buffer.limit)
    if days < keep_days:
        where: KeyPath = ("buffer", "limit")
        needed = math.ceil(cost.kept_bytes * keep_days / 10**8) / 10
        words = {"days": shown(days), "keep": shown(keep_days), "needed": f"{needed:g}GB"}
        yield fault_at(loaded.spot(where), "config.limit-short", where, **words)


def shown(days: float) -> str:
    """Write days as a person would: `0.4`, `3.2`, `45`."""
    return f"{days:.0f}" if days >= 10 else f"{days:.1f}"


def _certificates(part: Strict, path: KeyPath, loaded: Loaded, clock: WallClock) -> Iterator[Fault]:
    """Find the certificate files that a part names, whatever its keys are called, and judge each."""
    for one in fields(part):
        value, where = getattr(part, one.name), (*path, one.name)
        if isinstance(value, Strict):
            yield from _certificates(value, where, loaded, clock)
        elif isinstance(value, str) and (ends := ends_of(Path(value))) is not None:
            days = (ends.timestamp() * 1e9 - clock.moment().wall_ns) / _NS_PER_DAY
            words = {"file": Path(value).name, "day": f"{ends:%Y-%m-%d}", "days": math.floor(days)}
            if days < SOON_DAYS:
                code = "config.certificate-expired" if days < 0 else "config.certificate-expires"
                yield fault_at(loaded.spot(where), code, where, **words)
