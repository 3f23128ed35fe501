"""A Modbus TCP instrument: a real server on a socket that replays a recording and counts what it served.

What is always true here:

- An answer stands in `served` if and only if it was handed to an open connection; what a killed client did not read
  any more is among them, and is the only difference between served and read.
- Any number of clients may come, go and be killed; the counter goes on.

Frames: Modbus Messaging on TCP/IP V1.0b, 3.1.3 (MBAP: transaction, protocol 0, length, unit).
"""

import asyncio
import struct
import time
from typing import Any

from drivers.simulated.modbus_bank import Bank, Channel
from drivers.simulated.replay import Recording
from drivers.simulated.served import Served

_MBAP_BYTES = 7
_LONGEST_ADU = 260

PLANT = (
    Channel("flow_total", "Flow_total", "float32", unit="m3/h"),
    Channel("flow_line2", "Flow_line2", "float32", unit="m3/h"),
    Channel("tss_effluent", "TSS_efflRBT", "float32", unit="mg/L"),
    Channel("cod_total", "CODtot_efflRBT", "uint16", scale="0.01", unit="mg/L"),
    Channel("cod_soluble", "CODsol_efflRBT", "uint16", scale="0.01", unit="mg/L"),
    Channel("nitrate", "NO3_efflRBT", "uint16", scale="0.001", unit="mg/L"),
    Channel("ammonium", "NH4_efflPST", "uint16", scale="0.001", unit="mg/L"),
    Channel("phosphate", "PO4_efflPST", "uint16", scale="0.001", unit="mg/L"),
    Channel("ammonium_influent", "NH4_infl", "int32", "CDAB", scale="0.001", unit="mg/L"),
    Channel("tss_line3", "TSS_line3", "int32", "CDAB", scale="0.001", unit="mg/L"),
    Channel("conductivity", "Cond_line2", "float32", "CDAB", unit="uS/cm"),
    Channel("turbidity", "Turb_line2", "uint16", scale="0.01", unit="NTU"),
)
"""A wastewater plant, over the columns of the recording `wwtp`."""


class ModbusTcpInstrument:
    """A server on `host`:`port`; port 0 takes a free one, and `port` tells which after `start`."""

    def __init__(self, recording: Recording, *, host: str = "127.0.0.1", port: int = 0, unit: int = 1) -> None:
        self.host = host
        self.port = port
        self.recording = recording
        self.bank = Bank(recording, PLANT, unit, "input")
        self.served: list[Served] = []
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and hang up on every client; may start again on the same port."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.transport.abort()
        await self._server.wait_closed()
        self._server = None
        await asyncio.sleep(0)

    def points(self) -> dict[str, Any]:
        """Give the points that read it, for the technician's file."""
        return self.bank.points()

    def link(self, device: str = "plant", every: str = "1s") -> dict[str, Any]:
        """Give the link that reads it, for the technician's file."""
        devices = {device: {"unit": self.bank.unit, "every": every, "points": self.points()}}
        return {"driver": "modbus", "host": self.host, "port": self.port, "devices": devices}

    def _connection(self) -> "_Connection":
        return _Connection(self.bank, self.served, self._connections)


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, bank: Bank, served: list[Served], connections: "set[_Connection]") -> None:
        self._bank = bank
        self._served = served
        self._connections = connections
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) > _MBAP_BYTES:
            transaction, protocol, length, unit = struct.unpack(">HHHB", self._received[:_MBAP_BYTES])
            if protocol != 0 or not 2 <= length <= _LONGEST_ADU:
                self.transport.abort()
                return
            if len(self._received) < length + 6:
                return
            pdu, self._received = self._received[_MBAP_BYTES : length + 6], self._received[length + 6 :]
            self._answer(transaction, unit, pdu)

    def _answer(self, transaction: int, unit: int, pdu: bytes) -> None:
        if self.transport.is_closing() or (answered := self._bank.answer(unit, pdu)) is None:
            return
        self.transport.write(struct.pack(">HHHB", transaction, 0, len(answered.pdu) + 1, unit) + answered.pdu)
        if answered.serial is not None and not self.transport.is_closing():
            self._served.append(Served(answered.serial, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
