"""The station measures itself and its links: round trips, drains, losses, availability, the machine."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import machine
from agent.gateway_device import GatewayDriver
from agent.health import UplinkHealth
from agent.link_quality import HOUR_MINUTES, MINUTE_NS, NS_PER_S, LinkQuality
from buffer import status
from buffer.layout import encode_layout
from config.model import Watch

HOUR_NS = HOUR_MINUTES * MINUTE_NS


class Ticking:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_ns = 10 * NS_PER_S

    def boot_ns(self) -> int:
        """Give the time."""
        return self.now_ns


def test_round_trips_are_percentiles_since_the_last_look() -> None:
    """By nearest rank, in milliseconds; a look begins anew."""
    quality = LinkQuality()
    for trip in range(1, 101):
        quality.acknowledged(trip, trip * 1_000_000, 100, backlog=False)
    seen = quality.take(NS_PER_S)
    assert (seen.p50_ms, seen.p95_ms, seen.p99_ms) == (50.0, 95.0, 99.0)
    assert quality.take(2 * NS_PER_S).p50_ms is None


def test_the_drain_rate_is_that_of_the_backlog_while_it_flows() -> None:
    """Bytes over the time in which acknowledgements kept coming; fresh blocks and pauses do not count."""
    quality = LinkQuality()
    quality.connected(0)
    for second in range(11):
        quality.acknowledged(second * NS_PER_S, 1, 1000, backlog=True)
        quality.acknowledged(second * NS_PER_S, 1, 9999, backlog=False)
    quality.acknowledged(60 * NS_PER_S, 1, 50_000, backlog=True)
    assert quality.take(61 * NS_PER_S).drain_rate == 1000.0
    assert quality.take(62 * NS_PER_S).drain_rate is None


def test_a_loss_has_its_cause_and_its_duration() -> None:
    """An attempt that fails is no loss; an outage that goes on is as long as it is by now."""
    quality = LinkQuality()
    quality.lost(0, "agent.broker-down")
    assert quality.connected(10 * NS_PER_S) is None
    assert quality.take(20 * NS_PER_S).losses == 0
    quality.lost(30 * NS_PER_S, "agent.broker-lost")
    quality.lost(31 * NS_PER_S, "agent.broker-down")
    seen = quality.take(40 * NS_PER_S)
    assert (seen.up, seen.losses, seen.cause, seen.outage_s) == (False, 1, "agent.broker-lost", 10.0)
    assert quality.connected(45 * NS_PER_S) == 15 * NS_PER_S
    seen = quality.take(100 * NS_PER_S)
    assert (seen.up, seen.outage_s) == (True, 15.0)


def test_availability_is_of_the_last_hour_and_of_the_last_day() -> None:
    """An hour down a while ago is out of the hour and still in the day."""
    quality = LinkQuality()
    quality.connected(0)
    quality.lost(5 * HOUR_NS, "x")
    quality.connected(6 * HOUR_NS)
    seen = quality.take(8 * HOUR_NS)
    assert (seen.hour_percent, seen.day_percent) == (100.0, 87.5)
    quality.lost(8 * HOUR_NS, "x")
    later = quality.take(40 * HOUR_NS)
    assert (later.hour_percent, later.day_percent) == (0.0, 0.0)
    assert len(quality._minutes) <= 24 * 60 + 1


def test_the_time_before_the_watch_does_not_count() -> None:
    """A station that started a minute ago, long after the boot."""
    quality = LinkQuality()
    quality.connected(500 * HOUR_NS)
    assert quality.take(500 * HOUR_NS).hour_percent == 0.0
    assert quality.take(500 * HOUR_NS + MINUTE_NS).day_percent == 100.0


@given(st.lists(st.tuples(st.integers(1, 20 * MINUTE_NS), st.booleans()), max_size=60))
def test_availability_is_the_time_up_over_the_time_known(steps: list[tuple[int, bool]]) -> None:
    """Whatever the order of coming and going, within an hour's day."""
    quality, now_ns, up, total_ns = LinkQuality(), 0, False, 0
    quality.take(0)
    for length_ns, connect in steps:
        now_ns += length_ns
        total_ns += length_ns if up else 0
        up = connect
        quality.connected(now_ns) if connect else quality.lost(now_ns, "x")
    seen = quality.take(now_ns)
    if now_ns < 24 * HOUR_NS - MINUTE_NS:
        assert seen.day_percent == pytest.approx(100 * total_ns / now_ns if now_ns else 0.0)
    assert 0 <= seen.hour_percent <= 100


def test_the_machine_is_seen_as_it_is(tmp_path: Path) -> None:
    """Memory and disk agree with other ways to ask; no thermal zone is no error."""
    zone = tmp_path / "temp"
    zone.write_text("48312\n")
    seen = machine.look(tmp_path, zone)
    assert seen.memory_total is not None
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert abs(seen.memory_total - kib * 1024) < 4096
    assert seen.load == pytest.approx(float(Path("/proc/loadavg").read_text().split()[0]), abs=0.5)
    assert (seen.temperature, seen.disk_total is not None and seen.disk_total > 0) == (48.312, True)
    assert seen.memory_most > 1 << 20
    zone.write_text("no number")
    blind = machine.look(tmp_path / "nowhere", zone)
    assert (blind.temperature, blind.disk_total, blind.disk_free) == (None, None, None)


def test_the_device_fills_frames_like_any_other(tmp_path: Path) -> None:
    """A value or a status for every column, of an uplink that is there and of one that is not yet."""
    clock, health = Ticking(), UplinkHealth(("main",))
    health.quality.connected(clock.now_ns)
    health.quality.acknowledged(clock.now_ns, 77_000_000, 500, backlog=False)
    health.bytes_sent, health.pending = 1234, {"main": 2, "side": 3}
    driver = GatewayDriver(Watch(), clock, ("province", "city"), tmp_path)
    driver.see({"province": health})
    (group,) = driver.groups
    assert (group.device, group.stream, group.layout.every_ns) == ("gateway", "main", MINUTE_NS)
    encode_layout(group.layout)
    clock.now_ns += MINUTE_NS
    frame = asyncio.run(driver.poll(group))
    seen = dict(zip((column.name for column in group.layout.columns), frame.values, strict=True))
    assert (seen["province_up"], seen["province_p95"], seen["province_sent"], seen["province_pending"]) == (
        True,
        77.0,
        1234,
        5,
    )
    assert (seen["province_available_hour"], seen["city_up"], seen["cpu"]) == (100.0, None, None)
    assert frame.statuses is not None
    for value, code in zip(frame.values, frame.statuses, strict=True):
        assert (value is None) == (code == status.BAD_NO_DATA)
    clock.now_ns += MINUTE_NS
    again = asyncio.run(driver.poll(group))
    assert again.values[1] is not None
    asyncio.run(driver.open())
    asyncio.run(driver.close())
