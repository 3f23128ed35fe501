"""Profiles: laid under the technician's keys, judged like them, faults shown where they are written."""

from importlib import resources
from pathlib import Path

import pytest

from config.errors import ConfigFaults
from config.judge import judged
from config.profile import Profile, merge, names, shipped
from config.source import parse
from tests.config.meter import HEAD, LINKS

PROFILE = """driver: meter
source: a manual
device:
  unit: 9
  points:
    flow: {holding: 1, unit: m3/h}
    level: {holding: 2}
"""
WITH = LINKS.replace(
    "{unit: 3, points: {p: {holding: 1}}}", "{profile: acme/x, unit: 3, points: {flow: {unit: l/s}, level: }}"
)


@pytest.fixture
def profile(tmp_path):
    """Put a profile beside the file."""

    def put(text, name="acme/x"):
        file = tmp_path / "profiles" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return put


def test_the_devices_own_keys_win_and_points_merge_by_name(load_text, profile):
    """A unit is changed without repeating the address; a point set to nothing is left out."""
    profile(PROFILE)
    device = load_text(HEAD + WITH).config.links["bus"].devices["m"]
    assert device.unit == 3
    assert {name: (point.holding, point.unit) for name, point in device.points.items()} == {"flow": (1, "l/s")}


def test_a_fault_in_a_profile_is_shown_in_the_profile(load_text, profile):
    """The technician's own keys are shown in their own file."""
    file = profile(PROFILE.replace("holding: 1", "holding: x"))
    with pytest.raises(ConfigFaults) as caught:
        load_text(HEAD + WITH.replace("unit: l/s", "unit: 5"))
    assert [(f.code, f.file.name, f.line, f.col) for f in caught.value.faults] == [
        ("config.not-text", "gateway.yaml", 6, 59),
        ("config.not-integer", file.name, 6, 21),
    ]


def test_a_key_missing_from_both_is_shown_at_the_device(load_text, profile):
    """The device is where it can be added."""
    profile(PROFILE.replace("  unit: 9\n", ""))
    with pytest.raises(ConfigFaults) as caught:
        load_text(HEAD + WITH.replace("unit: 3, ", ""))
    assert [(f.code, f.line, f.col) for f in caught.value.faults] == [("config.missing-key", 6, 7)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "config.open-bracket"),
        ("[]", "config.not-mapping"),
        ("driver: meter\nsource: x\ndevice: 5", "config.not-mapping"),
        ("driver: meter\nsource: x\ndevice: {a: !x y}", "config.unknown-tag"),
        ("driver: opcua\nsource: x\ndevice: {}", "config.profile-driver"),
        ("driver: meter\ndevice: {}", "config.missing-key"),
    ],
)
def test_a_profile_that_cannot_be_used_is_a_fault(load_text, profile, text, code):
    """And only it: what the device lacks because of it is not held against the device."""
    profile(text)
    with pytest.raises(ConfigFaults) as caught:
        load_text(HEAD + WITH.replace("unit: 3, ", "").replace(", level: ", ""))
    assert code in [fault.code for fault in caught.value.faults]


def test_a_profile_of_ones_own_goes_before_ours(load_text, profile):
    """A technician may mend a shipped profile on the spot."""
    profile(PROFILE, "cas/continuous")
    device = load_text(HEAD + WITH.replace("acme/x", "cas/continuous")).config.links["bus"].devices["m"]
    assert set(device.points) == {"flow"}


def test_merging_goes_key_by_key_and_lists_are_replaced():
    """Only mappings are joined."""
    assert merge({"a": {"b": 1}, "c": (1,)}, {"a": {"b": 0, "d": 2}, "c": (1, 2), "e": 3}) == {
        "a": {"b": 1, "d": 2},
        "c": (1,),
        "e": 3,
    }


def test_every_shipped_profile_is_read_and_names_its_source():
    """No register without a public document."""
    assert Path(str(resources.files("config"))) in shipped().parents
    for name in names(Path("/nowhere")):
        file = shipped() / f"{name}.yaml"
        document = parse(file.read_bytes(), file)
        assert document.faults == []
        assert len(judged(Profile, document.value).source) > 20
