"""From a file to a configuration: what is given, and that every fault comes at once at its exact place."""

import hashlib
from pathlib import Path

import pytest

from config.errors import ConfigFaults, Fault, SettingsUnavailable
from config.judge import judged
from config.load import load
from config.model import Serial
from tests.config.meter import HEAD, LINKS, MeterLink

MAIN = Path("m")
TLS = "{ca: tls/gateway.pem, cert: tls/gateway.pem, key: tls/KEY}"
UPLINK = f"uplinks:\n  p:\n    url: mqtts://h:8883\n    tls: {TLS}\n"


def test_a_sound_file_is_loaded(load_text, tmp_path):
    """Links are the models of their drivers, the digest is that of the bytes."""
    loaded = load_text(HEAD + LINKS)
    assert isinstance(loaded.config.links["bus"], MeterLink)
    assert loaded.config.links["bus"].devices["m"].points["p"].holding == 1
    assert loaded.digest == hashlib.sha256((HEAD + LINKS).encode()).digest()
    assert loaded.path == tmp_path / "gateway.yaml"
    assert loaded.spot(("links", "bus", "devices", "m", "unit")).col == 17
    assert loaded.spot(("links", "bus", "devices", "m")).col == 7


@pytest.mark.parametrize("text", ["0.001", "1e-3", "1E+2", "0.10", "-.5", "1000", "'0.5'", "5."])
def test_scale_keeps_the_very_text_that_was_written(load_text, text):
    """Nothing is rounded or reformatted on the way to the layout."""
    loaded = load_text(HEAD + LINKS.replace("{holding: 1}", f"{{holding: 1, scale: {text}}}"))
    assert loaded.config.links["bus"].devices["m"].points["p"].scale == text.strip("'")


def test_a_driver_may_ask_for_a_float(load_text):
    """An exact number becomes a float only where the model says so."""
    loaded = load_text(HEAD + LINKS.replace("{holding: 1}", "{holding: 1, deadband: 0.5, limits: [1, 2]}"))
    point = loaded.config.links["bus"].devices["m"].points["p"]
    assert (point.deadband, point.limits) == (0.5, (1, 2))


def test_a_model_takes_a_list_where_it_has_a_tuple():
    """Code that builds settings by hand need not know how the reader builds lists."""
    assert judged(
        MeterLink, {"driver": "meter", "devices": {"m": {"unit": 1, "points": {"p": {"holding": 1, "limits": [1]}}}}}
    ).devices["m"].points["p"].limits == (1,)


def test_a_model_that_is_given_a_model_keeps_it():
    """Settings can be put together from parts."""
    keys = {"driver": "meter", "serial": Serial(port="/dev/x"), "devices": {"m": {"unit": 1}}}
    assert judged(MeterLink, keys).serial.baud == 9600


def test_paths_are_those_of_the_file_not_of_the_working_directory(load_text, certificates, tmp_path, monkeypatch):
    """`tls` and `buffer.path` come out absolute."""
    monkeypatch.chdir("/")
    uplink = UPLINK.replace("KEY", "gateway.key")
    config = load_text(HEAD + "buffer: {path: b.db}\n" + uplink + LINKS).config
    assert config.buffer.path == str(tmp_path / "b.db")
    assert config.uplinks["p"].tls.key == str(certificates / "gateway.key")


def test_a_key_of_another_certificate_is_a_fault(faults_of_text, certificates):
    """What the TLS library would refuse at midnight is refused now."""
    uplink = UPLINK.replace("KEY", "other.key")
    assert faults_of_text(HEAD + uplink + LINKS) == [("config.tls-key-mismatch", 5, 60)]


def test_a_key_that_is_no_key_is_told_from_a_certificate_that_is_none(faults_of_text, certificates):
    """Each file is named for itself."""
    uplink = UPLINK.replace("KEY", "gateway.pem")
    assert faults_of_text(HEAD + uplink + LINKS) == [("config.tls-not-pem", 5, 60)]


def test_faults_of_uplinks_show_even_where_the_rest_is_at_fault(faults_of_text):
    """A part at fault does not hide another."""
    text = "gateway: {id: A}\nuplinks:\n  p: {url: 'mqtt://h'}\n  q: {url: 5}\n" + LINKS
    assert faults_of_text(text) == [("config.bad-name", 1, 15), ("config.bad-url", 3, 12), ("config.not-text", 4, 12)]


def test_a_broken_driver_is_a_fault_at_its_name(tmp_path):
    """Why it cannot be had comes from whoever looked for it."""
    file = tmp_path / "g.yaml"
    file.write_text(HEAD + LINKS)

    def broken(name):
        raise SettingsUnavailable("config.driver-broken", driver=name, reason="no")

    with pytest.raises(ConfigFaults) as caught:
        load(file, broken, ("meter",))
    assert [(f.code, f.line, f.col, f.fields["reason"]) for f in caught.value.faults] == [
        ("config.driver-broken", 4, 13, "no")
    ]


def test_what_the_reader_refused_is_not_called_missing_too(faults_of_text):
    """One mistake, one fault."""
    assert faults_of_text("gateway: {id: &x a-1}\n" + LINKS) == [("config.alias", 1, 15)]
    assert faults_of_text("gateway: {<<: {id: a-1}}\n" + LINKS) == [("config.alias", 1, 11)]


def test_the_same_said_twice_of_one_place_is_said_once():
    """Faults are a set, in the order of the file, the main file's first."""
    a, b = Fault("x.a", MAIN, 2, 1), Fault("x.b", MAIN, 1, 1)
    other = Fault("x.a", MAIN.with_name("a"), 1, 1)
    assert ConfigFaults([other, a, a, b], MAIN).faults == (b, a, other)
    assert str(ConfigFaults([a])) == f"{MAIN}:2:1: x.a"
