"""Frames around PDUs: TCP, RTU and ASCII. Pure: bytes in any pieces go in, the PDU of the one awaited answer comes out.

What is always true of a framer:

- Nothing that is fed to it raises, and nothing is kept beyond `_MOST` bytes.
- An answer comes from the unit that was asked. On a line it has the function that was asked, or that function's
  exception; on TCP it bears the number of the question, and is its answer whatever it says.
- Everything else is skipped and counted in `skipped`: frames of others, echoes, late answers, noise.
- The question itself, heard again, is no answer (an RS-485 adapter that hears itself). A write is answered with its own
  question: there the first copy is the echo where the last read was echoed.

| framing | what proves a frame | what remains |
|---|---|---|
| tcp | transaction id; MBAP (Modbus Messaging on TCP/IP V1.0b, 3.1.3) | nothing; a stream that is no MBAP is `broken` |
| rtu | CRC-16, and the length asked for (Modbus over Serial Line V1.02, 2.5.1) | a late answer of the same shape |
| ascii | LRC, colon and CR LF (2.5.2) | the same |

On RTU a frame has no beginning: each byte may be one. A frame of the awaited length wins over a shorter one inside it;
one that only looks like it and never ends is given up by `finish`.
"""

import struct
from abc import ABC, abstractmethod
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable

from drivers.modbus.transport import Framing

EXCEPTION = 0x80
_MOST = 4096
_READS = (1, 2, 3, 4)
_MBAP = struct.Struct(">HHHB")
_MBAP_LENGTHS = range(2, 255)
_NUMBERS = 0xFFFF
_LATE_ONES = 64


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC = tuple(_crc_of(byte) for byte in range(256))


def crc16(data: bytes | bytearray) -> int:
    """Compute the CRC of a frame (Modbus over Serial Line V1.02, 6.2.2); zero over a frame with its own CRC."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


class Framer(ABC):
    """One side of one wire. `ask`, then `feed` what comes, then `finish` when nothing more is waited for."""

    def __init__(self, skipped: Counter[str]) -> None:
        self.skipped = skipped
        """Counts frames: `foreign`, `late`, `echo`, `crc`, `half`; and bytes of `noise`."""
        self.owing = False
        """An earlier answer of the unit may still come; set before `ask`."""
        self.late: list[int] = []
        """Numbers of questions whose answers came too late; whoever reads them clears them."""
        self.number = 0
        """Of the question that was asked last."""
        self.broken = False
        """The stream cannot be understood any more."""
        self.spoilt = False
        """What came since the question looked like its answer, and is damaged."""
        self.half = False
        """When the wait ended, part of an answer was there."""
        self._awaiting = False
        self._buffer = bytearray()
        self._unit = self._function = self._size = 0
        self._question = b""

    def ask(self, unit: int, pdu: bytes, size: int) -> bytes:
        """Begin a question whose answer's PDU should have `size` bytes; give the bytes to send."""
        self._unit, self._function, self._size = unit, pdu[0], size
        self._awaiting, self.spoilt, self.half = True, False, False
        self._question = self._wrap(unit, pdu)
        return self._question

    @abstractmethod
    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; give the PDU of the answer when it is complete."""

    def finish(self) -> bytes | None:
        """End the wait: give the PDU of an answer that was held back, or say by `half` that there is part of one."""
        self._awaiting = False
        self.skipped["half"] += self.half
        return None

    @property
    def pending(self) -> int:
        """Bytes that were heard and are neither an answer nor skipped."""
        return len(self._buffer)

    @abstractmethod
    def _wrap(self, unit: int, pdu: bytes) -> bytes: ...

    def _is_mine(self, unit: int, function: int) -> bool:
        return unit == self._unit and function & ~EXCEPTION == self._function


class TcpFramer(Framer):
    """Modbus TCP. Half an answer stays in the buffer; whoever asks next must see that it is `pending`."""

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; give the PDU under the number of the question."""
        buffer = self._buffer
        buffer += data
        answer: bytes | None = None
        while len(buffer) >= _MBAP.size and not self.broken:
            number, protocol, length, unit = _MBAP.unpack_from(buffer)
            if protocol or length not in _MBAP_LENGTHS:
                self.broken = True
                return answer
            if len(buffer) < 6 + length:
                return answer
            pdu = bytes(buffer[7 : 6 + length])
            del buffer[: 6 + length]
            if self._awaiting and unit == self._unit and number == self.number:
                self._awaiting, answer = False, pdu
            else:
                self._skip(number, unit)
        return answer

    def _skip(self, number: int, unit: int) -> None:
        """Count a frame that is not awaited; an answer without a number is the unit's, but cannot be taken."""
        behind = self.number - number & _NUMBERS
        if self._awaiting and number == 0 and unit == self._unit:
            self.spoilt = True
        if 0 < behind < _LATE_ONES and number:
            self.skipped["late"] += 1
            self.late.append(number)
        else:
            self.skipped["foreign"] += 1

    def finish(self) -> bytes | None:
        """End the wait. A half answer stays, since the rest of it may come."""
        self.half = bool(self._buffer)
        return super().finish()

    def _wrap(self, unit: int, pdu: bytes) -> bytes:
        self.number = self.number % _NUMBERS + 1
        return _MBAP.pack(self.number, 0, len(pdu) + 1, unit) + pdu


