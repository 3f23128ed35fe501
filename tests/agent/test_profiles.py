"""Each shipped profile makes a device that its driver accepts."""

from pathlib import Path

import pytest

from agent.reading import read
from config import profile
from config.judge import judged

NAMES = profile.names(Path("/nowhere"))
NEEDS = {
    "modbus": ("host: 192.0.2.1", "unit: 1, every: 1s, "),
    "serial": ("serial: {port: /dev/ttyUSB0}", ""),
}
"""What a technician writes beside the profile, by driver: of the link, and of the device."""


class Clock:
    """A clock that stands still."""

    def boot_ns(self):
        """Give the one time."""
        return 1


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_is_accepted_by_its_driver(name, tmp_path):
    """With nothing added but what only the technician can know."""
    file = profile.shipped() / f"{name}.yaml"
    driver = judged(profile.Profile, profile.parse(file.read_bytes(), file).value).driver
    link, device = NEEDS[driver]
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "gateway: {id: a-1}\nlinks:\n  wire:\n"
        f"    driver: {driver}\n    {link}\n    devices:\n      device: {{{device}profile: {name}}}\n"
    )
    groups = read(config, Clock()).drivers["wire"].groups
    assert sum(len(group.layout.columns) for group in groups) > 0


def test_the_two_profiles_of_the_first_release_are_there():
    """Packaged, and found without a checkout around them."""
    assert {"cas/continuous", "endress-hauser/liquiline-cm44x"} <= set(NAMES)
