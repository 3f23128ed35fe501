"""A Modbus slave in which register n holds n and bit n is n odd, with scripted faults. Pure: bytes in, bytes out.

What is always true here:

- It frames by itself, from the standards, so that it judges the driver and not the driver's own framing.
- Without a script every unit answers every question at once and correctly. What was written is held instead of n.
- A fault of the script concerns one answer: the next in `faults`, or `always` where none is left.

    slave = ScriptedSlave()
    slave.refused[500] = 2                     # ILLEGAL DATA ADDRESS for any question that touches 500
    slave.silent_units.add(7)
    slave.delay_s = captured_delays(path, rng)
    slave.faults.extend(["", "spoilt", "late"])  # the second answer has a wrong checksum, the third comes late
    line = MeteredLine(slave.conversation("rtu"), 9600)   # or: await SlaveServer(slave, "tcp").start()

Sources: Modbus Application Protocol V1.1b3, 6; Modbus over Serial Line V1.02, 2.5; Messaging on TCP/IP V1.0b, 3.1.3.
"""

import json
import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from drivers.simulated.modbus_rtu import crc16

Framing = Literal["tcp", "rtu", "ascii"]
Fault = Literal[
    "", "silent", "late", "half", "spoilt", "noise", "foreign", "trickle", "wrong-unit", "wrong-function", "wrong-id"
]
Said = tuple[float, bytes]

_EXCEPTION = 0x80
_READS_BITS = (1, 2)
_READS = (1, 2, 3, 4)
_NOISE = b"\x00\xff\x37"
_TRICKLE_S = 0.003
_FOREIGN_ID = 1000


class Asked(NamedTuple):
    """A question as the slave understood it; `quantity` is the value where one cell is written."""

    unit: int
    function: int
    address: int
    quantity: int


def captured_delays(pairs: Path, rng: random.Random) -> Callable[[], float]:
    """Draw delays in seconds from the round trips of captured pairs (`rtt_ms` of a file of JSON lines)."""
    trips = [json.loads(line)["rtt_ms"] for line in pairs.read_text(encoding="utf-8").splitlines()]
    known = [trip / 1000 for trip in trips if trip is not None]
    return lambda: rng.choice(known)


