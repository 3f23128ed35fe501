"""How a wire is written in the technician's file: what is assumed, and what each wrong combination is called."""

import pytest
from wires import DEVICES, link

from config.judge import Unsound, judged
from drivers.modbus.settings import ModbusLink

SERIAL = {"port": "/dev/ttyS0"}
TLS = {"ca": "tls/ca.pem", "cert": "tls/gateway.pem", "key": "tls/gateway.key"}


def fault(**keys):
    """Give the code and place of the one fault in some settings."""
    with pytest.raises(Unsound) as caught:
        link(**keys)
    (error,) = caught.value.findings
    return error.kind, error.steps


@pytest.mark.parametrize(
    ("keys", "framing", "endpoint"),
    [
        ({"host": "plc"}, "tcp", ("plc", 502)),
        ({"host": "10.0.0.1", "port": 5020, "framing": "rtu"}, "rtu", ("10.0.0.1", 5020)),
        ({"host": "fd00::17", "framing": "ascii"}, "ascii", ("fd00::17", 502)),
        ({"host": "[fe80::1%eth0]"}, "tcp", ("fe80::1%eth0", 502)),
        ({"host": "plc", "tls": TLS}, "tcp", ("plc", 802)),
        ({"host": "plc", "tls": TLS, "port": 1802, "framing": "tcp"}, "tcp", ("plc", 1802)),
    ],
)
def test_a_connection_is_tcp_at_502_unless_it_says_otherwise(keys, framing, endpoint):
    """Inside TLS at 802."""
    wire = link(**keys)
    assert (wire.spoken, wire.endpoint) == (framing, endpoint)


def test_a_serial_line_speaks_rtu_unless_it_says_otherwise():
    """The other is ASCII."""
    assert link(serial=SERIAL).spoken == "rtu"
    assert link(serial=SERIAL, framing="ascii").spoken == "ascii"


@pytest.mark.parametrize(
    ("keys", "code", "place"),
    [
        ({}, "modbus.one-wire", ()),
        ({"serial": SERIAL, "host": "plc"}, "modbus.one-wire", ()),
        ({"serial": SERIAL, "framing": "tcp"}, "modbus.framing-on-serial", ("framing",)),
        ({"serial": SERIAL, "port": 502}, "modbus.needs-host", ("port",)),
        ({"serial": SERIAL, "tls": TLS}, "modbus.needs-host", ("tls",)),
        ({"host": "plc", "framing": "rtu", "tls": TLS}, "modbus.tls-framing", ("tls",)),
        ({"host": "plc", "framing": "modbus"}, "literal_error", ("framing",)),
        ({"host": "10.0.0.1:502"}, "modbus.host-with-port", ("host",)),
        ({"host": "tcp://10.0.0.1"}, "modbus.host-with-port", ("host",)),
        ({"host": "[fd00::17]:502"}, "modbus.host-with-port", ("host",)),
        ({"host": "plc", "tls": {"ca": "a", "cert": "b"}}, "missing", ("tls", "key")),
        ({"host": "plc", "timeout": "200ms", "timeout_min": "201ms"}, "modbus.timeouts-crossed", ("timeout_min",)),
    ],
)
def test_each_wrong_combination_has_its_name_and_place(keys, code, place):
    """The place is the key that cannot stand there."""
    assert fault(**keys) == (code, place)


def test_the_shortest_wait_is_a_quarter_of_a_second_or_the_time_out():
    """And may be given."""
    assert link(host="plc").waits_ns == (250_000_000, 1_000_000_000)
    assert link(host="plc", timeout="100ms").waits_ns == (100_000_000, 100_000_000)
    assert link(host="plc", timeout_min="20ms").waits_ns == (20_000_000, 1_000_000_000)


def test_certificates_are_looked_for_beside_the_file(tmp_path):
    """Relative to the folder of the file, and readable; without a file nobody looks."""
    written = {"driver": "modbus", "host": "plc", "tls": TLS, "devices": DEVICES}
    assert judged(ModbusLink, written).tls.ca == "tls/ca.pem"
    with pytest.raises(Unsound) as caught:
        judged(ModbusLink, written, tmp_path)
    assert {finding.kind for finding in caught.value.findings} == {"config.file-missing"}
    (tmp_path / "tls").mkdir()
    for name in TLS.values():
        (tmp_path / name).write_text("")
    tls = judged(ModbusLink, written, tmp_path).tls
    assert tls.key == str(tmp_path / "tls" / "gateway.key")
