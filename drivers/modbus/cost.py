"""What an exchange costs on a wire, in seconds. Pure.

An exchange is a question, the device's turnaround, and an answer. On every wire its cost is a constant and so much for
each byte of data, so a plan can be judged before a single byte is sent:

    cost = frame + turnaround + byte * (bytes of both PDUs)

- A reading question has a PDU of 5 bytes, its answer one of 2 bytes and the data (Modbus Application Protocol V1.1b3,
  6.1 to 6.4): two bytes a register, one byte for every eight bits begun.
- RTU: a character has a start bit, the data bits, a parity bit where there is one, and the stop bits. A frame has three
  characters around its PDU (unit, CRC), and after the answer the line is silent for 3.5 characters, 1.75 ms above 19200
  baud (Modbus over Serial Line V1.02, 2.5.1.1).
- ASCII: two characters a byte; `:`, unit, LRC, CR and LF are seven more a frame; no silence (2.5.2).
- TCP: a network is taken to carry 100 Mbit/s, with 65 bytes of headers a frame. What counts there is the turnaround.

The turnaround is what a device takes from the end of a question to the beginning of its answer. Until it is measured, a
serial device is given the shortest that the standard allows, the silence after which it knows that the question has
ended; a device on a network 2 ms.
"""

from typing import Literal, NamedTuple

from config.model import Serial
from drivers.modbus.points import Table

Framing = Literal["rtu", "ascii"]

QUESTION_BYTES = 5
ANSWER_BYTES = 2
FASTEST_GAP_S = 0.00175
SLOW_BAUD = 19200
_GAP_CHARACTERS = 3.5
_NETWORK_BYTE_S = 8e-8
_NETWORK_HEADER_BYTES = 65
_NETWORK_TURNAROUND_S = 0.002


class Pace(NamedTuple):
    """How fast a wire carries: a byte of a PDU, all else of an exchange, and the turnaround assumed at first."""

    byte_s: float
    frame_s: float
    turnaround_s: float


class Cost(NamedTuple):
    """What a request to one device costs: whatever its length, and for each byte of its data."""

    request_s: float
    byte_s: float

    def of(self, table: Table, quantity: int) -> float:
        """Give the seconds of one exchange."""
        return self.request_s + self.byte_s * data_bytes(table, quantity)


def data_bytes(table: Table, quantity: int) -> int:
    """Count the bytes of data in the answer to a request."""
    return (quantity + 7) // 8 if table in ("coil", "discrete") else quantity * 2


def pace(serial: Serial | None, framing: Framing = "rtu") -> Pace:
    """Give the pace of a serial line, or of a network where there is none."""
    if serial is None:
        return Pace(_NETWORK_BYTE_S, 2 * _NETWORK_HEADER_BYTES * _NETWORK_BYTE_S, _NETWORK_TURNAROUND_S)
    character_s = (1 + serial.data_bits + (serial.parity != "none") + serial.stop_bits) / serial.baud
    if framing == "ascii":
        return Pace(2 * character_s, 2 * 7 * character_s, character_s)
    gap_s = _GAP_CHARACTERS * character_s if serial.baud <= SLOW_BAUD else FASTEST_GAP_S
    return Pace(character_s, 2 * 3 * character_s + gap_s, gap_s)


def cost(wire: Pace, turnaround_s: float | None = None, pause_s: float = 0.0) -> Cost:
    """Give what requests to a device cost; `turnaround_s` as measured, None where it is not yet."""
    answered_s = wire.turnaround_s if turnaround_s is None else turnaround_s
    pdus_s = wire.byte_s * (QUESTION_BYTES + ANSWER_BYTES)
    return Cost(wire.frame_s + answered_s + pause_s + pdus_s, wire.byte_s)
