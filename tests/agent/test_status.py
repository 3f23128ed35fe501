"""`trambien status`: what a technician sees of devices that are late or refuse something."""

import io

import pytest
from rich.console import Console

from agent.cli.status import show
from agent.health import DeviceHealth, Health, LinkHealth, StreamHealth, UplinkHealth
from agent.standing import Oldest, Standing
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


def clock_line(language, **clock):
    """Show a station with this clock; give the line of it."""
    health = Health("a-1", "1.0", "00", "00", 0, clock=clock)
    stream = io.StringIO()
    show(health.document(8 * 10**9), Words(language), Console(file=stream, width=200))
    return stream.getvalue().splitlines()[1].strip()


@pytest.mark.parametrize(
    ("error_ns", "said"),
    [(1, "1 ms"), (2_000_001, "3 ms"), (5_400_000_001, "5.5 s"), (119 * 10**9, "2 min"), (None, "?")],
)
def test_the_clock_is_shown_with_its_error_and_its_source(error_ns, said):
    """A bound is rounded up."""
    line = clock_line("en", quality="synchronised", max_error_ns=error_ns, source="timesyncd")
    assert line == f"clock: synchronised (timesyncd), at most {said} off"


@pytest.mark.parametrize(
    ("quality", "english", "vietnamese"),
    [
        ("holdover", "no longer synchronised (kernel)", "đã mất đồng bộ (kernel)"),
        ("unsynchronised", "not synchronised (kernel)", "chưa đồng bộ (kernel)"),
        ("unknown", "nobody here can say", "không hỏi được"),
        ("", "nobody here can say", "không hỏi được"),
    ],
)
def test_every_quality_of_the_clock_has_words(quality, english, vietnamese):
    """In both languages; before the first seal there is none."""
    clock = {"quality": quality, "max_error_ns": 5, "source": "kernel"} if quality else {}
    assert english in clock_line("en", **clock)
    assert vietnamese in clock_line("vi", **clock)


def standing_line(language, standing):
    """Show a station with an uplink that stands so; give the line of it."""
    health = Health("a-1", "1.0", "00", "00", 0)
    health.uplinks["province"] = UplinkHealth(("main",), standing=standing)
    stream = io.StringIO()
    show(health.document(8 * 10**9), Words(language), Console(file=stream, width=200))
    return " ".join(stream.getvalue().splitlines()[-1].split())


UNTIL_NS = 1_800_000_000 * 10**9


@pytest.mark.parametrize(
    ("standing", "english", "vietnamese"),
    [
        (
            Standing(14_080_000, Oldest("main", 5, 7300.0, "boot"), 190_000_000, UNTIL_NS, 56),
            "province 14.1 MB 2 h 190.0 MB 56 d",
            "province 14.1 MB 2 h 190.0 MB 56 ngày",
        ),
        (
            Standing(100_000, Oldest("main", 5, 7300.0, "wall"), 0, UNTIL_NS, -1),
            "province 0.1 MB ≈ 2 h 0.0 MB expired",
            "province 0.1 MB ≈ 2 h 0.0 MB đã hết hạn",
        ),
        (
            Standing(100_000, Oldest("main", 5, None, None), 0, UNTIL_NS, None),
            "province 0.1 MB unknown 0.0 MB 2027-01-15",
            "province 0.1 MB không rõ 0.0 MB 2027-01-15",
        ),
        (Standing(), "province 0.0 MB 0.0 MB", "province 0.0 MB 0.0 MB"),
    ],
)
def test_what_waits_and_how_long_the_certificate_lasts_is_shown(standing, english, vietnamese):
    """What only the wall clocks know is about so; without a clock the day of the end is shown."""
    assert standing_line("en", standing) == english
    assert standing_line("vi", standing) == vietnamese
