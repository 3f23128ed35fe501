"""A configuration that was read and judged, and where it came from.

What is always true here:

- It has passed every check of this floor. Each link is the record of the driver it names.
- The digest is of the bytes exactly as they were read, of the file and of those beside it (`config.raw`), profiles
  and secrets not included.
- Paths in it (`tls`, `buffer.path`, certificates of links) are absolute; in the file they are relative to it.
- Secrets have their values.

`config.load` makes it; the agent enters.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from config.errors import KeyPath, Place
from config.model import Config
from config.places import Spots, Spotter


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from."""

    config: Config
    digest: bytes
    path: Path
    places: Spotter

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look for what stands at a path: a single value, or the key of a whole part."""
        return self.places.spot(path)

    def knowing_only(self, paths: Iterable[KeyPath]) -> "Loaded":
        """Give the same without the places of every key, which are megabytes; those of `paths` stay."""
        return replace(self, places=Spots(self.path, {path: self.spot(path) for path in paths}))
