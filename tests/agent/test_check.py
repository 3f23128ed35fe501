"""`trambien check`: exit codes, languages, JSON; the words themselves are golden files in tests/cases."""

import datetime as dt
import io
import json
import os
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.cli.check import check
from agent.faults import language_of
from agent.unwise import stable_name

SOUND = """gateway: {id: a-1}
links:
  w:
    driver: serial
    serial: {port: /dev/ttyUSB1}
    devices: {s: {profile: cas/continuous}}
"""


@pytest.fixture
def file(tmp_path):
    """Write a configuration."""

    def write(text):
        path = tmp_path / "gateway.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_sound_file_is_summed_up_and_exits_0(file, capsys):
    """Counts of what the drivers made of it."""
    assert check(file(SOUND), as_json=True, language=None) == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in ("ok", "gateway", "links", "devices", "points", "uplinks")} == {
        "ok": True,
        "gateway": "a-1",
        "links": 1,
        "devices": 1,
        "points": 3,
        "uplinks": 0,
    }


def test_faults_as_json_carry_code_place_words_and_hint(file, capsys):
    """For machines that check many files."""
    path = file(SOUND.replace("ttyUSB1}", "ttyUSB1, baud: fast}"))
    assert check(path, as_json=True, language="en") == 78
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["faults"] == [
        {
            "code": "config.not-integer",
            "file": str(path),
            "line": 5,
            "col": 40,
            "path": "links.w.serial.baud",
            "message": "`fast` is not a whole number",
            "hint": "Write digits only: no quotes, no `_`, no leading zero.",
        }
    ]


def test_a_file_that_is_not_there_is_one_clear_fault(tmp_path, capsys):
    """No traceback."""
    assert check(tmp_path / "none.yaml", as_json=False, language="en") == 78
    assert "cannot be read: No such file or directory" in capsys.readouterr().out


def test_what_a_driver_cannot_carry_out_is_a_fault_with_a_place(file, capsys):
    """Drivers are constructed, not only their models."""
    check(file(SOUND.replace("profile: cas/continuous", "profile: cas/continuous, every: 1s")), language="en")
    assert "gateway.yaml:6:51: an instrument that speaks by itself (no `ask`) has no `every`" in capsys.readouterr().out


def test_the_summary_speaks_the_files_language(file, capsys):
    """Nobody needs to ask for it."""
    check(file(SOUND.replace("a-1}", "a-1, language: en}")))
    assert "the configuration is sound" in capsys.readouterr().out


def test_a_secret_is_found_in_systemds_directory(file, tmp_path, monkeypatch, capsys):
    """As it will be when the service runs."""
    (tmp_path / "port").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    check(file(SOUND.replace("/dev/ttyUSB1", "!secret port")), language="en")
    assert "cannot be found" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "environment", "language"),
    [
        ("gateway: {language: en, id: [", {"LANG": "vi_VN.UTF-8"}, "en"),
        ("gateway:\n  language: 'vi'", {"LANG": "en_US.UTF-8"}, "vi"),
        ("# language: vi", {"LANG": "en_US.UTF-8"}, "en"),
        ("", {"LC_ALL": "vi_VN", "LANG": "en_US.UTF-8"}, "vi"),
        ("", {"LANG": "fr_FR"}, "vi"),
        ("", {}, "vi"),
    ],
)
def test_the_language_is_the_files_then_the_environments_then_vietnamese(file, text, environment, language):
    """Even of a file that cannot be read as YAML."""
    assert language_of(file(text), environment) == language


def test_a_file_that_cannot_be_opened_is_spoken_of_in_the_environments_language(tmp_path):
    """There is nothing else to go by."""
    assert language_of(tmp_path, {"LANG": "en_US"}) == "en"


def test_a_terminal_without_vietnamese_gets_escapes(file, capsys, monkeypatch):
    """An ASCII locale is no reason to crash."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    check(file(b"\t"), language="vi")
    stream.flush()
    assert rb"L\u1ed7i" in stream.buffer.getvalue() or rb"l\u1ed7i" in stream.buffer.getvalue()


def test_a_caret_stands_under_its_place_on_the_screen(file, capsys):
    """Wide characters, combining marks and tabs count as they look."""
    check(file("gateway: {name: 水e\u0301\t, x: 1, id: a-1}\n" + SOUND.split("\n", 1)[1]), language="en")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == " " * 4 + " " * 16 + "  " + " " + "\t" + "  " + "^"


def test_a_place_far_to_the_right_is_shown_without_a_caret(file, capsys):
    """A caret in the next line of the screen helps nobody."""
    check(file("gateway: {name: " + "x" * 200 + ", y: 1, id: a-1}\n" + SOUND.split("\n", 1)[1]), language="en")
    assert "^" not in capsys.readouterr().out


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_line_at_fault_is_shown_whatever_ends_lines(file, capsys, end):
    """Files come from Windows too."""
    text = SOUND.replace("ttyUSB1}", "ttyUSB1, baud: x}").encode()
    check(file(text.replace(b"\n", end)), language="en")
    said = capsys.readouterr().out
    assert "gateway.yaml:5:40:" in said
    assert "\n        serial: {port: /dev/ttyUSB1, baud: x}\n" in said


def test_warnings_as_json_carry_code_place_words_and_hint_and_exit_0(file, capsys):
    """What will work and is likely not meant."""
    assert check(file(SOUND), as_json=True, language="en") == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert (warning["code"], warning["line"], warning["col"]) == ("config.unstable-port", 5, 20)
    assert warning["message"] == "`/dev/ttyUSB1` may be another adapter after a restart"


@pytest.mark.parametrize("port", ["/dev/serial/by-id/usb-1", "/dev/ttyS0", "/dev/ttyAMA0", "/dev/ttyUSBx"])
def test_a_port_that_keeps_its_name_draws_no_warning(file, capsys, port):
    """Built-in ports, and names of udev."""
    check(file(SOUND.replace("/dev/ttyUSB1", port)), as_json=True)
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_the_stable_name_of_an_adapter_is_found(tmp_path):
    """By where it leads; without one, where to look."""
    (tmp_path / "usb-a").symlink_to("/dev/ttyACM0")
    (tmp_path / "usb-b").symlink_to("/dev/ttyUSB3")
    assert stable_name("/dev/ttyUSB3", tmp_path) == str(tmp_path / "usb-b")
    assert stable_name("/dev/ttyUSB4", tmp_path) == f"{tmp_path}/..."
    assert stable_name("/dev/ttyUSB4", tmp_path / "none") == f"{tmp_path / 'none'}/..."


MODBUS = """gateway: {id: a-1}
links:
  w:
    driver: modbus
    serial: {port: /dev/ttyS0, baud: BAUD}
    devices: {m: {unit: 1, every: 250ms, points: {t: {holding: 0, type: string, length: 240}}}}