class LineFramer(Framer):
    """What RTU and ASCII share."""

    def __init__(self, skipped: Counter[str]) -> None:
        super().__init__(skipped)
        self._echoing = self._echoed = False

    def ask(self, unit: int, pdu: bytes, size: int) -> bytes:
        """Begin a question, and forget what was heard before."""
        self._buffer.clear()
        self._echoed = False
        return super().ask(unit, pdu, size)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; give the PDU of the first frame that is the answer."""
        if not self._awaiting:
            self._skip(bytearray(data))
            return None
        self._buffer += data
        if len(self._buffer) > _MOST:
            self._forget(len(self._buffer) - _MOST // 2)
        return self._taken(self._scan(last=False))

    def finish(self) -> bytes | None:
        """End the wait, and give up what never ended."""
        answer = self._taken(self._scan(last=True)) if self._awaiting else None
        self.half = answer is None and not self.spoilt and self._begun()
        if not self.half and not self.spoilt:
            self._skip(self._buffer)
        self._buffer.clear()
        super().finish()
        return answer

    def _taken(self, answer: bytes | None) -> bytes | None:
        if answer is not None:
            self._awaiting = self.spoilt = False
            if self._function in _READS:
                self._echoing = self._echoed
        return answer

    @abstractmethod
    def _scan(self, *, last: bool) -> bytes | None:
        """Look for the answer. `last` says that nothing more will come."""

    @abstractmethod
    def _begun(self) -> bool:
        """Say whether what is left begins like the answer."""

    def _skip(self, heard: bytearray) -> None:
        """Count what is no part of an answer."""
        self.skipped["noise"] += len(heard)

    def _forget(self, count: int) -> None:
        """Give up the oldest bytes."""
        self.skipped["noise"] += count
        del self._buffer[:count]

    def _is_echo(self, frame: bytes | bytearray) -> bool:
        return not self._echoed and frame == self._question and (self._function in _READS or self._echoing)

    def _may_become_echo(self, heard: bytearray) -> bool:
        """Say whether this is an echo that has not ended, or an answer that has hardly begun."""
        return not self._echoed and len(heard) < len(self._question) and self._question.startswith(bytes(heard))

    def _heard_echo(self) -> None:
        self._echoed = True
        self.skipped["echo"] += 1

    def _damaged(self) -> None:
        self.spoilt = True
        self.skipped["crc"] += 1


class RtuFramer(LineFramer):
    """RTU, on a line or through a TCP connection to one."""

    def __init__(self, skipped: Counter[str]) -> None:
        super().__init__(skipped)
        self._known_bad: set[int] = set()

    def ask(self, unit: int, pdu: bytes, size: int) -> bytes:
        """Begin a question."""
        self._known_bad.clear()
        return super().ask(unit, pdu, size)

    def _wrap(self, unit: int, pdu: bytes) -> bytes:
        frame = bytes((unit,)) + pdu
        return frame + crc16(frame).to_bytes(2, "little")

    def _scan(self, *, last: bool) -> bytes | None:
        heard, end, at = self._buffer, len(self._buffer), 0
        held = False
        while at < end - 1:
            if not self._is_mine(heard[at], heard[at + 1]):
                at += 1
                continue
            if self._is_echo(heard[at : at + len(self._question)]):
                self._heard_echo()
                self._cut(at, len(self._question))
                return self._scan(last=last)
            if not last and self._may_become_echo(heard[at:]):
                return None
            size = self._size_at(at)
            if size is not None and at + size <= end:
                if self._proven(at, size) and not (held and not last) and not self._late(size):
                    return self._frame(at, size)
            elif size is None or size == self._size + 3:
                held = True
            at += 1
        return None

    def _size_at(self, at: int) -> int | None:
        """Say how long the frame is that begins here, from its function and byte count; None if that is missing."""
        if self._buffer[at + 1] & EXCEPTION:
            return 5
        if self._function not in _READS:
            return self._size + 3
        return 5 + self._buffer[at + 2] if at + 2 < len(self._buffer) else None

    def _proven(self, at: int, size: int) -> bool:
        if at in self._known_bad:
            return False
        if crc16(self._buffer[at : at + size]) == 0:
            return True
        self._known_bad.add(at)
        if size == self._size + 3:
            self._damaged()
        return False

    def _late(self, size: int) -> bool:
        """Say whether a frame is the one that is owed: it has not the length that was asked for."""
        return self.owing and size not in (5, self._size + 3)

    def _frame(self, at: int, size: int) -> bytes:
        answer = bytes(self._buffer[at + 1 : at + size - 2])
        self._skip(self._buffer[:at])
        self._skip(self._buffer[at + size :])
        self._buffer.clear()
        return answer

    def _skip(self, heard: bytearray) -> None:
        """Count what is no part of an answer: frames of others where they are whole, bytes where not."""
        at = 0
        while at < len(heard):
            size = _whole_frame(heard, at)
            self.skipped["foreign" if size else "noise"] += 1
            at += size or 1

    def _cut(self, at: int, count: int) -> None:
        self._skip(self._buffer[:at])
        del self._buffer[: at + count]
        self._known_bad.clear()

    def _forget(self, count: int) -> None:
        super()._forget(count)
        self._known_bad.clear()

    def _begun(self) -> bool:
        heard = self._buffer
        return any(self._is_mine(heard[at], heard[at + 1]) for at in range(len(heard) - 1))


def _whole_frame(heard: bytearray, at: int) -> int:
    """Give the length of the frame that begins here: a question or write of 8 bytes, an exception, an answer; or 0."""
    for size in (8, 5, 5 + heard[at + 2] if at + 2 < len(heard) else 5):
        if at + size <= len(heard) and crc16(heard[at : at + size]) == 0:
            return size
    return 0


class AsciiFramer(LineFramer):
    """ASCII, on a line or through a TCP connection to one. A colon always begins a frame anew (2.5.2.1)."""

    def _wrap(self, unit: int, pdu: bytes) -> bytes:
        body = bytes((unit,)) + pdu
        return b":" + (body + bytes((-sum(body) & 0xFF,))).hex().upper().encode("ascii") + b"\r\n"

    def _scan(self, *, last: bool) -> bytes | None:  # noqa: ARG002 - a frame has an end of its own
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            start = line.rfind(b":")
            self.skipped["noise"] += max(start, 0) if start >= 0 else len(line)
            answer = self._judged(line[start:]) if start >= 0 else None
            if answer is not None:
                self._skip(self._buffer)
                self._buffer.clear()
                return answer
        return None

    def _judged(self, line: bytes) -> bytes | None:
        if self._is_echo(line):
            self._heard_echo()
            return None
        body = _unhexed(line)
        if body is None:
            self._damaged()
        elif not self._is_mine(body[0], body[1]) or self._late(len(body) - 2, body[1]):
            self.skipped["foreign"] += 1
        else:
            return body[1:-1]
        return None

    def _late(self, size: int, function: int) -> bool:
        return self.owing and not function & EXCEPTION and size != self._size

    def _begun(self) -> bool:
        return b":" in self._buffer


def _unhexed(line: bytes) -> bytes | None:
    """Give unit, PDU and LRC of a line; None where they are not proven by the LRC."""
    try:
        body = unhexlify(line[1:].rstrip(b"\r\n"))
    except ValueError:  # binascii.Error is one
        return None
    return body if len(body) >= 3 and sum(body) & 0xFF == 0 else None


FRAMERS: dict[Framing, Callable[[Counter[str]], Framer]] = {"tcp": TcpFramer, "rtu": RtuFramer, "ascii": AsciiFramer}
