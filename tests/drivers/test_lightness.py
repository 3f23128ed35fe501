"""What `check` and `run` load: settings know no library of the wire, and one driver does not load another's."""

import subprocess
import sys

import pytest

HEAVY = ("pymodbus", "asyncua", "serial")


def loaded_by(module):
    """Give the heavy libraries that importing a module loads, in a process of its own."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split())


@pytest.mark.parametrize("module", ["drivers.modbus.settings", "drivers.opcua.settings", "drivers.simulated.settings"])
def test_settings_load_no_library_of_the_wire(module):
    """`trambien check` and `trambien schema` stay light."""
    assert loaded_by(module) == set()


@pytest.mark.parametrize("module", ["drivers.modbus.groups", "drivers.opcua.groups", "drivers.simulated.driver"])
def test_the_pure_parts_load_none_either(module):
    """Only one file of each folder imports the library."""
    assert loaded_by(module) == set()


def test_a_driver_that_is_made_loads_no_library():
    """None before it opens anything: OPC UA's waits for the first connection, Modbus's for a serial port."""
    assert loaded_by("drivers.modbus.driver") == set()
    assert loaded_by("drivers.opcua.driver") == set()


def test_the_modbus_and_rtu_instruments_need_no_library_at_all():
    """They are servers of their own make, so that they judge the driver and not the library."""
    assert loaded_by("drivers.simulated.modbus_tcp") == set()
    assert loaded_by("drivers.simulated.modbus_rtu") == set()
