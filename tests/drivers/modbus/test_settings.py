"""What the technician may write of a Modbus link, and how each mistake is named."""

import pytest

from config.judge import Unsound, judged
from drivers.api import DriverMisconfigured
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.points import ModbusPoint, Place, manual_register
from drivers.modbus.settings import ModbusLink


def fault(data, model=ModbusPoint):
    """Give the code and place of the one fault in some settings."""
    with pytest.raises(Unsound) as caught:
        judged(model, data)
    (error,) = caught.value.findings
    return error.kind, error.steps


def link(points, **device):
    """Make a TCP link of one device."""
    device = {"unit": 1, "every": "1s", "points": points, **device}
    return {"driver": "modbus", "host": "10.0.0.1", "devices": {"meter": device}}


@pytest.mark.parametrize(
    ("number", "place"),
    [
        (1, ("coil", 0)),
        (9999, ("coil", 9998)),
        ("00001", ("coil", 0)),
        ("065536", ("coil", 65535)),
        (10001, ("discrete", 0)),
        (165536, ("discrete", 65535)),
        (30001, ("input", 0)),
        (39999, ("input", 9998)),
        (40101, ("holding", 100)),
        (400101, ("holding", 100)),
        (465536, ("holding", 65535)),
    ],
)
def test_a_register_number_of_a_manual_is_one_based(number, place):
    """Five or six digits, the first names the table."""
    assert manual_register(number) == Place(*place)


@pytest.mark.parametrize("number", [0, 20001, 50001, 40000, 465537, 4000001, -1, "4x001", ""])
def test_what_is_no_register_number_is_refused(number):
    """There is no table 2 or 5, no register 0, and nothing behind 65536."""
    assert fault({"register": number})[1] == ("register",)


def test_register_and_holding_are_the_same_place():
    """`register: 40101` is `holding: 100`."""
    assert judged(ModbusPoint, {"register": 40101}).place == judged(ModbusPoint, {"holding": 100}).place


@pytest.mark.parametrize(
    ("point", "code"),
    [
        ({}, "modbus.address-missing"),
        ({"holding": 1, "input": 1}, "modbus.address-twice"),
        ({"holding": 1, "register": 40002}, "modbus.address-twice"),
        ({"register": 50001}, "modbus.register-number"),
        ({"coil": 1, "type": "uint16"}, "modbus.bit-table"),
        ({"discrete": 1, "bits": {"a": 0}}, "modbus.bit-table"),
        ({"holding": 1, "type": "bool"}, "modbus.bool-register"),
        ({"holding": 1, "type": "uint32", "bits": {"a": 0}}, "modbus.bits-type"),
        ({"holding": 1, "bits": {}}, "modbus.bits-type"),
        ({"holding": 65535, "type": "float32"}, "modbus.past-the-end"),
        ({"register": 465535, "type": "uint64"}, "modbus.past-the-end"),
        ({"holding": 1, "scale": 0}, "modbus.scale-zero"),
        ({"holding": 1, "range": [10, 1]}, "modbus.range-crossed"),
        ({"holding": 1, "nan": 65536}, "modbus.nan-value"),
        ({"holding": 1, "type": "uint32", "nan": "1.5"}, "modbus.nan-value"),
        ({"coil": 1, "nan": 0}, "modbus.nan-value"),
        ({"holding": 1, "type": "float32", "nan": "1e39"}, "modbus.nan-value"),
    ],
)
def test_each_mistake_in_a_point_has_its_code(point, code):
    """The code is the key to the words, in both languages."""
    assert fault(point) == (code, ()) or fault(point) == (code, ("register",))


def test_addresses_outside_a_table_are_refused():
    """Tables have 65536 cells."""
    assert fault({"holding": 65536})[1] == ("holding",)
    assert fault({"holding": -1})[1] == ("holding",)


def test_unknown_keys_are_faults_and_the_inner_name_of_register_is_one():
    """Only what the README names may be written."""
    assert fault({"holding": 1, "adress": 1})[0] == "extra_forbidden"
    with pytest.raises(Unsound):
        judged(ModbusPoint, {"manual": 40101})


@pytest.mark.parametrize("wire", [{}, {"host": "h", "serial": {"port": "/dev/ttyUSB0"}}])
def test_a_link_has_exactly_one_wire(wire):
    """Neither none nor two."""
    devices = {"meter": {"unit": 1, "every": "1s", "points": {"a": {"holding": 0}}}}
    assert fault({"driver": "modbus", **wire, "devices": devices}, ModbusLink) == ("modbus.one-wire", ())


@pytest.mark.parametrize("unit", [300, 248, -1])
def test_a_unit_id_is_0_to_247_or_255(unit):
    """248 to 254 are reserved."""
    assert fault(link({"a": {"holding": 0}}, unit=unit), ModbusLink)[0] == "modbus.unit-number"


@pytest.mark.parametrize(
    "point",
    [
        {"holding": 0, "type": "string", "length": 250, "order": "BADC"},
        {"holding": 0, "type": "int8", "byte": "high"},
        {"holding": 0, "type": "uint32", "mask": 0x0FFF, "shift": 4, "enum": {"0": "off", "0xFF": "on"}},
        {"holding": 0, "type": "int16", "enum": {"-1": "reverse", "1": "forward"}, "nan": 0x8000},
        {"coil": 0, "enum": {"0": "off", "1": "on"}, "writable": {"min": 0, "max": 1}},
        {"holding": 0, "type": "bcd32", "nan": 99999999, "writable": {"min": 0, "max": "12.5"}},
    ],
)
def test_what_can_be_carried_out_is_accepted(point):
    """Each kind of point once."""
    judged(ModbusPoint, point)


