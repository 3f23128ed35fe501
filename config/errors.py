"""The faults of a configuration: what each one is, where it stands, and the one exception that carries them all.

What is always true here:

- A fault names the exact line and column of the key or value at fault, in the file it stands in (a profile's own
  fault names the profile). Lines and columns count from 1, columns in characters.
- A fault has no words: `code` is a key into `config/locale`, `fields` are what its words need.
- All the faults that can be found are raised together, in the order of the file.

Anyone may enter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

KeyPath = tuple[str | int, ...]
"""The keys and positions that lead from the top of the file to a place in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written, and the text that stands there (its first line, at most `TEXT_LIMIT` characters)."""

    file: Path
    line: int
    col: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a configuration."""

    code: str
    file: Path
    line: int
    col: int
    path: KeyPath = ()
    fields: Mapping[str, object] = field(default_factory=dict)


class ConfigFaults(Exception):
    """The configuration cannot be used.

    `faults` holds every reason, in the order of the file, those in the file `main` first; it is never empty.
    """

    def __init__(self, faults: Iterable[Fault], main: Path | None = None) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            sorted(
                set_of(faults),
                key=lambda fault: (fault.file != main, str(fault.file), fault.line, fault.col, fault.code),
            )
        )
        self.main = main
        super().__init__(self.faults)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Keep the order also where they go to another process."""
        return type(self), (self.faults, self.main)

    def __str__(self) -> str:
        """Give places and codes, for the log of a developer; a person reads the words of config/locale."""
        return "; ".join(f"{fault.file}:{fault.line}:{fault.col}: {fault.code}" for fault in self.faults)


class SettingsUnavailable(Exception):
    """A driver is known by name, but its settings cannot be had (its package is broken). Becomes a fault."""

    def __init__(self, code: str, **fields: object) -> None:
        self.code = code
        self.fields = fields
        super().__init__(code, fields)


def fault_at(place: Place, code: str, path: KeyPath = (), **fields: object) -> Fault:
    """Make a fault that stands at a place. Its words may use `{text}`, what is written there, and `{where}`."""
    words = {"text": place.text, "where": dotted(path), **fields}
    return Fault(code, place.file, place.line, place.col, path, words)


def dotted(path: KeyPath) -> str:
    """Write a path as a technician would say it: `links.bus-1.devices.meter`."""
    return ".".join(map(str, path))


def set_of(faults: Iterable[Fault]) -> list[Fault]:
    """Drop faults that say the same of the same place."""
    seen: dict[tuple[str, Path, int, int], Fault] = {}
    for fault in faults:
        seen.setdefault((fault.code, fault.file, fault.line, fault.col), fault)
    return list(seen.values())
