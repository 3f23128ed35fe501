"""Reading nodes: one call a group, values as their columns keep them, bad nodes apart."""

import pytest

from buffer import status
from drivers import conformance
from drivers.errors import LinkDown

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def polled(driver):
    """Open, poll the first group, close."""
    async with conformance.opened(lambda: driver) as opened:
        frame = await opened.poll(opened.groups[0])
        conformance.frame_fits(opened.groups[0], frame)
        return frame


async def test_values_of_every_type_are_read_as_their_columns_say(plant, driver_of):
    """Numbers, text and bytes, in one frame."""
    kinds = {
        "Bool": "bool",
        "Byte": "uint8",
        "Int16": "int16",
        "Int32": "int32",
        "UInt64": "uint64",
        "Float": "float32",
        "Double": "float64",
        "Text": "text",
        "Localized": "text",
        "Bytes": "bytes",
    }
    points = {name.lower(): {"node": plant.node(name), "type": kind} for name, kind in kinds.items()}
    frame = await polled(driver_of(plant.instrument.url, points, every="1s"))
    assert frame.values == (True, 200, -5, -70000, 2**64 - 1, 0.5, 0.1, "bơm 3", "chạy", b"\x00\x01")
    assert frame.statuses is None


async def test_what_does_not_fit_leaves_no_value(plant, driver_of):
    """Arrays, NaN, text for a number, a double too fine for a float32, an integer too large."""
    points = {
        "array": {"node": plant.node("Array")},
        "nan": {"node": plant.node("NaN")},
        "text": {"node": plant.node("Text")},
        "fine": {"node": plant.node("Double"), "type": "float32"},
        "large": {"node": plant.node("Int32"), "type": "int16"},
        "good": {"node": plant.node("Int32")},
    }
    frame = await polled(driver_of(plant.instrument.url, points, every="1s"))
    assert frame.values == (None, None, None, None, None, -70000.0)
    no = status.BAD_DECODING_ERROR
    assert frame.statuses == (no, status.BAD_NO_DATA, no, no, no, 0)


async def test_unknown_nodes_cost_their_own_points_only(plant, driver_of):
    """A node and a namespace the server does not have."""
    points = {
        "gone": {"node": plant.node("Nothing")},
        "good": {"node": plant.node("Int16")},
        "elsewhere": {"node": "nsu=urn:elsewhere;s=Int16"},
        "numbered": {"node": f"ns={plant.index};s=Int16"},
    }
    frame = await polled(driver_of(plant.instrument.url, points, every="1s"))
    assert frame.values == (None, -5.0, None, -5.0)
    assert frame.statuses == (status.BAD_NODE_ID_UNKNOWN, 0, status.BAD_NODE_ID_UNKNOWN, 0)


async def test_a_group_of_nothing_but_foreign_namespaces_still_makes_a_frame(plant, driver_of):
    """Nothing needs to be asked to know."""
    frame = await polled(driver_of(plant.instrument.url, {"a": {"node": "nsu=urn:elsewhere;i=1"}}, every="1s"))
    assert frame.statuses == (status.BAD_NODE_ID_UNKNOWN,)


async def test_the_servers_own_status_is_kept(plant, driver_of):
    """To the last bit, with the value beside it where there is one."""
    uncertain = 0x40930000
    await plant.write("Int16", 7, code=uncertain)
    frame = await polled(driver_of(plant.instrument.url, {"a": {"node": plant.node("Int16")}}, every="1s"))
    assert (frame.values, frame.statuses) == ((7.0,), (uncertain,))
    await plant.write("Int16", -5)


async def test_an_implausible_value_is_kept_and_marked(plant, driver_of):
    """The range is in engineering units."""
    points = {"a": {"node": plant.node("Int32"), "type": "int32", "scale": "0.001", "range": [-69, 0]}}
    frame = await polled(driver_of(plant.instrument.url, points, every="1s"))
    assert (frame.values, frame.statuses) == ((-70000,), (status.BAD_OUT_OF_RANGE,))


async def test_it_passes_the_suite(plant, driver_of):
    """Polled and subscribed groups on one link."""
    points = {"double": {"node": plant.node("Double")}, "gone": {"node": plant.node("Nothing")}}
    devices = {"read": {"every": "1s", "points": points}, "told": {"subscribe": "50ms", "points": points}}

    def make():
        return driver_of(plant.instrument.url, devices=devices)

    await conformance.opens_and_closes(make)
    await conformance.answers_fit(make)
    await conformance.cancellation_frees_the_port(make)


async def test_a_dead_end_is_link_down(driver_of):
    """Nobody listens there."""
    make = lambda: driver_of("opc.tcp://127.0.0.1:1", {"a": {"node": "i=1"}}, every="1s")  # noqa: E731
    await conformance.dead_end_is_link_down(make)
    with pytest.raises(LinkDown) as caught:
        await make().open()
    assert (caught.value.code, caught.value.fields["url"]) == ("opcua.refused", "opc.tcp://127.0.0.1:1")


async def test_a_closed_driver_is_link_down(driver_of):
    """Asking without opening is no bug of the wire."""
    driver = driver_of("opc.tcp://127.0.0.1:1", {"a": {"node": "i=1"}}, every="1s")
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])
