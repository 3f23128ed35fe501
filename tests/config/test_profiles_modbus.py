"""The shipped Modbus profiles say what the register table says: no register more, none less, none otherwise.

The expectation comes from `tests/data/registers/verified_registers.csv` alone, and the registers of the simulated
instruments are encoded and served by pymodbus; nothing here is taken from the profile files but what is judged.
"""

import csv
import re
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.judge import judged
from config.load import load
from config.profile import Profile, names, shipped
from config.source import parse
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.points import WIDTH

TABLE = Path(__file__).parents[1] / "data" / "registers" / "verified_registers.csv"

FAMILY = {
    "abb/a-b-series": "abb_ab_series",
    "carlo-gavazzi/em24": "carlo_gavazzi_em24",
    "chint/dtsu666": "chint_dtsu666",
    "danfoss/fc51": "danfoss_fc51",
    "eastron/sdm120": "eastron_sdm120",
    "eastron/sdm630": "eastron_sdm630",
    "endress-hauser/liquiline-cm44x": "endress_cm44x",
    "generic/xy-md02": "xy_md02_sht20",
    "huawei/sun2000": "huawei_sun2000",
    "janitza/b23": "janitza_b23",
    "jxct/jxbs-3001-tr": "jxbs_3001_tr",
    "peacefair/pzem-016": "pzem_016",
    "rika/rk520-02": "rika_rk520_02",
    "schneider/iem3000": "schneider_iem3000",
    "schneider/pm2xxx-pm5xxx": "schneider_pm2xxx_pm5xxx",
    "schneider/pm5110": "schneider_pm5110",
    "selec/mfm384": "selec_mfm384",
    "siemens/pac2200-pac3200": "siemens_pac2200_3200",
    "sungrow/sg": "sungrow_sg",
}
"""The family of the register table that a profile serves."""

READ_FROM_A_PM5110 = "PM5110, run on hardware"
"""Rows of the PM2xxx and PM5xxx family with this in their source are the PM5110's as well."""

LEFT_OUT = {
    ("eastron_sdm630", "ReadLen"): "the length of a request, not a register",
    ("eastron_sdm120", "ReadLen"): "the length of a request, not a register",
    ("schneider_iem3000", "ReadLen"): "the length of a request, not a register",
    ("siemens_pac2200_3200", "ReadLen"): "the length of a request, not a register",
    ("chint_dtsu666", "ReadLen"): "the length of a request, not a register",
    ("janitza_b23", "ReadLen"): "the length of a request, not a register",
    ("siemens_pac2200_3200", "Frequency"): "sources disagree on the address and the function",
    ("pzem_016", "Import"): "sources disagree on the scale",
    ("sungrow_sg", "TotalYield"): "word order from memory",
    ("sungrow_sg", "DCPower"): "word order from memory",
    ("sungrow_sg", "Power"): "word order from memory",
}
"""Rows of the table that no profile may have."""

POINT_NAME = {
    "Voltage": "voltage",
    "VoltageLNAvg": "voltage_ln_avg",
    "VoltageLLAvg": "voltage_ll_avg",
    "VoltageL12": "voltage_l12",
    "VoltageL23": "voltage_l23",
    "VoltageL31": "voltage_l31",
    "THD": "voltage_thd",
    "Current": "current",
    "CurrentAvg": "current_avg",
    "Power": "power",
    "ApparentPower": "apparent_power",
    "ReactivePower": "reactive_power",
    "Cosphi": "power_factor",
    "CosphiAvg": "power_factor_avg",
    "PhaseAngle": "phase_angle",
    "Frequency": "frequency",
    "Import": "energy_import",
    "Export": "energy_export",
    "Sum": "energy_total",
    "ReactiveImport": "reactive_energy_import",
    "ReactiveExport": "reactive_energy_export",
    "ReactiveSum": "reactive_energy_total",
    "Temperature": "temperature",
    "Humidity": "humidity",
    "pH": "soil_ph",
    "SoilMoisture": "soil_moisture",
    "SoilTemperature": "soil_temperature",
    "EC": "soil_conductivity",
    "N": "soil_nitrogen",
    "P": "soil_phosphorus",
    "K": "soil_potassium",
    "DCPower": "power_dc",
    "NominalPower": "nominal_power",
    "DailyYield": "energy_yield_today",
    "TotalYield": "energy_yield_total",
    "Status": "state",
    "State": "state",
    "OutputFrequency": "output_frequency",
    "MotorCurrent": "motor_current",
    "DCLink": "dc_link_voltage",
}
"""The one name of each quantity of the table; a phase is appended (`VoltageL1` is `voltage_l1`)."""

