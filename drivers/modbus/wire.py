"""The wire under the Modbus driver, and the only file that imports pymodbus.

What is always true here:

- One question at a time, asked once: no retries and no reconnecting behind the caller's back.
- An answer is given to the question it belongs to, or to none. On TCP the transaction id decides, and a connection on
  which half an answer was left behind is closed. RTU has no id: after a time-out the line must have been quiet for
  the longest reply seen (at most `timeout`) before the next question; a reply later than that, of the same unit,
  function and length, cannot be told from an answer, and is the residual every RTU master has.
- Nothing that arrives raises inside the event loop: an answer is kept as bytes and judged by who asked.
- Foreign exceptions end here as LinkDown, NoAnswer or BadAnswer.

pymodbus frames, checks CRCs and owns the socket or the port. Its decoding of answers, a list of Python objects a
register, is replaced by keeping the bytes.
"""

import asyncio
import errno
import logging
import socket
import time
from typing import NamedTuple

from pymodbus import ModbusException
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from config.model import Serial
from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.modbus.decode import answer_size
from drivers.modbus.plan import Request
from drivers.modbus.points import Table
from drivers.modbus.quiet import Quiet
from drivers.modbus.settings import ModbusLink

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs what this file raises

_QUESTION: dict[Table, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_READS = (1, 2, 3, 4)
_WRITTEN_BYTES = 4
_NS_PER_S = 1_000_000_000
_FOREVER = 2**31
_MANY_LATE_ANSWERS = 65536
_PORT_REASONS: dict[int | None, str] = {
    errno.ENOENT: "modbus.no-port",
    errno.EACCES: "modbus.port-denied",
    errno.EAGAIN: "modbus.port-busy",
    errno.EBUSY: "modbus.port-busy",
}
_Client = AsyncModbusTcpClient | AsyncModbusSerialClient


class Answer(ModbusPDU):
    """An answer as it came: function code and bytes behind it."""

    rtu_byte_count_pos = 2
    body = b""


class Written(Answer):
    """The answer to a write: on an RTU line always eight bytes."""

    rtu_frame_size = 8


class Told(ModbusPDU):
    """A question given as bytes: function code and what stands behind it."""

    body = b""

    def encode(self) -> bytes:
        """Give what stands behind the function code."""
        return self.body


class _Answers(DecodePDU):
    """Keeps answers as bytes, and knows which one is awaited: what else stands on an RTU line is skipped."""

    def __init__(self) -> None:
        super().__init__(is_server=False)
        self.awaited = (0, 0)

    def lookupPduClass(self, data: bytes) -> type[ModbusPDU] | None:  # noqa: N802 - pymodbus names it
        unit, function = self.awaited
        if data[0] != unit or data[1] & 0x7F != function:
            return None
        if data[1] & 0x80:
            return ExceptionResponse
        return Answer if function in _READS else Written

    def decode(self, frame: bytes) -> ModbusPDU:
        answer = Answer()
        answer.function_code = frame[0]
        answer.body = frame[1:]
        return answer


class Reply(NamedTuple):
    """What a unit said: the data bytes of an answer, or an exception code (0 where it is none)."""

    data: bytes
    exception: int = 0


def _where(link: ModbusLink) -> dict[str, object]:
    """Give the fields that name the wire in every error; `wire` is how a person calls it."""
    if link.serial is not None:
        return {"wire": link.serial.port, "port": link.serial.port}
    return {"wire": f"{link.host}:{link.port}", "host": link.host, "port": link.port}


class Wire:
    """One TCP connection or serial line. Made closed; open, ask, close, and open again."""

    def __init__(self, link: ModbusLink) -> None:
        self._link = link
        self._timeout_s = link.timeout / _NS_PER_S
        self._client: _Client | None = None
        self._answers = _Answers()
        self._lost = self._waiting = False
        self._quiet = Quiet(link.serial, self._timeout_s) if link.serial is not None else None
        self._where = _where(link)

    async def open(self) -> None:
        """Open the wire. Raises LinkDown."""
        self.close()
        client = self._make()
        self._lost = False
        try:
            async with asyncio.timeout(self._timeout_s):
                client.ctx.transport, _ = await client.ctx.call_create()
                await asyncio.sleep(0)  # a serial port begins to read in the next turn, and must not be closed before
        except (OSError, ValueError) as error:  # ValueError: a baud rate that the port cannot do
            raise LinkDown(self._reason(error), reason=str(error), **self._where) from error
        except BaseException:
            client.close()
            raise
        self._client = client

    def close(self) -> None:
        """Close the wire and free the port. May be called at any time."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def ask(self, unit: int, request: Request) -> Reply:
        """Ask one question. Raises LinkDown, NoAnswer, BadAnswer."""
        question = _QUESTION[request.table](dev_id=unit, address=request.address, count=request.quantity)
        answer = await self._say(unit, question)
        return self._judged(question, answer, answer_size(request))

    async def tell(self, unit: int, pdu: bytes) -> int:
        """Send a write; give the exception it drew, or 0. Raises LinkDown, NoAnswer, BadAnswer."""
        question = Told(dev_id=unit)
        question.function_code, question.body = pdu[0], pdu[1:]
        answer = await self._say(unit, question)
        if answer.function_code == pdu[0] and answer.body == question.body[:_WRITTEN_BYTES]:
            return 0
        return self._judged(question, answer, -1).exception

    async def _say(self, unit: int, question: ModbusPDU) -> Answer:
        client = self._client
        if client is None:
            raise LinkDown("modbus.closed", **self._where)
        if self._quiet is not None:
            await self._silence(self._quiet, unit)
            self._quiet.asked(time.monotonic())
        elif client.ctx.recv_buffer:
            raise LinkDown("modbus.out-of-step", **self._where)
        self._answers.awaited = (unit, question.function_code)
        return await self._exchange(client, question)

    async def _silence(self, quiet: Quiet, unit: int) -> None:
        """Wait until the line has been quiet for long enough. Raises NoAnswer when it is not in two time-outs."""
        end = time.monotonic() + 2 * self._timeout_s + quiet.gap_s
        while (wait_s := quiet.remaining_s(now := time.monotonic())) > 0:
            if now + wait_s > end:
                raise NoAnswer("modbus.line-noisy", unit=unit, **self._where)
            await asyncio.sleep(wait_s)

    async def _exchange(self, client: _Client, question: ModbusPDU) -> Answer:
        if self._lost:
            raise LinkDown("modbus.lost", **self._where)
        self._waiting = True
        try:
            answer: Answer = await client.execute(False, question)
        except (ModbusException, ConnectionError) as error:
            self._missed()
            if self._lost or isinstance(error, ConnectionError | ConnectionException):
                raise LinkDown("modbus.lost", **self._where) from error
            raise NoAnswer("modbus.no-answer", unit=question.dev_id, **self._where) from error
        except asyncio.CancelledError:
            self._missed()
            raise
        finally:
            self._waiting = False
        return answer

    def _missed(self) -> None:
        if self._quiet is not None:
            self._quiet.missed(time.monotonic())

    def _judged(self, question: ModbusPDU, answer: Answer, size: int) -> Reply:
        """Accept an answer that belongs to its question and has the length it announces. Raises BadAnswer."""
        body, function = answer.body, answer.function_code
        if answer.transaction_id != question.transaction_id:
            fault = "modbus.transaction-id"
        elif function == question.function_code and len(body) == size + 1 and body[0] == size:
            return Reply(body[1:])
        elif function == question.function_code | 0x80 and body and body[0]:
            return Reply(b"", body[0])
        else:
            fault = "modbus.bad-answer"
        self._missed()
        raise BadAnswer(fault, unit=question.dev_id, function=function, length=len(body), **self._where)

    def _make(self) -> _Client:
        client = self._serial_client(self._link.serial) if self._link.serial is not None else self._tcp_client()
        client.set_max_no_responses(_FOREVER)
        client.ctx.framer.decoder = self._answers
        client.ctx.max_buffer_size = _MANY_LATE_ANSWERS
        return client

    def _tcp_client(self) -> AsyncModbusTcpClient:
        assert self._link.host is not None
        return AsyncModbusTcpClient(
            self._link.host,
            port=self._link.port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connected,
        )

    def _serial_client(self, serial: Serial) -> AsyncModbusSerialClient:
        return AsyncModbusSerialClient(
            serial.port,
            baudrate=serial.baud,
            bytesize=serial.data_bits,
            parity=serial.parity[0].upper(),
            stopbits=serial.stop_bits,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connected,
            trace_packet=self._heard,
        )

    def _connected(self, up: bool) -> None:
        """Hear of the connection's end, and end the wait for an answer that cannot come any more."""
        if up or self._client is None:
            return
        self._lost = True
        answer = self._client.ctx.response_future
        if self._waiting and not answer.done():
            answer.set_exception(ConnectionResetError())

    def _heard(self, sending: bool, data: bytes) -> bytes:
        if not sending and self._quiet is not None:
            self._quiet.heard(time.monotonic())
        return data

    def _reason(self, error: Exception) -> str:
        if self._link.serial is not None:
            return _PORT_REASONS.get(getattr(error, "errno", None), "modbus.port-failed")
        if isinstance(error, socket.gaierror):
            return "modbus.unknown-host"
        return "modbus.refused" if isinstance(error, ConnectionRefusedError) else "modbus.unreachable"
