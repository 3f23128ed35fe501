"""The drivers that are installed, by the name the technician writes.

What is always true here:

- A driver is found through the entry points of the group `trambien.drivers`, ours and those of other packages alike.
- Nothing is imported before it is named: a station with Modbus only never loads an OPC UA library.
- Whatever another package's import raises comes out as `DriverBroken`, with the reason in one line.
- Looking up what is installed is dear in memory. Whoever was told where a driver is asks `driver_at`.

The agent enters.
"""

from functools import cache, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from config.keys import is_part
from drivers.api import Driver

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "trambien.drivers"


class UnknownDriver(KeyError):
    """No driver of this name is installed."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"no driver {name!r}; installed: {', '.join(known)}")


class DriverBroken(Exception):
    """A driver of this name is installed and cannot be used: its import failed, or it is not a `Driver`."""

    code = "config.driver-broken"

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.fields = {"driver": name, "reason": reason}
        super().__init__(f"driver {name!r} cannot be loaded: {reason}")


def names() -> tuple[str, ...]:
    """List the installed drivers, without importing any."""
    return tuple(sorted(_installed()))


def driver_class(name: str) -> type[Driver[Any]]:
    """Import the driver of this name. Raises UnknownDriver or DriverBroken."""
    return driver_at(name, place(name))


def place(name: str) -> str:
    """Say where the driver of this name is: `module:Class`. Raises UnknownDriver."""
    entry = _installed().get(name)
    if entry is None:
        raise UnknownDriver(name, names())
    return entry.value


@cache
def driver_at(name: str, place: str) -> type[Driver[Any]]:
    """Import the driver of this name from where it is. Raises DriverBroken."""
    module, _, attributes = place.partition("[")[0].partition(":")
    try:
        found: Any = reduce(getattr, attributes.strip().split("."), import_module(module.strip()))
    except Exception as error:  # the driver wall: a foreign package may raise anything as it is imported
        raise DriverBroken(name, f"{type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise DriverBroken(name, f"{place} is not a Driver")
    if not is_part(getattr(found, "Settings", None)):
        raise DriverBroken(name, f"{place} has no Settings that are a record of config.shape")
    return found


@cache
def _installed() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415  a megabyte, for whoever was not told

    return {entry.name: entry for entry in entry_points(group=GROUP)}
