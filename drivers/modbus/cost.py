"""What an exchange costs on a wire, in seconds. Pure.

An exchange is a question, the device's turnaround, and an answer. On every wire its cost is a constant and so much for
each byte of data, so a plan can be judged before a single byte is sent:

    cost = frame + turnaround + byte * (bytes of both PDUs)

- A reading question has a PDU of 5 bytes, its answer one of 2 bytes and the data (Modbus Application Protocol V1.1b3,
  6.1 to 6.4): two bytes a register, one byte for every eight bits begun.
- What a character, a gap and a frame take is in `pace`.
- A network is taken to carry 100 Mbit/s, with 65 bytes of headers a frame. What counts there is the turnaround.

The turnaround is what a device takes from the end of a question to the beginning of its answer. Until it is measured, a
serial device is given the shortest that the standard allows, the silence after which it knows that the question has
ended; a device on a network 2 ms.
"""

from typing import NamedTuple

from drivers.modbus.pace import Pace
from drivers.modbus.points import Table

QUESTION_BYTES = 5
ANSWER_BYTES = 2
_NETWORK_BYTE_S = 8e-8
_NETWORK_HEADER_BYTES = 65
_NETWORK_TURNAROUND_S = 0.002


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


def first_turnaround_s(wire: Pace) -> float:
    """Give the turnaround that is assumed until it is measured."""
    return wire.gap_s if wire.char_s else _NETWORK_TURNAROUND_S


def cost(wire: Pace, turnaround_s: float | None = None, pause_s: float = 0.0) -> Cost:
    """Give what requests to a device cost; `turnaround_s` as measured, None where it is not yet."""
    waited_s = pause_s + (first_turnaround_s(wire) if turnaround_s is None else turnaround_s)
    if not wire.char_s:
        bytes_around = 2 * _NETWORK_HEADER_BYTES + QUESTION_BYTES + ANSWER_BYTES
        return Cost(waited_s + bytes_around * _NETWORK_BYTE_S, _NETWORK_BYTE_S)
    around_s = wire.line_s(wire.frame_bytes(QUESTION_BYTES) + wire.frame_bytes(ANSWER_BYTES))
    byte_s = wire.line_s(wire.frame_bytes(1) - wire.frame_bytes(0))
    return Cost(waited_s + wire.gap_s + around_s, byte_s)
