"""The figures of a device: lateness of the last ticks, and what its instruments refuse."""

from agent.health import RING, DeviceHealth, LinkHealth
from drivers.api import Parked

MS = 10**6


def test_lateness_is_told_in_percentiles_of_the_last_ticks():
    """By nearest rank: of a hundred ticks, 0 to 99 ms late, the 99th is 98."""
    device = DeviceHealth("main", every_ns=1000 * MS)
    device.lateness_ns.extend(n * MS for n in range(100))
    assert device.document()["late_ms"] == {"p50": 49.0, "p95": 94.0, "p99": 98.0}
    assert device.document()["every_ms"] == 1000.0


def test_before_the_first_tick_nothing_is_told():
    """None is not zero."""
    assert DeviceHealth("main").document()["late_ms"] == {"p50": None, "p95": None, "p99": None}
    assert DeviceHealth("main").document()["every_ms"] is None


def test_a_punctual_device_is_zero_late():
    """Zero is a figure."""
    device = DeviceHealth("main")
    device.lateness_ns.append(0)
    assert device.document()["late_ms"] == {"p50": 0, "p95": 0, "p99": 0}


def test_memory_of_lateness_is_bounded():
    """However long a station runs."""
    device = DeviceHealth("main")
    device.lateness_ns.extend(range(10 * RING))
    assert len(device.lateness_ns) == RING
    assert min(device.lateness_ns) == 9 * RING


def test_what_is_parked_is_told_to_those_who_carry_the_stream_only():
    """A platform learns nothing of devices that it does not get."""
    parked = [Parked(name, "holding", 5, 1, ("x",), "modbus.parked-address") for name in ("a", "b")]
    devices = {"a": DeviceHealth("main"), "b": DeviceHealth("side")}
    link = LinkHealth("modbus", devices, parked=lambda: parked)
    (told,) = link.document(["side"])["parked"]
    expected = {"device": "b", "table": "holding", "address": 5, "count": 1, "points": ("x",)}
    assert told == {**expected, "reason": "modbus.parked-address"}