NAMED_OTHERWISE = {
    ("schneider_iem3000", "Voltage"): "voltage_ln_avg",
    ("schneider_iem3000", "Current"): "current_avg",
    ("huawei_sun2000", "Power"): "power_ac",
    ("huawei_sun2000", "ReactivePower"): "reactive_power_ac",
    ("huawei_sun2000", "Temperature"): "internal_temperature",
    ("sungrow_sg", "Temperature"): "internal_temperature",
}
"""Where the table has one word for two quantities: an average, power given instead of drawn, a cabinet's warmth."""


class Register(NamedTuple):
    """What the wire must be asked for, and what the answer means; texts are exact."""

    table: str
    address: int
    kind: str
    order: str
    scale: str
    unit: str


class Row(NamedTuple):
    """A row of the table."""

    family: str
    quantity: str
    source: str
    note: str
    register: Register


def _rows():
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            table = {"3": "holding", "4": "input"}[row["fc"]]
            order = {"AB": "ABCD", "ABCDEFGH": "ABCD"}.get(row["order"], row["order"])
            unit = "" if row["unit"] == "by unit reg" else row["unit"]
            register = Register(table, int(row["addr0"]), row["type"], order, row["scale"], unit)
            yield Row(row["profile"], row["quantity"], row["source"], row["note"], register)


ROWS = tuple(_rows())
VERIFIED = tuple(row for row in ROWS if (row.family, row.quantity) not in LEFT_OUT)


def rows_of(profile):
    """Give the rows that a profile must have."""
    lent = "schneider_pm2xxx_pm5xxx" if profile == "schneider/pm5110" else ""
    return [
        row
        for row in VERIFIED
        if row.family == FAMILY[profile] or (row.family == lent and READ_FROM_A_PM5110 in row.source)
    ]


def read(name):
    """Read a profile file, and nothing more."""
    file = shipped() / f"{name}.yaml"
    return judged(Profile, parse(file.read_bytes(), file).value)


def link_of(name, folder, port=502):
    """Load a technician's file that names a profile."""
    file = folder / "gateway.yaml"
    file.write_text(
        f"gateway: {{id: a-1}}\nlinks:\n  wire:\n    driver: modbus\n    host: 127.0.0.1\n    port: {port}\n"
        f"    devices:\n      instrument: {{unit: 7, every: 1s, profile: {name}}}\n"
    )
    loaded = load(file, {"modbus": ModbusDriver.Settings}.get, ("modbus",))
    return loaded.config.links["wire"]


def points_of(name, folder):
    """Give the points of a profile, as the driver's model has them."""
    return link_of(name, folder).devices["instrument"].points


def register_of(point):
    """Put a point into the words of the table."""
    return Register(point.place.table, point.place.address, point.kind, point.order, point.scale or "1", point.unit)


class Clock:
    """A clock that stands still."""

    def boot_ns(self):
        """Give the one time."""
        return 1


def test_every_modbus_profile_serves_a_family_of_the_table_and_every_family_has_one():
    """Nothing is shipped beside the table, and no family is forgotten."""
    assert {name for name in names(Path("/nowhere")) if read(name).driver == "modbus"} == set(FAMILY)
    assert {row.family for row in VERIFIED} == set(FAMILY.values())


def test_every_row_that_the_table_doubts_is_left_out():
    """A note of conflict or of memory keeps a row out; 16-bit values have no word order to doubt."""
    doubted = {
        (row.family, row.quantity)
        for row in ROWS
        if "conflict" in row.note.lower()
        or row.quantity == "ReadLen"
        or ("from recall" in row.note and WIDTH[row.register.kind] > 1)
    }
    assert doubted == set(LEFT_OUT)


@pytest.mark.parametrize("name", FAMILY)
def test_a_profile_has_exactly_the_registers_of_its_family(name, tmp_path):
    """Function, address, type, order, scale and unit: one point for each verified row, and no other point."""
    points = [register_of(point) for point in points_of(name, tmp_path).values()]
    assert sorted(points) == sorted(row.register for row in rows_of(name))
    assert len(points) == len(set(points))


