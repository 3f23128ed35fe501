"""`trambien status`: what a technician sees of devices that are late or refuse something."""

import io

from rich.console import Console

from agent.cli.status import show
from agent.health import DeviceHealth, Health, LinkHealth, StreamHealth
from agent.words import Words
from drivers.api import Parked

MS = 10**6


def shown(language="en"):
    """Show a station with one link of two devices."""
    health = Health("a-1", "1.0", "00", "00", 0, clock={"quality": "good"})
    meter, pump = DeviceHealth("main", every_ns=1000 * MS), DeviceHealth("main")
    meter.lateness_ns.extend([3 * MS] * 9 + [40 * MS])
    meter.answered(5 * 10**9)
    refused = Parked("meter", "holding", 300, 2, ("energy", "again"), "modbus.parked-address")
    health.links["bus"] = LinkHealth("modbus", {"meter": meter, "pump": pump}, parked=lambda: [refused])
    health.streams["main"] = StreamHealth()
    state = health.document(8 * 10**9)
    stream = io.StringIO()
    show(state, Words(language), Console(file=stream, width=200))
    return stream.getvalue()


def test_lateness_and_what_is_parked_are_shown():
    """By device, with the points that stand there."""
    said = shown()
    assert "40 ms" in said
    assert "bus/meter holding 300 (2) energy, again: The unit has no such address; it is asked again later." in said


def test_they_are_shown_in_vietnamese():
    """The technician's language."""
    assert "Thiết bị không có địa chỉ này" in shown("vi")
