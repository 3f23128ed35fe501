"""From a file to drivers: each made, each fault with its place."""

from importlib.metadata import EntryPoint

import pytest

from agent.reading import read, settings_for
from config.errors import ConfigFaults, SettingsUnavailable
from drivers import registry
from drivers.serial_line.driver import SerialLineDriver
from drivers.serial_line.settings import SerialLineLink

TEXT = """gateway: {id: a-1}
links:
  w:
    driver: serial
    serial: {port: /dev/ttyUSB1}
    devices:
      s: {profile: cas/continuous}
"""


class Clock:
    """A clock that stands still."""

    def boot_ns(self):
        """Give the one time."""
        return 1


def test_each_link_gets_its_driver(tmp_path):
    """By the link's name, with its own settings."""
    file = tmp_path / "g.yaml"
    file.write_text(TEXT)
    settings = read(file, Clock())
    driver = settings.drivers["w"]
    assert isinstance(driver, SerialLineDriver)
    assert driver.link is settings.loaded.config.links["w"]
    assert [column.name for column in driver.groups[0].layout.columns] == ["weight", "kind", "unit"]


def test_faults_of_several_drivers_come_together(tmp_path):
    """As those of the file do."""
    file = tmp_path / "g.yaml"
    again = TEXT[TEXT.index("  w:") :].replace("  w:", "  v:").replace("s:", "t:").replace("device" + "t:", "devices:")
    bad = "{line: x, points: {p: {}}}"
    file.write_text((TEXT + again).replace("{profile: cas/continuous}", bad))
    with pytest.raises(ConfigFaults) as caught:
        read(file, Clock())
    assert [(f.code, f.line) for f in caught.value.faults] == [("serial.no-group", 7), ("serial.no-group", 12)]


def test_the_model_of_a_driver_is_its_settings():
    """And None where there is no such driver."""
    assert settings_for("serial") is SerialLineLink
    assert settings_for("profibus") is None


def test_a_driver_that_is_broken_says_so(monkeypatch):
    """It is installed, so it is not unknown."""
    entry = EntryPoint("odd", "agent.no_such_module:Driver", registry.GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: {"odd": entry})
    registry.driver_at.cache_clear()
    with pytest.raises(SettingsUnavailable) as caught:
        settings_for("odd")
    assert caught.value.code == "config.driver-broken"
    assert "ModuleNotFoundError" in caught.value.fields["reason"]
