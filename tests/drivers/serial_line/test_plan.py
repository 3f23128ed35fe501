"""What a serial link will do, and what it cannot."""

from pathlib import Path

import pytest

from agent.reading import read
from config.judge import judged
from drivers.api import DriverMisconfigured
from drivers.serial_line.plan import plan
from drivers.serial_line.settings import SerialLineLink

POINTS = {"v": {"unit": "m", "scale": "0.1", "range": ["0", "5"], "note": "n"}}


def link(**devices):
    """Make a link of devices."""
    return judged(SerialLineLink, {"driver": "serial", "serial": {"port": "/dev/x"}, "devices": devices})


def refusal(**devices):
    """Give path and code of what makes a link impossible."""
    with pytest.raises(DriverMisconfigured) as caught:
        plan("l", link(**devices))
    return caught.value.path, caught.value.code


def test_points_of_one_interval_are_one_group():
    """A point's own interval goes before the device's."""
    points = {"v": {}, "w": {"every": "5s"}, "x": {}}
    made = plan("l", link(a={"ask": "?", "every": "1s", "line": "(?P<v>.)(?P<w>.)(?P<x>.)", "points": points}))
    assert [(g.layout.every_ns, [c.name for c in g.layout.columns]) for g in made.groups] == [
        (10**9, ["v", "x"]),
        (5 * 10**9, ["w"]),
    ]


def test_a_column_says_all_that_an_auditor_needs():
    """Exact text, and the group it came from."""
    column = plan("l", link(a={"line": "(?P<v>.)", "points": POINTS})).groups[0].layout.columns[0]
    assert (column.name, column.kind, column.unit, column.scale) == ("v", "float64", "m", "0.1")
    assert (column.low, column.high, column.address, column.note) == ("0", "5", "group:v", "n")


def test_an_instrument_that_speaks_by_itself_has_no_interval():
    """Its group is listened to."""
    group = plan("l", link(a={"line": "(?P<v>.)", "points": POINTS, "stream": "environment"})).groups[0]
    assert (group.layout.every_ns, group.stream, group.layout.link, group.layout.driver) == (
        None,
        "environment",
        "l",
        "serial",
    )


@pytest.mark.parametrize(
    ("device", "path", "code"),
    [
        ({"line": "(?P<v>[", "points": POINTS}, ("line",), "serial.bad-pattern"),
        ({"line": "(?P<v>.){99999999999}", "points": POINTS}, ("line",), "serial.bad-pattern"),
        ({"line": "(?P<w>.)", "points": POINTS}, ("points", "v"), "serial.no-group"),
        ({"line": ".", "points": {"v": {"group": "g"}}}, ("points", "v", "group"), "serial.no-group"),
        ({"line": "(?P<v>.)", "points": POINTS, "every": "1s"}, ("every",), "serial.every-without-ask"),
        (
            {"line": "(?P<v>.)", "points": {"v": {"every": "1s"}}},
            ("points", "v", "every"),
            "serial.every-without-ask",
        ),
        ({"line": "(?P<v>.)", "points": POINTS, "ask": "?"}, ("ask",), "serial.ask-without-every"),
        ({"line": "(?P<v>.)", "points": POINTS, "terminator": "ế"}, ("terminator",), "serial.not-bytes"),
        (
            {"line": "(?P<v>.)", "points": POINTS, "status": {"group": "s", "codes": {"a": "Good"}}},
            ("status", "group"),
            "serial.no-group",
        ),
        (
            {"line": "(?P<v>.)", "points": POINTS, "status": {"group": "v", "codes": {"a": "Great"}}},
            ("status", "codes", "a"),
            "serial.unknown-status",
        ),
    ],
)
def test_what_cannot_be_carried_out_names_the_key(device, path, code):
    """The path leads to the place in the technician's file."""
    assert refusal(a=device) == (("devices", "a", *path), code)


def test_an_instrument_that_speaks_by_itself_has_the_port_to_itself():
    """Nobody could tell whose line it is."""
    asked = {"ask": "?", "every": "1s", "line": "(?P<v>.)", "points": POINTS}
    assert refusal(a=asked, b={"line": "(?P<v>.)", "points": POINTS}) == (("devices", "b"), "serial.stream-not-alone")


def test_the_sample_is_sound(tmp_path):
    """What the README points at works."""
    sample = Path(__file__).parents[3] / "drivers" / "serial_line" / "sample.yaml"
    file = tmp_path / "gateway.yaml"
    file.write_text("gateway: {id: a-1}\n" + sample.read_text())
    assert {group.device for driver in read(file, None).instruments.values() for group in driver.groups} == {
        "weighbridge",
        "tank-1",
        "tank-2",
    }
