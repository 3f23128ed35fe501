"""What a configuration will cost, against what DECISIONS 14 and 16 measured."""

import pytest

from agent.estimate import estimate
from buffer.frame import Column, Layout
from config.judge import judged
from config.model import Buffer
from drivers.api import Group

DAY_S = 86_400


def group(count, kind, every_s, stream="main", device="d"):
    """Give a group of equal columns."""
    every_ns = None if every_s is None else int(every_s * 1e9)
    columns = tuple(Column(f"c{i}", kind) for i in range(count))
    return Group(device, stream, Layout("l", device, "modbus", every_ns, columns))


def buffer(seal):
    """Give the settings of a buffer."""
    return judged(Buffer, {"seal_every": seal})


NOMINAL = [group(100, "uint16", 1, device=f"d{i}") for i in range(10)]


@pytest.mark.parametrize(("seal", "kept", "written"), [("1s", 2.6, 12.9), ("10s", 0.8, 2.6)])
def test_the_nominal_station_costs_what_was_measured(seal, kept, written):
    """1,000 readings/s of uint16: bytes a reading in the file and to flash, within a quarter."""
    cost = estimate(NOMINAL, buffer(seal))
    readings = 1000 * DAY_S
    assert cost.kept_bytes / readings == pytest.approx(kept, rel=0.25)
    assert cost.written_bytes / readings == pytest.approx(written, rel=0.25)


@pytest.mark.parametrize(("seal", "on_air"), [("5s", 56), ("10s", 31), ("1m", 7.6)])
def test_a_small_station_costs_what_was_measured(seal, on_air):
    """Ten float32 every 5 s, by bytes on the air, which have 103 of MQTT and TLS a block; pages waste the rest."""
    cost = estimate([group(10, "float32", 5)], buffer(seal))
    block_s = max(5, {"5s": 5, "10s": 10, "1m": 60}[seal])
    readings = 10 * DAY_S / 5
    block = on_air * 10 * block_s / 5 - 103
    assert block * DAY_S / block_s <= cost.kept_bytes <= 2.4 * block * DAY_S / block_s
    assert cost.written_bytes / readings > on_air


@pytest.mark.parametrize(("seal", "written_mb"), [("5s", 153), ("10s", 79), ("30s", 30)])
def test_a_small_station_writes_what_was_measured(seal, written_mb):
    """Ten uint16 every 5 s, the buffer full: megabytes a day, within a quarter."""
    cost = estimate([group(10, "uint16", 5)], buffer(seal))
    assert cost.written_bytes / 1e6 == pytest.approx(written_mb, rel=0.25)


def test_streams_cost_a_block_each_and_share_the_commit():
    """Two streams write less than twice one."""
    one = estimate([group(10, "float32", 1)], buffer("1s"))
    two = estimate([group(10, "float32", 1), group(10, "float32", 1, "side")], buffer("1s"))
    assert two.kept_bytes == pytest.approx(2 * one.kept_bytes)
    assert one.written_bytes * 1.5 < two.written_bytes < one.written_bytes * 1.9


def test_a_slow_stream_seals_when_it_has_something_to_tell():
    """One reading an hour makes no block a second, and yet one in five minutes."""
    slow = estimate([group(1, "float32", 3600)], buffer("1s"))
    assert slow.kept_bytes == pytest.approx(288 * 1024, rel=0.6)


@pytest.mark.parametrize("groups", [[], [group(5, "float64", None)]])
def test_what_is_pushed_is_not_guessed_and_nothing_divides_by_zero(groups):
    """An empty block in five minutes remains."""
    cost = estimate(groups, buffer("5s"))
    assert 0 < cost.kept_bytes < 1e6
    assert cost.days(8 * 10**9) > 1000


@pytest.mark.parametrize("kind", ["text", "bytes", "bool", "int8", "uint64", "float16", "float64"])
def test_every_kind_has_a_width(kind):
    """None is forgotten."""
    assert estimate([group(3, kind, 1)], buffer("1s")).kept_bytes > 0


def test_the_loss_window_is_the_seal_interval():
    """What a power cut takes."""
    assert estimate([], buffer("30s")).loss_ns == 30 * 10**9