@pytest.mark.parametrize("name", [name for name in FAMILY if FAMILY[name] != "endress_cm44x"])
def test_a_quantity_has_the_same_name_in_every_profile(name, tmp_path):
    """The analyser is apart: what its inputs measure depends on the sensors."""
    named = {register_of(point): point_name for point_name, point in points_of(name, tmp_path).items()}
    for row in rows_of(name):
        quantity, phase = re.fullmatch(r"(.+?)(L[123])?", row.quantity).groups()
        regular = POINT_NAME[quantity] + (f"_{phase.lower()}" if phase else "")
        assert named[row.register] == NAMED_OTHERWISE.get((row.family, row.quantity), regular)


@pytest.mark.parametrize("name", FAMILY)
def test_no_two_points_of_a_profile_share_a_register(name):
    """Two values in one place are a slip of the table."""
    spans = sorted((row.register.table, row.register.address, WIDTH[row.register.kind]) for row in rows_of(name))
    for (table, address, width), (next_table, next_address, _) in pairwise(spans):
        assert table != next_table or address + width <= next_address


@pytest.mark.parametrize("name", FAMILY)
def test_a_profile_names_its_sources_as_the_table_does(name):
    """Word for word; where to find them may follow."""
    sources = "; ".join(dict.fromkeys(row.source for row in rows_of(name)))
    assert f"{read(name).source}, ".startswith(f"{sources}, ")


@pytest.mark.parametrize("name", FAMILY)
def test_a_driver_is_made_of_every_profile(name, tmp_path):
    """One group, one column a point."""
    driver = ModbusDriver("wire", link_of(name, tmp_path), Clock())
    assert [len(group.layout.columns) for group in driver.groups] == [len(rows_of(name))]


def raw_value(kind, index):
    """Give a value of a type that no other row has, and no word of which is like another."""
    if kind.startswith("float"):
        return (-1) ** index * (1000.0625 + index)
    bits = WIDTH[kind] * 16
    value = int.from_bytes(bytes(range(0x11, 0x11 + bits // 8))) + index
    return -value if kind.startswith("int") else value


@asynccontextmanager
async def instrument(rows):
    """Serve the registers of these rows, and refuse every other; give the port and what is in them, scaled."""
    blocks = {"holding": [], "input": []}
    scaled = {}
    for index, row in enumerate(rows):
        raw = raw_value(row.register.kind, index)
        kind = ModbusClientMixin.DATATYPE[row.register.kind.upper()]
        words = "little" if row.register.order == "CDAB" else "big"
        registers = ModbusClientMixin.convert_to_registers(raw, kind, words)
        blocks[row.register.table].append(SimData(row.register.address, values=registers, datatype=DataType.REGISTERS))
        scaled[f"{row.register.table}:{row.register.address}"] = Decimal(raw) * Decimal(row.register.scale)
    bits = [SimData(0, values=True, datatype=DataType.BITS)]
    unused = [SimData(0xFFFF, values=0, datatype=DataType.REGISTERS)]
    device = SimDevice(7, (bits, bits, blocks["holding"] or unused, blocks["input"] or unused))
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1], scaled
    finally:
        await server.shutdown()


@pytest.mark.parametrize("name", FAMILY)
async def test_what_an_instrument_holds_comes_back_through_its_profile(name, tmp_path):
    """Every row encoded by pymodbus is raw value times scale again; the first poll may find out the holes."""
    async with instrument(rows_of(name)) as (port, scaled):
        driver = ModbusDriver("wire", link_of(name, tmp_path, port), Clock())
        (group,) = driver.groups
        await driver.open()
        try:
            await driver.poll(group)
            frame = await driver.poll(group)
        finally:
            await driver.close()
    assert not frame.statuses
    columns = zip(group.layout.columns, frame.values, strict=True)
    assert {column.address: Decimal(raw) * Decimal(column.scale or 1) for column, raw in columns} == scaled


def test_the_readme_lists_every_shipped_profile():
    """Maker, model, file, number of points and source, as they are."""
    text = (shipped() / "README.md").read_text().partition("## Shipped")[2].partition("## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    listed = {file.strip("`"): (int(points), source) for maker, model, file, points, source in cells[2:]}
    assert len(listed) == len(cells) - 2
    shown = {name: read(name) for name in names(Path("/nowhere"))}
    assert listed == {name: (len(item.device["points"]), item.source) for name, item in shown.items()}
    assert all(maker and model for maker, model, *_ in cells[2:])