def test_points_may_share_registers_where_both_can_be_meant(clock):
    """A number and its halves, bits beside their register, the same value with two scales."""
    points = {
        "whole": {"holding": 0, "type": "uint32"},
        "high": {"holding": 0},
        "low": {"holding": 1, "bits": {"a": 0}},
        "again": {"holding": 10, "type": "float32"},
        "scaled": {"holding": 10, "type": "float32", "scale": 2, "order": "CDAB"},
        "other_table": {"input": 11, "type": "float32"},
    }
    ModbusDriver("bus", judged(ModbusLink, link(points)), clock)


def test_all_misfits_of_a_link_come_at_once(clock):
    """The technician mends them in one go."""
    points = {
        "a": {"holding": 0, "type": "float32"},
        "b": {"holding": 1, "type": "float32"},
        "c": {"holding": 50},
        "d": {"holding": 90, "note": "x" * 1000, "enum": {"1": "y" * 30}},
    }
    with pytest.raises(DriverMisconfigured) as caught:
        ModbusDriver("bus", judged(ModbusLink, link(points, forbidden=[[50, 50]])), clock)
    found = [caught.value, *caught.value.others]
    assert {(each.code, each.path[-1]) for each in found} == {
        ("modbus.overlap", "b"),
        ("modbus.forbidden-point", "c"),
        ("modbus.note-too-long", "d"),
    }


def test_the_layout_says_how_each_value_is_read(clock):
    """An auditor can read every number from the registers again."""
    points = {
        "name": {"holding": 0, "type": "string", "length": 8},
        "mode": {"holding": 10, "mask": 0x0F00, "shift": 8, "enum": {"1": "run", "0": "stop"}, "note": "drive"},
        "count": {"holding": 11, "type": "bcd16"},
        "level": {"holding": 12, "type": "uint8", "byte": "high", "nan": [254, 255]},
        "other": {"holding": 13, "type": "int8"},
    }
    (group,) = ModbusDriver("bus", judged(ModbusLink, link(points)), clock).groups
    told = {column.name: (column.kind, column.address, column.order, column.note) for column in group.layout.columns}
    assert told == {
        "name": ("text", "holding:0*8", "ABCD", ""),
        "mode": ("uint16", "holding:10&0xF00>>8", "ABCD", "drive\nenum: 0 = stop, 1 = run"),
        "count": ("uint16", "holding:11=bcd", "ABCD", ""),
        "level": ("uint8", "holding:12.high", "", "nan: 254, 255"),
        "other": ("int8", "holding:13.low", "", ""),
    }


def misfit(data, clock):
    """Give the path and code of what cannot be carried out."""
    with pytest.raises(DriverMisconfigured) as caught:
        ModbusDriver("bus", judged(ModbusLink, data), clock)
    return caught.value.path, caught.value.code


def test_a_point_without_an_interval_is_named(clock):
    """Neither the device nor the point says how often."""
    data = link({"power": {"holding": 0}})
    del data["devices"]["meter"]["every"]
    assert misfit(data, clock) == (("devices", "meter", "points", "power"), "drivers.every-missing")


def test_units_0_and_255_exist_on_tcp_only(clock):
    """On a serial line 0 is the broadcast, which nobody answers."""
    ModbusDriver("bus", judged(ModbusLink, link({"a": {"holding": 0}}, unit=255)), clock)
    for unit in (0, 255):
        data = link({"a": {"holding": 0}}, unit=unit)
        del data["host"]
        data["serial"] = {"port": "/dev/ttyUSB0"}
        assert misfit(data, clock) == (("devices", "meter", "unit"), "modbus.unit-on-serial")


def test_a_device_without_points_is_named(clock):
    """There is nothing to read."""
    assert misfit(link({}), clock) == (("devices", "meter"), "drivers.no-points")


def test_a_point_wider_than_a_request_is_named(clock):
    """A device that gives two registers at a time cannot give a float64."""
    data = link({"a": {"holding": 0, "type": "float64"}}, max_registers=2)
    assert misfit(data, clock) == (("devices", "meter", "points", "a", "type"), "modbus.wider-than-request")


def test_more_points_than_a_layout_holds_are_refused(clock):
    """4096 is the bound of a layout."""
    points = {f"p{n}": {"holding": n} for n in range(4097)}
    assert misfit(link(points), clock) == (("devices", "meter"), "drivers.too-many-points")


def test_groups_are_the_points_of_one_interval_in_the_order_of_the_file(clock):
    """Each distinct `every` of a device is one group; bits become points of their own."""
    points = {
        "a": {"holding": 9, "scale": "0.1", "offset": -40, "unit": "degC", "range": [-40, 100], "note": "probe"},
        "b": {"input": 0, "every": "1m"},
        "alarms": {"register": 40101, "bits": {"overload": 0, "leak": 3}},
    }
    first, second = ModbusDriver("bus", judged(ModbusLink, link(points, stream="env")), clock).groups
    assert [column.name for column in first.layout.columns] == ["a", "alarms.overload", "alarms.leak"]
    assert [column.name for column in second.layout.columns] == ["b"]
    assert (first.layout.every_ns, second.layout.every_ns) == (10**9, 60 * 10**9)
    assert (first.stream, first.device, first.layout.link, first.layout.driver) == ("env", "meter", "bus", "modbus")
    column = first.layout.columns[0]
    assert (column.kind, column.address, column.order) == ("uint16", "holding:9", "ABCD")
    assert (column.scale, column.offset, column.low, column.high) == ("0.1", "-40", "-40", "100")
    assert first.layout.columns[2].address == "holding:100.3"
    assert first.layout.columns[2].kind == "bool"