class ScriptedSlave:
    """All units of a wire. The script may be changed at any time."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.held: dict[int, int] = {}
        """Registers and bits that hold something else than usual, because a test or a master wrote them."""
        self.refused: dict[int, int] = {}
        """Exception codes by address: a question that touches one is refused."""
        self.silent_units: set[int] = set()
        self.silent_at: set[int] = set()
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.late_s = 0.3
        """What `late` adds to the delay."""
        self.echo = False
        """The line repeats every question, as an adapter does that hears itself."""
        self.faults: deque[Fault] = deque()
        self.always: Fault = ""

    def conversation(self, framing: Framing) -> "Conversation":
        """Begin a conversation with one master."""
        return {"tcp": TcpConversation, "rtu": RtuConversation, "ascii": AsciiConversation}[framing](self)

    def answer(self, unit: int, pdu: bytes) -> bytes | None:
        """Give the PDU of an answer, or None for silence."""
        function = pdu[0]
        if len(pdu) < 5:
            return bytes((function | _EXCEPTION, 1))
        address, quantity = struct.unpack_from(">HH", pdu, 1)
        self.asked.append(Asked(unit, function, address, quantity))
        cells = range(address, address + (1 if function in (5, 6) else quantity))
        if unit in self.silent_units or self.silent_at.intersection(cells):
            return None
        if refused := [self.refused[cell] for cell in cells if cell in self.refused]:
            return bytes((function | _EXCEPTION, refused[0]))
        if function in _READS:
            data = self._bits(cells) if function in _READS_BITS else self._registers(cells)
            return bytes((function, len(data))) + data
        return self._written(function, cells, pdu)

    def _bits(self, cells: Sequence[int]) -> bytes:
        bits = sum(1 << i for i, cell in enumerate(cells) if self.held.get(cell, cell % 2))
        return bits.to_bytes((len(cells) + 7) // 8, "little")

    def _registers(self, cells: Sequence[int]) -> bytes:
        return struct.pack(f">{len(cells)}H", *(self.held.get(cell, cell) for cell in cells))

    def _written(self, function: int, cells: Sequence[int], pdu: bytes) -> bytes:
        if function in (5, 6):
            (value,) = struct.unpack_from(">H", pdu, 3)
            self.held[cells[0]] = value if function == 6 else int(value == 0xFF00)
            return pdu
        if function == 15:
            bits = int.from_bytes(pdu[6:], "little")
            self.held |= {cell: bits >> i & 1 for i, cell in enumerate(cells)}
        elif function == 16:
            self.held |= dict(zip(cells, struct.unpack_from(f">{len(cells)}H", pdu, 6), strict=True))
        else:
            return bytes((function | _EXCEPTION, 1))
        return pdu[:5]

    def fault(self) -> Fault:
        """Take the fault of the next answer from the script."""
        return self.faults.popleft() if self.faults else self.always


class Conversation:
    """What one master says and is told. A subclass knows how a question ends and what an answer is wrapped in."""

    def __init__(self, slave: ScriptedSlave) -> None:
        self._slave = slave
        self._heard = b""

    def __call__(self, data: bytes) -> list[Said]:
        """Hear some bytes; give what is said to them, and when."""
        self._heard += data
        said: list[Said] = []
        while (taken := self._take(self._heard)) is not None:
            used, question = taken
            frame, self._heard = self._heard[:used], self._heard[used:]
            if question is not None:
                said += self._answer(frame, *question)
        return said

    def _take(self, heard: bytes) -> tuple[int, tuple[int, bytes, int] | None] | None:
        """Give how many bytes are used up, and the unit, PDU and transaction id that they hold; None to wait."""
        raise NotImplementedError

    def _wrap(self, unit: int, pdu: bytes, number: int) -> bytes:
        raise NotImplementedError

    def _spoil(self, frame: bytes) -> bytes:
        raise NotImplementedError

    def _answer(self, frame: bytes, unit: int, pdu: bytes, number: int) -> list[Said]:
        echoed: list[Said] = [(0.0, frame)] if self._slave.echo else []
        answer = self._slave.answer(unit, pdu)
        fault = self._slave.fault() if answer is not None else "silent"
        if answer is None or fault == "silent":
            return echoed
        delay_s = self._slave.delay_s() + (self._slave.late_s if fault == "late" else 0.0)
        return echoed + [(delay_s + after, data) for after, data in self._faulty(fault, unit, answer, number)]

    def _faulty(self, fault: Fault, unit: int, pdu: bytes, number: int) -> list[Said]:
        whole = self._wrap(unit, pdu, number)
        if fault == "trickle":
            return [(_TRICKLE_S * i, bytes((byte,))) for i, byte in enumerate(whole)]
        other = 1 + unit % 247
        said = {
            "half": whole[: len(whole) // 2],
            "spoilt": self._spoil(whole),
            "noise": _NOISE + whole,
            "foreign": self._wrap(other, pdu, number + _FOREIGN_ID) + whole,
            "wrong-unit": self._wrap(other, pdu, number),
            "wrong-function": self._wrap(unit, bytes((pdu[0] ^ 7,)) + pdu[1:], number),
            "wrong-id": self._wrap(unit, pdu, number + _FOREIGN_ID),
        }
        return [(0.0, said.get(fault, whole))]


class TcpConversation(Conversation):
    """Over a connection: transaction id, protocol 0, length, unit, PDU."""

    def _take(self, heard: bytes) -> tuple[int, tuple[int, bytes, int] | None] | None:
        if len(heard) < 8:
            return None
        number, _, length, unit = struct.unpack_from(">HHHB", heard)
        end = 6 + length
        return (end, (unit, heard[7:end], number)) if len(heard) >= end else None

    def _wrap(self, unit: int, pdu: bytes, number: int) -> bytes:
        return struct.pack(">HHHB", number & 0xFFFF, 0, len(pdu) + 1, unit) + pdu

    def _spoil(self, frame: bytes) -> bytes:
        """There is no checksum; a byte count that lies is the nearest to it."""
        return frame[:8] + bytes((frame[8] ^ 1,)) + frame[9:]


class RtuConversation(Conversation):
    """Over a line, in bytes: unit, PDU, CRC with its low byte first. What is no question is skipped byte by byte."""

    def _take(self, heard: bytes) -> tuple[int, tuple[int, bytes, int] | None] | None:
        if len(heard) < 8:
            return None
        size = 9 + heard[6] if heard[1] in (15, 16) else 8
        if len(heard) < size and heard[1] in (15, 16):
            return None
        frame = heard[:size]
        return (size, (frame[0], frame[1:-2], 0)) if crc16(frame) == 0 else (1, None)

    def _wrap(self, unit: int, pdu: bytes, number: int) -> bytes:  # noqa: ARG002 - a line has no transaction ids
        frame = bytes((unit,)) + pdu
        return frame + crc16(frame).to_bytes(2, "little")

    def _spoil(self, frame: bytes) -> bytes:
        return frame[:-1] + bytes((frame[-1] ^ 1,))


class AsciiConversation(Conversation):
    """Over a line, in text: a colon, unit, PDU and LRC in hexadecimal, CR LF."""

    def _take(self, heard: bytes) -> tuple[int, tuple[int, bytes, int] | None] | None:
        end = heard.find(b"\r\n") + 2
        if end < 2:
            return None
        try:
            body = bytes.fromhex(heard[heard.rindex(b":", 0, end) + 1 : end].decode("ascii"))
        except ValueError:
            return end, None
        return end, (body[0], body[1:-1], 0) if sum(body) & 0xFF == 0 and len(body) > 2 else None

    def _wrap(self, unit: int, pdu: bytes, number: int) -> bytes:  # noqa: ARG002 - a line has no transaction ids
        body = bytes((unit,)) + pdu
        return b":" + (body + bytes((-sum(body) & 0xFF,))).hex().upper().encode() + b"\r\n"

    def _spoil(self, frame: bytes) -> bytes:
        return frame[:-3] + bytes((frame[-3] ^ 1,)) + frame[-2:]
