"""The driver without a wire: the same waves for the same seed, and the suite every driver must pass."""

import pytest

from buffer import status
from config.judge import Unsound, judged
from drivers import conformance
from drivers.api import DriverMisconfigured
from drivers.errors import LinkDown
from drivers.simulated.driver import SimulatedDriver
from drivers.simulated.settings import SimulatedLink, SimulatedPoint

POINTS = {
    "level": {"wave": "sine", "level": 50, "amplitude": 10, "period": "4s", "unit": "%"},
    "count": {"wave": "ramp", "type": "uint16", "amplitude": 1000, "period": "10s"},
    "drift": {"wave": "walk", "type": "float32", "level": 20, "amplitude": "0.5"},
    "fixed": {"wave": "constant", "type": "int8", "level": -7, "every": "2s"},
    "on": {"type": "bool", "period": "4s"},
    "over": {"wave": "constant", "type": "uint8", "level": 999},
}


def driver_of(clock, points=POINTS, **device):
    """Make a driver of one device."""
    link = {"driver": "simulated", "devices": {"tank": {"every": "1s", "points": points, **device}}}
    return SimulatedDriver("sim", judged(SimulatedLink, link), clock)


async def polls(driver, times):
    """Give the values of some polls of the first group."""
    async with conformance.opened(lambda: driver) as opened:
        return [(await opened.poll(opened.groups[0])).values for _ in range(times)]


async def test_it_passes_the_suite(clock):
    """A sibling of the drivers with a wire."""
    await conformance.opens_and_closes(lambda: driver_of(clock))
    await conformance.answers_fit(lambda: driver_of(clock), polls=20)
    await conformance.cancellation_frees_the_port(lambda: driver_of(clock))


async def test_the_same_seed_walks_the_same_way_and_another_does_not(clock):
    """A test can foretell it."""
    assert await polls(driver_of(clock), 50) == await polls(driver_of(clock), 50)
    assert await polls(driver_of(clock), 50) != await polls(driver_of(clock, seed=1), 50)


async def test_the_waves_have_the_shapes_they_are_named_for(clock):
    """Level, amplitude and period mean what they say."""
    frames = await polls(driver_of(clock), 40)
    assert [frame[0] for frame in frames[:4]] == pytest.approx([50, 60, 50, 40])
    assert [frame[1] for frame in frames[:11]] == [*range(0, 1000, 100), 0]
    assert all(19.5 <= frame[2] <= 20.5 for frame in frames)
    assert len({frame[2] for frame in frames}) > 30
    assert [frame[3] for frame in frames[:4]] == [False, True, True, False]
    assert frames[0][4] == 255


async def test_an_implausible_value_is_marked(clock):
    """Ranges hold for made-up values too."""
    driver = driver_of(clock, {"a": {"wave": "constant", "level": 5, "scale": "0.1", "range": [0, "0.4"]}})
    async with conformance.opened(lambda: driver) as opened:
        frame = await opened.poll(opened.groups[0])
    assert (frame.values, frame.statuses) == ((5.0,), (status.BAD_OUT_OF_RANGE,))


async def test_a_closed_link_is_down(clock):
    """As a wire would be."""
    driver = driver_of(clock)
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])


@pytest.mark.parametrize(
    ("keys", "code"), [({"scale": 0}, "simulated.scale-zero"), ({"range": [1, 0]}, "simulated.range-crossed")]
)
def test_each_mistake_has_its_code(keys, code):
    """The code is the key to the words."""
    with pytest.raises(Unsound) as caught:
        judged(SimulatedPoint, keys)
    assert caught.value.findings[0].kind == code


@pytest.mark.parametrize(
    ("device", "code"),
    [
        ({"points": {}}, "drivers.no-points"),
        ({"points": {f"p{n}": {} for n in range(4097)}}, "drivers.too-many-points"),
        ({"every": None, "points": {"a": {}}}, "drivers.every-missing"),
    ],
)
def test_what_cannot_be_carried_out_is_named(device, code, clock):
    """Before anything runs."""
    device = {"every": "1s", **device}
    device = {key: value for key, value in device.items() if value is not None}
    link = {"driver": "simulated", "devices": {"tank": device}}
    with pytest.raises(DriverMisconfigured) as caught:
        SimulatedDriver("sim", judged(SimulatedLink, link), clock)
    assert caught.value.code == code
