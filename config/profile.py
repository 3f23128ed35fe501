"""Profiles: what a maker's instrument looks like, written once, laid under the technician's own keys.

What is always true here:

- A profile is a YAML file `maker/model.yaml` of three keys: `driver`, `source` (the public document its facts are
  from) and `device` (the same keys a device has). One beside the technician's file (in `profiles/`) goes before ours.
- The device's own keys win. Mappings merge key by key, so a point can be given a unit without repeating its address;
  a point that the device sets to nothing (`ai4:`) is left out.
- A fault inside a profile names the profile's own line; a fault in the device's own keys names theirs.

`config.load` enters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from config.errors import ConfigFaults, Fault, KeyPath, Place, fault_at
from config.judge import Unsound, judged
from config.raw import read_bytes
from config.shape import Strict
from config.source import Document, parse
from config.translate import faults_of, nearest

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(Strict):
    """A profile file."""

    driver: str
    source: str
    device: dict[str, Any]


@dataclass(slots=True)
class Overlay:
    """Where things stand in a tree that came from several files."""

    document: Document
    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    broken: set[KeyPath] = field(default_factory=set)
    parts: set[KeyPath] = field(default_factory=set)
    incomplete: set[KeyPath] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start from what the technician wrote."""
        self.broken |= self.document.broken

    def place(self, path: KeyPath) -> Place:
        """Find where a value stands, or the nearest part around it that is written down."""
        for end in range(len(path), 0, -1):
            found = self.document.values.get(path[:end]) or self.values.get(path[:end])
            if found is not None:
                return found
        return self.document.place(())

    def key_place(self, path: KeyPath) -> Place:
        """Find where the key of a value stands; where it has none, the value."""
        return self.document.keys.get(path) or self.keys.get(path) or self.place(path)

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look: a single value, or the key of a whole part."""
        return self.key_place(path) if path in self.document.parts | self.parts else self.place(path)

    def lay_under(self, profile: Document, at: KeyPath) -> None:
        """Take over the places of a profile's device, for what the technician did not write."""
        for mine, theirs in ((self.values, profile.values), (self.keys, profile.keys)):
            for path, place in theirs.items():
                if path[:1] == ("device",) and len(path) > 1:
                    mine[*at, *path[1:]] = place
        self.parts |= {(*at, *path[1:]) for path in profile.parts if path[:1] == ("device",)}


def merge(device: Mapping[str, object], profile: Mapping[str, object]) -> dict[str, object]:
    """Lay a device's own keys over a profile's."""
    merged = dict(profile)
    for key, value in device.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(value, below) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def apply(device: Mapping[str, object], at: KeyPath, driver: object, overlay: Overlay) -> dict[str, object]:
    """Give a device with its profile laid under it. Raises ConfigFaults where the profile cannot be used."""
    name = device.get("profile")
    if not isinstance(name, str):
        return dict(device)
    place = overlay.place((*at, "profile"))
    document = _find(name, overlay.document.file.parent, place, (*at, "profile"))
    profile = _judge(document)
    if profile.driver != driver:
        words = {"name": name, "wants": profile.driver, "driver": driver}
        raise ConfigFaults([fault_at(place, "config.profile-driver", (*at, "profile"), **words)])
    overlay.lay_under(document, at)
    merged = merge(device, profile.device)
    points = merged.get("points")
    if isinstance(points, Mapping):
        merged["points"] = {key: point for key, point in points.items() if point is not None}
    return merged


def _judge(document: Document) -> Profile:
    faults: list[Fault] = list(document.faults)
    try:
        profile = judged(Profile, document.value)
    except Unsound as error:
        raise ConfigFaults([*faults, *faults_of(error, document.value, document, (), Profile)]) from error
    if faults:
        raise ConfigFaults(faults)
    return profile


def _find(name: str, beside: Path, place: Place, path: KeyPath) -> Document:
    if _NAME.fullmatch(name) is None:
        raise ConfigFaults([fault_at(place, "config.profile-bad-name", path, name=name)])
    for folder in (beside / "profiles", shipped()):
        file = folder / f"{name}.yaml"
        if file.is_file():
            return parse(read_bytes(file), file)
    known = names(beside)
    close = nearest(name, known)
    code = "config.profile-misspelt" if close else "config.profile-missing"
    raise ConfigFaults([fault_at(place, code, path, name=name, nearest=close, known=", ".join(known))])


def names(beside: Path) -> list[str]:
    """List every profile that a file in this directory may name."""
    folders = (beside / "profiles", shipped())
    return sorted({str(file.relative_to(folder))[:-5] for folder in folders for file in folder.glob("*/*.yaml")})


def shipped() -> Path:
    """Find the folder of the profiles that come with the product."""
    return Path(str(resources.files("config"))) / "profiles"
