"""pydantic's errors in our words: each kind has a code, each code the exact place."""

import pytest

from config.errors import ConfigFaults
from tests.config.meter import HEAD, LINKS


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ("{}", [("config.missing-key", "p")]),
        ("{holding: -1}", [("config.too-small", "-1")]),
        ("{holding: 1.5}", [("config.not-integer", "1.5")]),
        ("{holding: 'x'}", [("config.not-integer", "'x'")]),
        ("{holding: true}", [("config.not-integer", "true")]),
        ("{holding: }", [("config.empty-value", "holding")]),
        ("{holding: 1, order: cdab}", [("config.not-one-of", "cdab")]),
        ("{holding: 1, order: CDBA}", [("config.not-one-of", "CDBA")]),
        ("{holding: 1, filter: auot}", [("config.no-form-fits", "auot")]),
        ("{holding: 1, filter: 10}", [("config.no-form-fits", "10")]),
        ("{holding: 1, filter: {a: x}}", [("config.not-integer", "x")]),
        ("{holding: 1, deadband: x}", [("config.not-number", "x")]),
        ("{holding: 1, limits: 5}", [("config.not-list", "5")]),
        ("{holding: 1, limits: [1, a]}", [("config.not-integer", "a")]),
        ("{holding: 1, tag: A}", [("config.too-short", "A")]),
        ("{holding: 1, tag: AAAAA}", [("config.too-long", "AAAAA")]),
        ("{holding: 1, tag: aa}", [("config.bad-pattern", "aa")]),
        ("{holding: 1, every: 0s}", [("config.not-positive", "0s")]),
        ("{holding: 1, every: [1]}", [("config.bad-duration", "every")]),
        ("{holding: 1, scale: x, offset: true}", [("config.bad-number", "x"), ("config.bad-number", "true")]),
        ("{holding: 13}", [("config.bad-number", "p")]),
        ("{holding: 14}", [("config.invalid", "p")]),
        ("{holding: 1, holdin: 2, xyz: 3}", [("config.misspelt-key", "holdin"), ("config.unknown-key", "xyz")]),
        ("[1]", [("config.not-mapping", "[1]}}")]),
    ],
)
def test_each_kind_of_error_has_its_code_and_place(point, keys, faults):
    """What a model refuses is said in our words, with the text that stands there."""
    assert point(keys) == faults


def fields_of(load_text, device):
    """Give the fields of the first fault of a device."""
    with pytest.raises(ConfigFaults) as caught:
        load_text(HEAD + LINKS.replace("{unit: 3, points: {p: {holding: 1}}}", device))
    return caught.value.faults[0].code, caught.value.faults[0].fields


def test_an_unknown_key_lists_the_known_ones(load_text):
    """Also those of a driver, and those that have another name in the file."""
    code, fields = fields_of(load_text, "{unit: 1, qqq: 1, points: {p: {holding: 1}}}")
    assert (code, fields["known"]) == (
        "config.unknown-key",
        "every, on, password, points, profile, register, stream, unit",
    )


def test_a_misspelt_key_names_the_nearest(load_text):
    """Aliases are suggested as they are written."""
    code, fields = fields_of(load_text, "{unit: 1, regster: 1, points: {p: {holding: 1}}}")
    assert (code, fields["nearest"]) == ("config.misspelt-key", "register")


def test_a_password_in_the_open_is_a_fault_of_its_own(load_text):
    """It says to use a secret instead."""
    assert fields_of(load_text, "{unit: 1, password: abc, points: {p: {holding: 1}}}")[0] == "config.not-secret"


def test_text_that_looks_like_yes_is_no_yes(load_text):
    """YAML 1.1's `on` is a text and stays one."""
    assert fields_of(load_text, "{unit: 1, on: on, points: {p: {holding: 1}}}")[0] == "config.not-yes-no"


def test_an_empty_mapping_that_needs_an_entry_says_so(faults_of_text):
    """`links: {}` and `devices: {}` have nothing in them."""
    text = "gateway: {id: a-1}\nlinks: {bus: {driver: meter, devices: {}}}\n"
    assert faults_of_text(text) == [("config.nothing-in-it", 2, 30)]
    assert faults_of_text("gateway: {id: a-1}\nlinks: {}\n") == [("config.nothing-in-it", 2, 1)]


def test_a_name_that_cannot_be_one_is_shown_at_the_key(faults_of_text):
    """Names of devices become topics."""
    assert faults_of_text(HEAD + LINKS.replace("m:", "M 1:")) == [("config.bad-name", 6, 7)]
