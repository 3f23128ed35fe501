"""Load the technician's file: every fault at once, or a configuration that can be carried out.

What is always true here:

- What a `Loaded` is stands in `config.loaded`.
- Secrets are resolved to their values. Nothing else outside the file and the files it names is looked at.
- A part that is at fault does not hide the faults of another.

The agent enters. This floor knows no driver: the records of links are asked for through `settings_for`.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config import checks, include, profile, secrets
from config.errors import ConfigFaults, Fault, KeyPath, SettingsUnavailable, fault_at
from config.judge import Unsound, judged
from config.loaded import Loaded
from config.model import Config, Link, Secret, Uplink
from config.profile import Overlay
from config.translate import faults_of, nearest

SettingsFor = Callable[[str], type[Link[Any]] | None]
"""Gives the record of a driver's link; None where there is no such driver. May raise SettingsUnavailable."""


_STAND_IN: Link[Any] = Link(driver="", devices={})
"""Takes the place of a link that is at fault, so that the rest of the file can still be judged."""


def load(
    path: Path, settings_for: SettingsFor, known_drivers: Sequence[str] = (), credentials: Path | None = None
) -> Loaded:
    """Read and judge a file. `credentials` is systemd's credentials directory. Raises ConfigFaults with every fault."""
    document, digest = include.read(path)
    reading = _Reading(Overlay(document), list(document.faults), settings_for, known_drivers)
    if () in document.broken:
        raise ConfigFaults(reading.faults, path)
    tree = reading.with_secrets(document.value, (), credentials)
    config = reading.whole(tree)
    if config is None or reading.faults:
        raise ConfigFaults(reading.faults, path)
    return Loaded(config, digest, path, reading.overlay)


@dataclass(slots=True)
class _Reading:
    """One reading of one file: what stands where, and the faults found so far."""

    overlay: Overlay
    faults: list[Fault]
    settings_for: SettingsFor
    known_drivers: Sequence[str]

    def with_secrets(self, value: object, at: KeyPath, credentials: Path | None) -> object:
        """Give the tree with every secret resolved."""
        if isinstance(value, Secret):
            return self._secret(value, at, credentials)
        if isinstance(value, dict):
            return {key: self.with_secrets(inner, (*at, key), credentials) for key, inner in value.items()}
        if isinstance(value, tuple):
            return tuple(self.with_secrets(inner, (*at, index), credentials) for index, inner in enumerate(value))
        return value

    def _secret(self, secret: Secret, at: KeyPath, credentials: Path | None) -> Secret:
        try:
            return replace(secret, value=secrets.resolve(secret.name, self._folder, credentials))
        except secrets.SecretFault as fault:
            self._add(at, fault.code, **fault.fields)
            return secret

    def whole(self, tree: object) -> Config | None:
        """Judge the whole file: each link by its driver, then the rest, then what only shows when all is known."""
        links, stand_ins = self._links(tree)
        rest = {**tree, "links": stand_ins} if stand_ins is not None and isinstance(tree, dict) else tree
        config: Config | None = None
        try:
            config = judged(Config, rest, self._folder)
            uplinks: Mapping[str, Uplink] = config.uplinks
        except Unsound as error:
            self.faults += faults_of(error, tree, self.overlay, (), Config)
            uplinks = self._sound_uplinks(tree)
        self._together(config, uplinks, links)
        return config

    def _together(self, config: Config | None, uplinks: Mapping[str, Uplink], links: Mapping[str, Link[Any]]) -> None:
        """Check the sound parts of the file against each other and the world."""
        self.faults += checks.device_faults(links, self.overlay)
        self.faults += checks.uplink_faults(uplinks, self.overlay)
        if config is not None:
            self.faults += checks.gateway_faults(config, self.overlay)

    def _sound_uplinks(self, tree: object) -> dict[str, Uplink]:
        """Pick the uplinks that are well-formed from a file that is not."""
        written = tree.get("uplinks") if isinstance(tree, dict) else None
        sound: dict[str, Uplink] = {}
        for name, uplink in written.items() if isinstance(written, dict) else ():
            with contextlib.suppress(Unsound):
                sound[name] = judged(Uplink, uplink, self._folder)
        return sound

    def _links(self, tree: object) -> tuple[dict[str, Link[Any]], dict[str, object] | None]:
        """Judge every link. Give the sound ones, and for the rest of the file a stand-in where one is at fault."""
        written = tree.get("links") if isinstance(tree, dict) else None
        if not isinstance(written, dict):
            return {}, None
        sound: dict[str, Link[Any]] = {}
        stand_ins: dict[str, object] = {}
        for name, link in written.items():
            stand_ins[name] = link
            if isinstance(link, dict):
                model = self._link(link, ("links", name))
                stand_ins[name] = model or _STAND_IN
                sound |= {name: model} if model is not None else {}
        return sound, stand_ins

    def _link(self, link: Mapping[str, object], at: KeyPath) -> Link[Any] | None:
        driver = link.get("driver")
        if not isinstance(driver, str):
            self._judge(Link, {key: link[key] for key in ("driver",) if key in link}, at, keys=("driver",))
            return None
        try:
            model = self.settings_for(driver)
        except SettingsUnavailable as error:
            self._add((*at, "driver"), error.code, **error.fields)
            return None
        if model is None:
            close = nearest(driver, self.known_drivers)
            code = "config.misspelt-driver" if close else "config.unknown-driver"
            self._add((*at, "driver"), code, driver=driver, nearest=close, known=", ".join(self.known_drivers))
            return None
        return self._judge(model, self._with_profiles(link, at), at)

    def _judge(
        self, model: type[Link[Any]], value: Mapping[str, object], at: KeyPath, keys: Sequence[str] = ()
    ) -> Link[Any] | None:
        try:
            return judged(model, value, self._folder)
        except Unsound as error:
            found = faults_of(error, value, self.overlay, at, model)
            self.faults += [fault for fault in found if not keys or fault.path[len(at)] in keys]
            return None

    def _with_profiles(self, link: Mapping[str, object], at: KeyPath) -> dict[str, object]:
        devices = link.get("devices")
        if not isinstance(devices, dict):
            return dict(link)
        whole = {name: self._with_profile(device, (*at, "devices", name), link) for name, device in devices.items()}
        return {**link, "devices": whole}

    def _with_profile(self, device: object, at: KeyPath, link: Mapping[str, object]) -> object:
        if not isinstance(device, dict):
            return device
        try:
            return profile.apply(device, at, link.get("driver"), self.overlay)
        except ConfigFaults as faults:
            self.faults += faults.faults
            self.overlay.incomplete.add(at)
            return device

    @property
    def _folder(self) -> Path:
        return self.overlay.document.file.parent

    def _add(self, at: KeyPath, code: str, **fields: object) -> None:
        self.faults.append(fault_at(self.overlay.place(at), code, at, **fields))
