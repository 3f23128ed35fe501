"""The JSON Schema accepts what `check` accepts, and refuses what is misspelt, missing or of the wrong shape."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agent.cli.schema import command, document
from agent.clock import SystemClock
from agent.reading import read
from config import profile
from config.errors import ConfigFaults
from config.model import Secret, parse_duration, parse_size, written_duration, written_size
from config.raw import read_bytes
from config.source import parse

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
SCHEMA = document()
STRUCTURAL = [
    "bad-names",
    "durations-and-sizes",
    "misspelt-driver",
    "misspelt-keys",
    "missing-keys",
    "modbus-device",
    "modbus-types",
    "no-driver",
    "not-a-mapping",
    "number-for-text",
    "out-of-range",
    "unknown-driver",
    "wrong-shapes",
    "yaml-traps",
]
"""The cases whose faults can be seen without knowing what keys mean together."""


def faults(text, name="x.yaml"):
    """Validate YAML, read as the product reads it."""
    return faults_of(parse(text if isinstance(text, bytes) else text.encode(), Path(name)).value)


def faults_of(value):
    """Validate a tree."""
    return sorted(error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(plain(value)))


def plain(value):
    """Give a tree as an editor sees it."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Secret):
        return value.name
    return float(value) if isinstance(value, Decimal) else value


def test_the_schema_is_one():
    """By the meta-schema of its draft; every reference leads somewhere."""
    Draft202012Validator.check_schema(SCHEMA)
    for reference in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(SCHEMA)):
        assert reference in SCHEMA["$defs"]


@pytest.mark.parametrize("file", sorted(ROOT.glob("drivers/*/sample.yaml")), ids=lambda file: file.parent.name)
def test_the_samples_beside_the_drivers_are_valid(file):
    """Which are parts, and so valid in links.d as well."""
    assert faults(file.read_bytes()) == []


def test_the_sample_of_the_readme_is_valid():
    """It is what people begin with."""
    assert faults((ROOT / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]) == []


@pytest.mark.parametrize("name", profile.names(Path()))
def test_every_shipped_profile_is_a_valid_device(name):
    """As it would stand in the file itself, written out."""
    value = parse(read_bytes(profile.shipped() / f"{name}.yaml"), Path("p")).value
    wire = {"modbus": {"host": "h"}, "serial": {"serial": {"port": "/dev/x"}}}[value["driver"]]
    device = {**({"unit": 1} if value["driver"] == "modbus" else {}), **value["device"]}
    link = {"driver": value["driver"], **wire, "devices": {"d": device}}
    assert faults_of({"gateway": {"id": "a"}, "links": {"l": link}}) == []
    short = {"driver": value["driver"], **wire, "devices": {"d": {"profile": name, "unit": 1}}}
    if value["driver"] == "modbus":
        assert faults_of({"gateway": {"id": "a"}, "links": {"l": short}}) == []


@pytest.mark.parametrize("case", sorted(folder.name for folder in CASES.iterdir()))
def test_it_refuses_nothing_that_check_accepts_and_sees_what_can_be_seen(case, monkeypatch):
    """Every golden case: sound ones pass, structural faults do not."""
    monkeypatch.chdir(CASES / case)
    try:
        read(Path("gateway.yaml"), SystemClock())
        sound = True
    except ConfigFaults:
        sound = False
    try:
        value = parse(read_bytes(Path("gateway.yaml")), Path("gateway.yaml")).value
    except ConfigFaults:
        return  # no editor can complete what is not YAML
    found = faults_of(value)
    if sound:
        assert found == []
    if case in STRUCTURAL:
        assert found
    for part in sorted(Path("links.d").glob("*.yaml")) if sound else ():
        value = parse(part.read_bytes(), part).value
        assert value is None or faults_of(value) == []


HEAD = """gateway: {id: a-1}
links:
  l:
    driver: modbus
    host: h
    devices:
      d: {unit: 1, every: 1s, points: """


