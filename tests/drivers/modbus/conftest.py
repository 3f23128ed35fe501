"""A slave in which register n holds n, with scripted faults, on a socket and on a pseudo-terminal."""

import asyncio
import contextlib
import os
import pty
import struct
import tty
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from config.judge import judged
from drivers.modbus.driver import ModbusDriver
from drivers.simulated.modbus_rtu import framed


class FakeSlave:
    """Register n holds n, bit n is n odd. Faults are set before a question and stay until unset."""

    def __init__(self) -> None:
        self.questions: list[tuple[int, int, int, int]] = []
        self.silent_units: set[int] = set()
        self.silent_at: set[int] = set()
        self.refused: dict[int, int] = {}
        self.contents: dict[int, int] = {}
        self.delays_s: list[float] = []
        self.rewrite: Callable[[bytes], bytes] = lambda adu: adu
        self.connections: list[asyncio.StreamWriter] = []
        self.host, self.port = "127.0.0.1", 0
        self.serial_port = ""
        self.heard = b""
        self.master = self.slave = -1

    def pdu(self, unit: int, question: bytes) -> bytes | None:
        """Answer a question, or be silent."""
        function, address, quantity = struct.unpack(">BHH", question)
        self.questions.append((unit, function, address, quantity))
        cells = range(address, address + quantity)
        if unit in self.silent_units or self.silent_at.intersection(cells):
            return None
        for cell in cells:
            if cell in self.refused:
                return bytes((function | 0x80, self.refused[cell]))
        if function in (1, 2):
            bits = sum(1 << i for i, cell in enumerate(cells) if cell % 2)
            data = bits.to_bytes((quantity + 7) // 8, "little")
        else:
            data = struct.pack(f">{quantity}H", *(self.contents.get(cell, cell) for cell in cells))
        return bytes((function, len(data))) + data

    def later(self, write: Callable[[bytes], Any], adu: bytes) -> None:
        """Write an answer, now or after the delay that comes next."""
        delay_s = self.delays_s.pop(0) if self.delays_s else 0.0
        adu = self.rewrite(adu)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, write, adu)
        else:
            write(adu)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one TCP client."""
        self.connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                answer = self.pdu(unit, await reader.readexactly(length - 1))
                if answer is not None:
                    self.later(writer.write, struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        writer.close()

    def open_terminal(self) -> None:
        """Answer an RTU master at `serial_port`."""
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.serial_port = os.ttyname(self.slave)
        asyncio.get_running_loop().add_reader(self.master, self._readable)

    def _readable(self) -> None:
        self.heard += os.read(self.master, 256)
        while len(self.heard) >= 8:
            frame, self.heard = self.heard[:8], self.heard[8:]
            answer = self.pdu(frame[0], frame[1:-2])
            if answer is not None:
                self.later(self.write, framed(frame[0], answer))

    def write(self, data: bytes) -> None:
        """Put bytes on the line."""
        if self.master >= 0:
            os.write(self.master, data)

    def unplug(self) -> None:
        """Take the terminal away."""
        if self.master >= 0:
            asyncio.get_running_loop().remove_reader(self.master)
            os.close(self.master)
            os.close(self.slave)
            self.master = self.slave = -1


@pytest.fixture
async def slave() -> AsyncIterator[FakeSlave]:
    """Give a slave that serves TCP and a terminal."""
    fake = FakeSlave()
    server = await asyncio.start_server(fake.serve, fake.host, 0)
    fake.port = server.sockets[0].getsockname()[1]
    fake.open_terminal()
    yield fake
    server.close()
    for writer in fake.connections:
        writer.close()
    await server.wait_closed()
    fake.unplug()
    await asyncio.sleep(0)


@pytest.fixture
def tcp(slave, clock):
    """Make drivers on the slave's socket from devices, or from points of one device."""

    def make(points=None, *, devices=None, timeout="150ms", **device):
        devices = devices or {"meter": {"unit": 1, "every": "1s", "points": points, **device}}
        link = {"driver": "modbus", "host": slave.host, "port": slave.port, "timeout": timeout, "devices": devices}
        return ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)

    return make


@pytest.fixture
def rtu(slave, clock):
    """Make drivers on the slave's terminal from devices, or from points of one device."""

    def make(points=None, *, devices=None, timeout="150ms", port=None, **device):
        devices = devices or {"meter": {"unit": 1, "every": "1s", "points": points, **device}}
        serial = {"port": port or slave.serial_port, "baud": 19200}
        link = {"driver": "modbus", "serial": serial, "timeout": timeout, "devices": devices}
        return ModbusDriver("bus", judged(ModbusDriver.Settings, link), clock)

    return make
