"""What bytes cost on a wire: the time of a character, the gap between frames, the length of a frame. Pure.

- A character has a start bit, the data bits, the parity bit where there is one, and the stop bits.
- Between frames: 3.5 characters, and 1.75 ms above 19200 baud (Modbus over Serial Line V1.02, 2.5.1.1). ASCII needs no
  gap (2.5.2.1), but the far end of an RS-485 line needs time to let go of it, so it gets the same.
- Behind a host nothing is known of the line: a character and a gap cost nothing.
"""

from typing import NamedTuple

from config.model import Serial
from drivers.modbus.transport import Framing

_FASTEST_GAP_S = 0.00175
_AROUND: dict[Framing, int] = {"tcp": 7, "rtu": 3, "ascii": 3}
LONGEST_PDU = 253
"""Bytes (Modbus Application Protocol V1.1b3, 4.1)."""


class Pace(NamedTuple):
    """How fast one wire is."""

    framing: Framing
    char_s: float = 0.0
    gap_s: float = 0.0

    def frame_bytes(self, pdu: int) -> int:
        """Count the characters of a frame around a PDU; ASCII has two for each byte, a colon, and CR LF."""
        whole = pdu + _AROUND[self.framing]
        return 2 * (whole - 1) + 3 if self.framing == "ascii" else whole

    def line_s(self, characters: int) -> float:
        """Seconds that so many characters take."""
        return characters * self.char_s


def pace(serial: Serial | None, framing: Framing) -> Pace:
    """Work out the pace of a wire."""
    if serial is None:
        return Pace(framing)
    bits = 1 + serial.data_bits + (serial.parity != "none") + serial.stop_bits
    return Pace(framing, bits / serial.baud, max(_FASTEST_GAP_S, 3.5 * bits / serial.baud))