@pytest.mark.parametrize(
    ("points", "where"),
    [
        ("{p: {input: 1}}", None),
        ("{p: {input: 1, scale: 0.001, range: [0, 12.5]}}", None),
        ("{p: {input: 1, scale: '0.001', nan: -1}}", None),
        ("{p: {input: 1, nan: [-1, 0xFFFF], enum: {0: off, 1: on}, every: 1m}}", None),
        ("{p: {register: 40101}, q: {register: '00001'}}", None),
        ("{p: {inptu: 1}}", "$.links.l.devices.d.points.p"),
        ("{p: {input: 70000}}", "$.links.l.devices.d.points.p.input"),
        ("{p: {input: 1, every: 5}}", "$.links.l.devices.d.points.p.every"),
        ("{p: {input: 1, every: 5 sec}}", "$.links.l.devices.d.points.p.every"),
        ("{p: }", "$.links.l.devices.d.points.p"),
    ],
)
def test_a_points_keys_are_judged_by_its_driver(points, where):
    """In the dialect of the file."""
    found = faults(HEAD + points + "}\n")
    assert found == [] if where is None else any(path.startswith(where) for path in found)


def test_a_profile_gives_what_is_missing_and_a_point_may_be_left_out():
    """A serial device needs `line`, unless it has a profile; a point may be nothing then."""
    head = "gateway: {id: a}\nlinks: {w: {driver: serial, serial: {port: x}, devices: {d: "
    assert faults(head + "{profile: cas/continuous, points: {kind: , weight: {unit: kg}}}}}}\n") == []
    assert faults(head + "{profile: our-own/scale}}}}\n") == []
    assert faults(head + "{points: {weight: {unit: kg}}}}}}\n") == ["$.links.w.devices.d"]


def test_a_part_of_links_d_needs_no_gateway_and_a_main_file_does():
    """One schema for both."""
    link = "links: {w: {driver: simulated, devices: {d: {every: 1s, points: {p: {}}}}}}\n"
    assert faults(link) == []
    assert faults("gateway: {id: a}\n") == []
    assert faults("buffer: {keep: 1d}\n" + link) == ["$"]


def test_keys_are_explained_and_defaults_are_written_as_in_the_file():
    """What an editor shows beside a key."""
    buffer = SCHEMA["$defs"]["Buffer"]["properties"]
    assert (buffer["seal_every"]["default"], buffer["keep"]["default"]) == ("5s", "60d")
    assert (buffer["limit"]["default"], buffer["max_block"]["default"]) == ("8GB", "56kB")
    assert "power cut" in buffer["seal_every"]["description"]
    point = SCHEMA["$defs"]["ModbusPoint"]["properties"]
    assert "scale" in point["scale"]["description"]
    link = SCHEMA["properties"]["links"]["additionalProperties"]
    assert set(link["properties"]["driver"]["enum"]) >= {"modbus", "opcua", "serial", "simulated"}
    device = SCHEMA["$defs"]["ModbusDevice"]["properties"]["profile"]
    assert "eastron/sdm630" in device["anyOf"][0]["enum"]


@pytest.mark.parametrize("text", ["5s", "250ms", "60d", "36h", "90s", "1m"])
def test_a_duration_is_written_as_it_can_be_read(text):
    """In the largest unit that leaves it whole."""
    assert parse_duration(written_duration(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize("text", ["8GB", "56kB", "1MiB", "1B"])
def test_a_size_is_written_as_it_can_be_read(text):
    """The same for sizes."""
    assert parse_size(written_size(parse_size(text))) == parse_size(text)


def test_the_command_prints_it(capsys):
    """As JSON and nothing else."""
    command()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))


@pytest.mark.parametrize(
    "path", [("uplinks", "Bad Name"), ("links", "Bad Name"), ("links", "l", "devices", "Bad Name")]
)
def test_names_are_judged_wherever_they_stand(path):
    """They become topics."""
    tree = {"gateway": {"id": "a"}, "uplinks": {"p": {"url": "mqtt://h:1"}}}
    device = {"every": "1s", "points": {"p": {}}}
    tree["links"] = {"l": {"driver": "simulated", "devices": {"d": device}}}
    assert faults_of(tree) == []
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = next(iter(parent.values()))
    assert faults_of(tree)
