"""What an exchange costs: the characters of both frames, the gap, the turnaround."""

import pytest

from config.judge import judged
from config.model import Serial
from drivers.modbus.cost import cost, data_bytes
from drivers.modbus.pace import pace


def serial(**keys):
    """Make a serial line."""
    return judged(Serial, {"port": "/dev/ttyS0", **keys})


@pytest.mark.parametrize(
    ("keys", "framing", "characters", "bits", "gaps_s"),
    [
        ({"baud": 9600}, "rtu", 8 + 5 + 200, 10, 2 * 3.5 * 10 / 9600),
        ({"baud": 9600, "parity": "even"}, "rtu", 8 + 5 + 200, 11, 2 * 3.5 * 11 / 9600),
        ({"baud": 115200}, "rtu", 8 + 5 + 200, 10, 2 * 0.00175),
        ({"baud": 9600, "data_bits": 7}, "ascii", 17 + 11 + 400, 9, 2 * 3.5 * 9 / 9600),
    ],
)
def test_a_hundred_registers_on_a_serial_line(keys, framing, characters, bits, gaps_s):
    """Question of 8 characters and answer of 205 in RTU; one gap between frames, one as the least turnaround."""
    price = cost(pace(serial(**keys), framing))
    assert price.of("holding", 100) == pytest.approx(characters * bits / keys["baud"] + gaps_s)


def test_a_measured_turnaround_and_a_pause_are_added():
    """In place of the assumed one, and beside it."""
    line = pace(serial(baud=9600), "rtu")
    assert cost(line, 0.05).request_s - cost(line, 0.0).request_s == pytest.approx(0.05)
    assert cost(line, 0.05, 0.02).request_s - cost(line, 0.05).request_s == pytest.approx(0.02)


def test_on_a_network_the_turnaround_is_nearly_all():
    """A hundred registers more are microseconds."""
    price = cost(pace(None, "tcp"), 0.08)
    assert price.of("input", 125) < 0.0801


def test_bits_are_eight_to_a_byte_and_registers_two_bytes():
    """Modbus Application Protocol V1.1b3, 6.1 and 6.3."""
    assert [data_bytes("coil", n) for n in (1, 8, 9)] == [1, 1, 2]
    assert data_bytes("input", 3) == 6
