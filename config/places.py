"""Where things of a configuration stand: what whoever reports a fault asks.

`Spots` is what is left of that where a configuration goes to another process: the places that are needed there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from config.errors import KeyPath, Place


class Spotter(Protocol):
    """Knows where a person should look."""

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look: a single value, or the key of a whole part."""
        ...


class Places(Spotter, Protocol):
    """Where everything stands: a document, or a device and its profile laid over each other."""

    broken: set[KeyPath]
    incomplete: set[KeyPath]

    def place(self, path: KeyPath) -> Place:
        """Find where a value stands."""
        ...

    def key_place(self, path: KeyPath) -> Place:
        """Find where its key stands."""
        ...


@dataclass(frozen=True, slots=True)
class Spots:
    """Some places of a file, by path; for any other, its beginning."""

    file: Path
    known: Mapping[KeyPath, Place]

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look."""
        return self.known.get(path) or Place(self.file, 1, 1)
