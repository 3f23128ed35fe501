"""Drivers by name: found through entry points, imported late, broken ones named."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from drivers import registry
from drivers.serial_line.driver import SerialLineDriver


@pytest.fixture
def installed(monkeypatch):
    """Install one more driver, by the value of its entry point."""
    registry.driver_at.cache_clear()

    def install(value):
        entries = {"odd": EntryPoint("odd", value, registry.GROUP)}
        monkeypatch.setattr(registry, "_installed", lambda: entries)

    yield install
    registry.driver_at.cache_clear()


def test_our_drivers_are_installed():
    """The names that the technician writes."""
    assert set(registry.names()) >= {"modbus", "opcua", "serial", "simulated"}


def test_a_driver_is_found_by_its_name():
    """And is the very class of its folder."""
    assert registry.driver_class("serial") is SerialLineDriver


def test_naming_drivers_imports_none():
    """A station loads only what its configuration names."""
    code = "import sys; from drivers import registry; registry.names(); registry.driver_class('serial');"
    code += "print([m for m in sys.modules if m.split('.')[0] in ('pymodbus', 'asyncua')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_driver_names_the_known_ones():
    """So that a person can choose."""
    with pytest.raises(registry.UnknownDriver, match=r"profibus.*modbus") as caught:
        registry.driver_class("profibus")
    assert caught.value.name == "profibus"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no.such.module:Driver", "ModuleNotFoundError"),
        ("drivers.serial_line.driver:Nothing", "AttributeError"),
        ("drivers.serial_line.driver:_shown", "is not a Driver"),
        ("buffer.frame:Frame", "is not a Driver"),
        ("drivers.api:Driver", "Settings"),
    ],
)
def test_a_driver_that_cannot_be_used_says_why(installed, value, reason):
    """Whatever another package does when it is imported."""
    installed(value)
    with pytest.raises(registry.DriverBroken, match=reason) as caught:
        registry.driver_class("odd")
    assert caught.value.fields["driver"] == "odd"
