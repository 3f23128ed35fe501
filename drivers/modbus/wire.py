"""The wire under the Modbus driver: opens it, asks on it, says what went wrong. The only file that imports pymodbus.

What is always true here:

- One question at a time, asked once: no retries and no reconnecting behind the caller's back.
- An answer is given to the question it belongs to, or to none (see `framing.py`). On TCP the transaction id decides,
  and a connection on which half an answer was left behind is closed. RTU and ASCII have no id: what was heard before
  a question is thrown away, and a unit that owes an answer is left in peace first (see `quiet.py`).
- No wait is longer than `timeout`, except that an answer has the time that its own bytes take on the line and
  `timeout_min` besides.
- Foreign exceptions end here as LinkDown, NoAnswer or BadAnswer.

pymodbus gives the serial port an asyncio transport. Frames are our own: its framers lose an answer behind a damaged
one, raise inside the event loop on broken ASCII, and read TLS as if a segment were a frame.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from config.model import Serial
from drivers.api import Figures
from drivers.errors import BadAnswer, DriverError, LinkDown, NoAnswer
from drivers.modbus.decode import answer_size
from drivers.modbus.exchange import End, Ended, Exchange
from drivers.modbus.figures import Counts
from drivers.modbus.framing import EXCEPTION, FRAMERS
from drivers.modbus.pace import pace
from drivers.modbus.plan import Request
from drivers.modbus.points import Table
from drivers.modbus.quiet import Quiet
from drivers.modbus.settings import ModbusLink
from drivers.modbus.timeouts import Patience
from drivers.modbus.transport import ModbusTls

FUNCTIONS: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""The function that reads each table (Modbus Application Protocol V1.1b3, 6.1 to 6.4)."""

_QUESTION = struct.Struct(">BHH")
_NS_PER_S = 1_000_000_000
_WRITTEN_BYTES = 5
_LATE_KEPT = 16
_STALLED_S = 5.0
"""A connection whose far end acknowledges nothing for so long is lost; else a half-open one would never be."""
_PORT_REASONS: dict[int | None, str] = {
    errno.ENOENT: "modbus.no-port",
    errno.ENODEV: "modbus.no-port",
    errno.ENXIO: "modbus.no-port",
    errno.EACCES: "modbus.port-denied",
    errno.EAGAIN: "modbus.port-busy",
    errno.EBUSY: "modbus.port-busy",
}
_ENDS: dict[End, tuple[type[DriverError], str]] = {
    "timeout": (NoAnswer, "modbus.no-answer"),
    "half": (NoAnswer, "modbus.half-answer"),
    "crc": (BadAnswer, "modbus.damaged-answer"),
    "wrong-id": (BadAnswer, "modbus.transaction-id"),
    "out-of-step": (LinkDown, "modbus.out-of-step"),
    "lost": (LinkDown, "modbus.lost"),
}


class Reply(NamedTuple):
    """What a unit said: the data bytes of an answer, or an exception code (0 where it is none)."""

    data: bytes
    exception: int = 0


def _where(link: ModbusLink) -> dict[str, object]:
    """Give the fields that name the wire in every error; `wire` is how a person calls it."""
    if link.serial is not None:
        return {"wire": link.serial.port, "port": link.serial.port}
    host, port = link.endpoint
    return {"wire": f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "host": host, "port": port}