"""


@pytest.mark.parametrize(("baud", "percent"), [(9600, 109), (19200, None)])
def test_a_bus_that_cannot_carry_what_is_asked_draws_a_warning_with_the_figure(file, capsys, baud, percent):
    """253 characters of 1.04 ms at 9600 baud and two gaps, four times a second."""
    assert check(file(MODBUS.replace("BAUD", str(baud))), as_json=True, language="en") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [warning["message"] for warning in warnings] == (
        [f"link w would need {percent} % of its wire's time"] if percent else []
    )


def certificate(path, days):
    """Write a certificate that ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(900), now + dt.timedelta(days))
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("days", "code"),
    [(31.5, None), (29.5, "config.certificate-expires"), (-0.5, "config.certificate-expired")],
)
def test_a_certificate_that_ends_soon_draws_a_warning_with_the_days(file, tmp_path, capsys, days, code):
    """Of an uplink; a month is enough to ask for a new one."""
    certificate(tmp_path / "ca.pem", days)
    uplink = 'uplinks: {p: {url: "mqtts://h:8883", tls: {ca: ca.pem}}}\n'
    assert check(file(SOUND.replace("ttyUSB1", "ttyS1") + uplink), as_json=True, language="en") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [(warning["code"], warning["path"]) for warning in warnings] == (
        [(code, "uplinks.p.tls.ca")] if code else []
    )
    if code == "config.certificate-expires":
        assert "ends in 29 days" in warnings[0]["message"]


def accepting(folder):
    """Give an uplink that accepts pushes, with nothing else to complain of."""
    certificate(folder / "ca.pem", 90)
    return 'uplinks: {p: {url: "mqtts://h:8883", tls: {ca: ca.pem}, accept: [config]}}\n'


@pytest.mark.parametrize(("trust", "codes"), [(False, ["push.no-trust"]), (True, [])])
def test_pushes_that_nobody_could_obey_draw_a_warning(file, tmp_path, capsys, trust, codes):
    """Where an uplink accepts them and there is no trust document."""
    if trust:
        (tmp_path / "trust.json").write_text("{}")
    assert check(file(SOUND.replace("ttyUSB1", "ttyS1") + accepting(tmp_path)), as_json=True, language="en") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [warning["code"] for warning in warnings] == codes
    assert all(warning["path"] == "uplinks.p.accept" for warning in warnings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_a_push_could_not_be_written_to_draws_a_warning(file, tmp_path, capsys):
    """The account that asks is the one that would write: at a start, the service's."""
    (tmp_path / "trust.json").write_text("{}")
    path = file(SOUND.replace("ttyUSB1", "ttyS1") + accepting(tmp_path))
    tmp_path.chmod(0o500)
    assert check(path, as_json=True, language="en") == 0
    tmp_path.chmod(0o700)
    assert [warning["code"] for warning in json.loads(capsys.readouterr().out)["warnings"]] == ["push.disk"]


def test_a_certificate_of_a_link_is_looked_at_too(file, tmp_path, capsys):
    """Whatever its key is called; in DER as well, and a key file is none."""
    for name in ("ca.pem", "c.pem"):
        certificate(tmp_path / name, 3)
    (tmp_path / "k.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    made = x509.load_pem_x509_certificate((tmp_path / "c.pem").read_bytes())
    (tmp_path / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.DER))
    text = MODBUS.replace(
        "serial: {port: /dev/ttyS0, baud: BAUD}", "host: h\n    tls: {ca: ca.pem, cert: c.pem, key: k.pem}"
    )
    assert check(file(text), as_json=True, language="en") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [warning["path"] for warning in warnings] == ["links.w.tls.ca", "links.w.tls.cert"]


def test_what_flash_and_a_power_cut_will_cost_is_told(file, capsys):
    """As figures for machines; as one line for people."""
    check(file(SOUND), as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["loss_window_s"] == 5
    assert said["flash_bytes_a_day"] > said["kept_bytes_a_day"] > 0
    assert said["days_in_limit"] > 60
