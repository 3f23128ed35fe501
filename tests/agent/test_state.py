"""What a platform is told in `state`: short, nothing that `status` does not say, nothing of other streams."""

import json

import pytest

from agent.health import DeviceHealth, Health, LinkHealth, StreamHealth, UplinkHealth
from agent.standing import Oldest, Standing
from agent.state import compact, essence
from drivers.api import Parked

MS = 10**6
REFUSED = Parked("device-1", "holding", 300, 2, ("energy",), "modbus.parked-address")


def station(devices=10):
    """Give a station that has run for a day, with a backlog."""
    health = Health("qng-dungquat-0012", "0.1.0", "ab" * 32, "cd" * 32, 0)
    health.clock = {"quality": "synchronised", "max_error_ns": 1234567, "source": "timesyncd"}
    for number in range(devices):
        device = DeviceHealth("main", every_ns=1000 * MS, good=86_400, missed=number % 3)
        device.answered(123_456_789_012_000)
        device.lateness_ns.extend(range(0, 9 * MS, 10_000))
        health.links[f"bus-{number}"] = LinkHealth("modbus", {f"device-{number}": device}, up=True)
    health.streams["main"] = StreamHealth(86_400, 86_400, "ef" * 32, held=86_400, readings=86_400_000, ticks_missed=5)
    health.streams["side"] = StreamHealth(1, 1, "ff" * 32, held=1)
    uplink = UplinkHealth(("main",), connected=True, sessions=3, acknowledged={"main": 80_000}, pending={"main": 6_400})
    uplink.bytes_sent = 200_000_000
    oldest = Oldest("main", 80_001, 6400.5, "boot")
    uplink.standing = Standing(14_080_000, oldest, 190_000_000, 1_800_000_000 * 10**9, 354)
    health.uplinks["province"] = uplink
    return health


def leaves(document, path=()):
    """Give every figure with the way to it."""
    if isinstance(document, dict):
        for name, inner in document.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, document


def at(document, path):
    """Follow a way."""
    for name in path:
        document = document[name]
    return document


def test_a_state_of_ten_devices_is_less_than_two_kilobytes():
    """It is told every few minutes over a metered link."""
    told = json.dumps(compact(station().document(123_456_789_999_000, "province")), separators=(",", ":"))
    assert len(told.encode()) < 2000


def test_everything_that_is_asked_for_is_told():
    """Version, uptime, links, ledger, backlog, clock, configuration, certificate, bytes of a day."""
    health = station()
    health.links["bus-3"].fail(5, "modbus.unreachable", {"address": "10.0.0.3"})
    health.links["bus-3"].devices["device-3"].alive = False
    state = compact(health.document(86_400 * 10**9, "province"))
    assert (state["version"], state["uptime_s"], state["config"]) == ("0.1.0", 86_400, "cd" * 32)
    assert state["clock"] == health.clock
    assert state["links"]["bus-0"] == {
        "up": True,
        "devices": {"device-0": {"alive": True, "late_ms": {"p99": 8.97}}},
    }
    assert state["links"]["bus-3"]["error"]["code"] == "modbus.unreachable"
    assert state["links"]["bus-3"]["devices"]["device-3"]["last_boot_ns"] == 123_456_789_012_000
    assert state["streams"] == {
        "main": {
            "sealed": 86_400,
            "held": 86_400,
            "seq": 86_400,
            "digest": "ef" * 32,
            "readings": 86_400_000,
            "ticks_missed": 5,
        }
    }
    province = state["uplinks"]["province"]
    assert (province["pending"], province["backlog_bytes"]) == ({"main": 6_400}, 14_080_000)
    assert province["oldest"] == {"stream": "main", "seq": 80_001, "age_s": 6400.5, "by": "boot"}
    assert (province["certificate_days"], province["certificate_until"]) == (354, "2027-01-15T08:00:00Z")
    assert (province["bytes_day"], province["bytes_sent"]) == (190_000_000, 200_000_000)


def test_nothing_is_told_that_status_does_not_say():
    """The same names, the same figures; and nothing of a stream that is not given."""
    health = station()
    health.links["bus-1"].parked = lambda: [REFUSED]
    health.links["bus-2"].devices["device-2"].stream = "side"
    document = health.document(86_400 * 10**9, "province")
    state = compact(document)
    for path, figure in leaves({**state, "links": {}}):
        assert at(document, path) == figure
    for path, figure in leaves({"links": state["links"]}):
        if path[-1] != "parked":
            assert at(document, path) == figure
    assert state["links"]["bus-1"]["parked"] == [
        {"device": "device-1", "reason": "modbus.parked-address", "points": ("energy",)}
    ]
    assert "device-2" not in json.dumps(state)
    assert "side" not in json.dumps(state)


@pytest.mark.parametrize(
    ("change", "at_once"),
    [
        (lambda health: health.links["bus-1"].fail(5, "modbus.unreachable", {}), True),
        (lambda health: setattr(health.links["bus-1"].devices["device-1"], "alive", False), True),
        (lambda health: setattr(health, "clock", {"quality": "holdover"}), True),
        (lambda health: setattr(health, "buffer_error", ("buffer.full", {"path": "/x"})), True),
        (lambda health: setattr(health, "volatile", True), True),
        (lambda health: setattr(health, "buffer_alarm", ("buffer.full", {})), True),
        (lambda health: setattr(health, "config_error", ("agent.reload-refused", {})), True),
        (lambda health: setattr(health, "key_error", ("agent.key-lost", {})), True),
        (lambda health: setattr(health, "config_digest", "00" * 32), True),
        (lambda health: setattr(health, "key_id", "00" * 32), True),
        (lambda health: setattr(health.links["bus-1"], "parked", lambda: [REFUSED]), True),
        (lambda health: health.uplinks["province"].lose("main", "too-large"), True),
        (lambda health: setattr(health.uplinks["province"], "bytes_sent", 5), False),
        (lambda health: setattr(health.links["bus-1"].devices["device-1"], "missed", 5), False),
        (lambda health: health.uplinks["province"].acknowledge("main"), False),
    ],
)
def test_a_change_is_told_at_once_where_it_matters(change, at_once):
    """A figure that moves waits."""
    health = station()
    before = essence(health, "province")
    change(health)
    assert (essence(health, "province") != before) == at_once


def test_an_uplink_of_some_points_hears_nothing_of_links():
    """Neither of their devices."""
    health = station()
    health.uplinks["province"].restricted = True
    state = compact(health.document(5, "province"))
    before = essence(health, "province")
    assert "links" not in state
    health.links["bus-1"].fail(5, "modbus.unreachable", {})
    assert essence(health, "province") == before


def test_what_befalls_devices_of_other_streams_is_not_told():
    """Not even by a message that says nothing of them."""
    health = station()
    health.links["press"] = LinkHealth("modbus", {"press": DeviceHealth("side", alive=True)}, up=True)
    before = essence(health, "province")
    health.links["press"].fail(5, "modbus.unreachable", {})
    health.links["press"].devices["press"].alive = False
    assert essence(health, "province") == before
