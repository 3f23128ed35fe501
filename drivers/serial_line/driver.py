"""The driver of instruments that speak lines of text: one serial port, asked or listened to.

What is always true here:

- The port is ours alone while it is open (flock, which every well-behaved program asks for), and free after `close`.
- Nothing blocks and no thread is used: the event loop watches the port's file descriptor.
- A time stamp is taken when the bytes that complete a line arrive, not when somebody gets to look at them.
- A port that reads as nothing, or not at all, is gone: LinkDown.
- Before a question the line is cleared of what came unasked. After a question without an answer it must first be
  quiet for a moment, so that a late answer is not taken for the next one.

The poller enters. This is the only file of this folder that imports pyserial.
"""

import asyncio
import errno
import os
import re
import termios
from collections import Counter, deque

import serial

from buffer import status
from buffer.frame import Change, Frame
from config.model import Serial
from drivers.api import Clock, Driver, Emit, Group
from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.serial_line.lines import Splitter, read
from drivers.serial_line.plan import Instrument, plan
from drivers.serial_line.settings import SerialLineLink

_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_CHUNK = 4096
_QUIET_S = 0.1
"""How long the line must be still after an answer that never came."""
_OPENING = {
    errno.EBUSY: "serial.port-busy",
    errno.EAGAIN: "serial.port-busy",
    errno.ENOENT: "serial.port-missing",
    errno.ENXIO: "serial.port-missing",
    errno.EACCES: "serial.port-denied",
    errno.EPERM: "serial.port-denied",
}


class SerialLineDriver(Driver[SerialLineLink]):
    """One serial port and the instruments on it. `unmatched` counts, by device, the lines that made no sense."""

    Settings = SerialLineLink

    def __init__(self, name: str, link: SerialLineLink, clock: Clock) -> None:
        super().__init__(name, link, clock)
        self._plan = plan(name, link)
        self.groups = self._plan.groups
        self.unmatched: Counter[str] = Counter()
        self._timeout_s = link.timeout / 1e9
        self._port: _Port | None = None
        self._unanswered = False

    async def open(self) -> None:
        """Open the port for us alone."""
        await self.close()
        self._unanswered = False
        self._port = _Port(self.link.serial, self.clock)

    async def close(self) -> None:
        """Free the port."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    async def poll(self, group: Group) -> Frame:
        """Ask one instrument and read its one line."""
        instrument = self._plan.instruments[group.device]
        port = self._opened()
        await self._settle(port)
        port.discard()
        asked_ns = self.clock.boot_ns()
        port.write(instrument.ask or b"")
        t_boot_ns, line = await self._answer(port, instrument)
        match = instrument.grammar.match(line)
        if match is None:
            self.unmatched[instrument.name] += 1
            raise BadAnswer("serial.bad-line", device=instrument.name, line=_shown(line))
        return self._frame(group, match, asked_ns, t_boot_ns)

    async def listen(self, group: Group, emit: Emit) -> None:
        """Pass on every line that an instrument speaks by itself."""
        instrument = self._plan.instruments[group.device]
        port = self._opened()
        splitter = Splitter(instrument.terminator, instrument.max_line, mid_line=True)
        while True:
            try:
                async with asyncio.timeout(instrument.silence_s):
                    t_boot_ns, data = await port.read()
            except TimeoutError:
                await emit(self._silent(group))
                t_boot_ns, data = await port.read()
            changes: list[Change] = []
            for line in splitter.feed(data):
                changes += self._changes(group, instrument, line, t_boot_ns)
            if changes:
                await emit(changes)

    def _opened(self) -> "_Port":
        if self._port is None:
            raise LinkDown("serial.port-closed", port=self.link.serial.port)
        return self._port

    async def _settle(self, port: "_Port") -> None:
        """After an answer that never came, let a late one pass by; wait no longer than the time-out."""
        if not self._unanswered:
            return
        self._unanswered = False
        try:
            async with asyncio.timeout(self._timeout_s):
                while await port.heard_within(_QUIET_S):
                    port.discard()
        except TimeoutError:
            raise BadAnswer("serial.line-never-quiet", port=self.link.serial.port) from None

    async def _answer(self, port: "_Port", instrument: Instrument) -> tuple[int, bytes]:
        """Read the first line after a question that is not the question's own echo."""
        splitter = Splitter(instrument.terminator, instrument.max_line, mid_line=False)
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    t_boot_ns, data = await port.read()
                    for line in splitter.feed(data):
                        if line and line.strip() != (instrument.ask or b"").strip():
                            return t_boot_ns, line
        except TimeoutError:
            self._unanswered = True
            if splitter.pending or splitter.overlong:
                heard = _shown(splitter.pending)
                raise BadAnswer("serial.half-line", device=instrument.name, line=heard) from None
            raise NoAnswer("serial.no-answer", device=instrument.name) from None

    def _frame(self, group: Group, match: re.Match[str], asked_ns: int, t_boot_ns: int) -> Frame:
        grammar = self._plan.instruments[group.device].grammar
        values, statuses = read(self._plan.slots[group], match, grammar.quality(match))
        return Frame(t_boot_ns, t_boot_ns - asked_ns, values, statuses if any(statuses) else None)

    def _changes(self, group: Group, instrument: Instrument, line: bytes, t_boot_ns: int) -> list[Change]:
        match = instrument.grammar.match(line)
        if match is None:
            self.unmatched[instrument.name] += bool(line)
            return []
        values, statuses = read(self._plan.slots[group], match, instrument.grammar.quality(match))
        pairs = zip(values, statuses, strict=True)
        return [Change(point, None, t_boot_ns, value, code) for point, (value, code) in enumerate(pairs)]

    def _silent(self, group: Group) -> list[Change]:
        now = self.clock.boot_ns()
        points = range(len(group.layout.columns))
        return [Change(point, None, now, None, status.BAD_NO_COMMUNICATION) for point in points]