class Wire:
    """One connection or serial line. Made closed; open, ask, close, and open again."""

    def __init__(self, link: ModbusLink) -> None:
        self._link = link
        shortest_ns, longest_ns = link.waits_ns
        self._shortest_s, self._timeout_s = shortest_ns / _NS_PER_S, longest_ns / _NS_PER_S
        self._pace = pace(link.serial, link.spoken)
        self._quiet = Quiet(self._pace.gap_s, self._timeout_s) if link.spoken != "tcp" else None
        self._patience: dict[int, Patience] = {}
        self._counts = Counts(self._pace)
        self._missed: deque[tuple[int, int, float]] = deque(maxlen=_LATE_KEPT)
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._where = _where(link)

    async def open(self) -> None:
        """Open the wire. Raises LinkDown."""
        self.close()
        framer = FRAMERS[self._link.spoken](self._counts.skipped)
        exchange = Exchange(framer, None if self._quiet is None else self._quiet.heard)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connect(exchange)
        except (OSError, ValueError, termios.error) as error:  # ValueError: a baud rate that the port cannot do
            self._hang_up()
            raise LinkDown(self._reason(error), reason=str(error), **self._where) from error
        except BaseException:
            self._hang_up()
            raise
        self._missed.clear()
        self._exchange = exchange

    async def _connect(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        if self._link.serial is not None:
            self._transport = await _open_port(loop, exchange, self._link.serial)
            await asyncio.sleep(0)  # a serial port begins to read in the next turn, and must not be closed before
            await asyncio.sleep(0)
            return
        host, port = self._link.endpoint
        secured = _secured(self._link.tls, host)
        self._transport, _ = await loop.create_connection(lambda: exchange, host, port, **secured)
        stalled_ms = int(1000 * max(_STALLED_S, 3 * self._timeout_s))
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stalled_ms)

    def close(self) -> None:
        """Close the wire and free the port. May be called at any time."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._counts.open_s += time.monotonic() - exchange.opened_at
            self._counts.link.bytes_in += exchange.bytes_in
        self._hang_up()

    def _hang_up(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(OSError):  # a port whose adapter is gone may not even be closed
                transport.abort()

    async def ask(self, unit: int, request: Request) -> Reply:
        """Read cells. Raises LinkDown, NoAnswer, BadAnswer."""
        size = answer_size(request)
        function = FUNCTIONS[request.table]
        pdu = await self._asked(unit, _QUESTION.pack(function, request.address, request.quantity), size + 2)
        if pdu[0] == function and len(pdu) == size + 2 and pdu[1] == size:
            return Reply(pdu[2:])
        return self._refused(unit, function, pdu)

    async def tell(self, unit: int, question: bytes) -> Reply:
        """Write by a PDU of function 5, 6, 15 or 16, whose first five bytes the unit repeats. Raises as `ask` does."""
        pdu = await self._asked(unit, question, _WRITTEN_BYTES)
        if pdu == question[:_WRITTEN_BYTES]:
            return Reply(b"")
        return self._refused(unit, question[0], pdu)

    def _refused(self, unit: int, function: int, pdu: bytes) -> Reply:
        """Accept an exception. Raises BadAnswer for anything else."""
        if pdu[0] == function | EXCEPTION and len(pdu) >= 2 and pdu[1]:
            self._error(unit, f"exception-{pdu[1]}")
            return Reply(b"", pdu[1])
        self._error(unit, "bad-answer")
        raise BadAnswer("modbus.bad-answer", unit=unit, function=pdu[0], length=len(pdu) - 1, **self._where)

    async def _asked(self, unit: int, question: bytes, size: int) -> bytes:
        """Ask once the line is ready; give the PDU of the answer, of whatever length. Raises all there is."""
        exchange = self._exchange
        if exchange is None:
            raise LinkDown("modbus.closed", **self._where)
        if self._quiet is not None:
            await self._silence(exchange, self._quiet, unit, question)
        elif exchange.framer.pending and not exchange.lost:
            raise self._down("out-of-step", exchange)
        return await self._exchanged(exchange, unit, question, size)

    async def _exchanged(self, exchange: Exchange, unit: int, question: bytes, size: int) -> bytes:
        framer, count = exchange.framer, self._counts.of(unit)
        frame = framer.ask(unit, question, size)
        before, asked_at = exchange.bytes_in, time.monotonic()
        if self._quiet is not None:
            self._quiet.asked(asked_at)
        count.asked(len(frame))
        self._counts.link.asked(len(frame))
        try:
            pdu = await exchange.ask(frame, self._wait_s(unit, len(frame), size))
        except Ended as ended:
            self._unanswered(exchange, unit, question, asked_at)
            raise self._translated(ended.end, exchange, unit) from exchange.reason
        except BaseException:
            exchange.give_up()
            self._unanswered(exchange, unit, question, asked_at)
            raise
        finally:
            count.bytes_in += exchange.bytes_in - before
            self._counts.held_s += time.monotonic() - asked_at
        self._answered(exchange, unit, exchange.heard_at - asked_at, exchange.bytes_in - before + len(frame))
        return pdu

    def _wait_s(self, unit: int, asked: int, size: int) -> float:
        """Say how long to wait: the unit's patience, and the time that question and longest answer take."""
        if (patience := self._patience.get(unit)) is None:
            patience = self._patience[unit] = Patience(self._shortest_s, self._timeout_s)
        line_s = self._pace.line_s(asked + self._pace.frame_bytes(size))
        return min(line_s + patience.wait_s(), max(self._timeout_s, line_s + self._shortest_s))

    def _answered(self, exchange: Exchange, unit: int, took_s: float, characters: int) -> None:
        self._patience[unit].answered(took_s - self._pace.line_s(characters))
        self._counts.of(unit).answered(took_s)
        self._counts.link.answered(took_s)
        if self._quiet is not None:
            self._quiet.answered(unit)
        elif exchange.framer.late:
            self._learn_late(exchange)

    def _unanswered(self, exchange: Exchange, unit: int, question: bytes, asked_at: float) -> None:
        now = time.monotonic()
        self._patience[unit].missed()
        if self._quiet is not None:
            self._quiet.missed(now, unit, question)
        else:
            self._learn_late(exchange)
            self._missed.append((exchange.framer.number, unit, asked_at))

    def _learn_late(self, exchange: Exchange) -> None:
        """Learn how slow units are from answers that came after their time-out; only TCP tells whose they are."""
        now, late = time.monotonic(), set(exchange.framer.late)
        exchange.framer.late.clear()
        for number, unit, asked_at in self._missed:
            if number in late:
                self._patience[unit].learnt(now - asked_at)

    async def _silence(self, exchange: Exchange, quiet: Quiet, unit: int, question: bytes) -> None:
        """Throw away what is heard until the line was quiet for long enough. Raises NoAnswer when it never is."""
        end = time.monotonic() + 2 * self._timeout_s + quiet.gap_s
        while True:
            await self._flush(exchange)
            if exchange.lost or (wait_s := quiet.remaining_s(now := time.monotonic(), unit, question)) <= 0:
                break
            if now + wait_s > end:
                self._error(unit, "noisy")
                raise NoAnswer("modbus.line-noisy", unit=unit, **self._where)
            await asyncio.sleep(wait_s)
        exchange.framer.owing = quiet.owes(unit)

    async def _flush(self, exchange: Exchange) -> None:
        """Let everything that has arrived be heard before the question goes out."""
        port = getattr(self._transport, "sync_serial", None)
        if port is None:  # a socket: its bytes are handed over in the next turns of the loop
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return
        try:
            if waiting := port.in_waiting:
                exchange.data_received(port.read(waiting))
        except OSError as error:  # the adapter is gone, and the loop has not heard yet
            exchange.connection_lost(error)

    def _error(self, unit: int, kind: str) -> None:
        self._counts.of(unit).errors[kind] += 1
        self._counts.link.errors[kind] += 1

    def _translated(self, end: End, exchange: Exchange, unit: int) -> DriverError:
        if _ENDS[end][0] is LinkDown:
            return self._down(end, exchange)
        self._error(unit, end)
        kind, code = _ENDS[end]
        return kind(code, unit=unit, **self._where)

    def _down(self, end: End, exchange: Exchange) -> LinkDown:
        if self._link.tls is not None and not exchange.bytes_in:  # TLS 1.3 says only now that we are not trusted
            return LinkDown("modbus.tls-failed", reason=str(exchange.reason or "closed unanswered"), **self._where)
        return LinkDown(_ENDS[end][1], **self._where)

    def _reason(self, error: Exception) -> str:
        if self._link.serial is not None:
            return _PORT_REASONS.get(getattr(error, "errno", None), "modbus.port-failed")
        if isinstance(error, ssl.SSLCertVerificationError):
            return "modbus.tls-untrusted"
        if isinstance(error, ssl.SSLError):
            return "modbus.tls-failed"
        if isinstance(error, socket.gaierror):
            return "modbus.unknown-host"
        return "modbus.refused" if isinstance(error, ConnectionRefusedError) else "modbus.unreachable"

    def figures(self, devices: Mapping[str, int]) -> Figures:
        """Give what was carried, for the link and for devices by their units."""
        exchange = self._exchange
        if exchange is None:
            return self._counts.shown(devices, 0.0, 0)
        return self._counts.shown(devices, time.monotonic() - exchange.opened_at, exchange.bytes_in)


async def _open_port(loop: asyncio.AbstractEventLoop, exchange: Exchange, serial: Serial) -> asyncio.BaseTransport:
    from pymodbus.transport.serialtransport import create_serial_connection  # noqa: PLC0415  a host has no port: 3 MB

    transport, _ = await create_serial_connection(
        loop,
        lambda: exchange,
        serial.port,
        baudrate=serial.baud,
        bytesize=serial.data_bits,
        parity=serial.parity[0].upper(),
        stopbits=serial.stop_bits,
        timeout=0,
    )
    return transport


def _secured(tls: ModbusTls | None, host: str) -> dict[str, Any]:
    """Trust the named authority alone, and show our certificate (Modbus/TCP Security V21, 8: both sides have one)."""
    if tls is None:
        return {}
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert, tls.key)
    return {"ssl": context, "server_hostname": tls.server_name or host}