def _shown(line: bytes) -> str:
    """Make a line fit to show a person."""
    return ascii(line[:60].decode("latin-1"))[1:-1]


class _Port:
    """An open serial port: bytes with the time of their arrival, and the first reason why there will be no more."""

    def __init__(self, settings: Serial, clock: Clock) -> None:
        self._name = settings.port
        self._clock = clock
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()
        self._gone: LinkDown | None = None
        self._serial = _open(settings)
        self._fd: int = self._serial.fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if not data:
            self._lose("end of file")
            return
        self._arrived.append((self._clock.boot_ns(), data))
        self._news.set()

    def _lose(self, reason: str) -> None:
        self._loop.remove_reader(self._fd)
        self._gone = LinkDown("serial.port-vanished", port=self._name, reason=reason)
        self._news.set()

    async def read(self) -> tuple[int, bytes]:
        """Give the next bytes and when they came. Raises LinkDown once all is given and the port is gone."""
        while not self._arrived:
            if self._gone is not None:
                raise self._gone
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()

    async def heard_within(self, wait_s: float) -> bool:
        """Say whether anything came within this time."""
        try:
            async with asyncio.timeout(wait_s):
                await self.read()
        except TimeoutError:
            return False
        return True

    def discard(self) -> None:
        """Forget everything that has come so far."""
        self._arrived.clear()
        try:
            self._serial.reset_input_buffer()
        except (OSError, termios.error, serial.SerialException) as error:
            raise LinkDown("serial.port-vanished", port=self._name, reason=str(error)) from error

    def write(self, data: bytes) -> None:
        """Send a question. A port that does not take it at once is held by its flow control."""
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise LinkDown("serial.port-vanished", port=self._name, reason=str(error)) from error
        if sent < len(data):
            raise BadAnswer("serial.write-blocked", port=self._name)

    def close(self) -> None:
        """Free the port; safe at any time."""
        self._loop.remove_reader(self._fd)
        self._serial.close()


def _open(settings: Serial) -> serial.Serial:
    try:
        return serial.Serial(
            settings.port,
            baudrate=settings.baud,
            bytesize=settings.data_bits,
            parity=_PARITY[settings.parity],
            stopbits=settings.stop_bits,
            timeout=0,
            exclusive=True,
        )
    except (OSError, ValueError, termios.error) as error:
        code = _OPENING.get(getattr(error, "errno", None) or 0, "serial.port-failed")
        raise LinkDown(code, port=settings.port, reason=str(error)) from error
