"""A Modbus RTU instrument: a slave at the far end of a pseudo-terminal that replays a recording and counts.

What is always true here:

- An answer stands in `served` if and only if the whole of it was written to the line.
- The near end (`port`) stays there while its client is killed and comes back; `unplug` takes it away as a pulled
  adapter would.
- What is no question to this unit (noise, a wrong CRC, another unit) is skipped byte by byte and never answered.

Frames: Modbus over Serial Line V1.02, 2.5.1 (unit, PDU, CRC-16 low byte first). Questions have 8 bytes, since only
the reading functions 1 to 4 are known.
"""

import asyncio
import contextlib
import os
import pty
import time
import tty
from pathlib import Path
from typing import Any

from drivers.simulated.modbus_bank import Bank, Channel
from drivers.simulated.replay import Recording
from drivers.simulated.served import Served

_QUESTION_BYTES = 8
_STALE_S = 0.2

PUMP = (
    Channel("acceleration_1", "Accelerometer1RMS", "int32", "CDAB", scale="0.000001", unit="g"),
    Channel("acceleration_2", "Accelerometer2RMS", "int32", "CDAB", scale="0.000001", unit="g"),
    Channel("current", "Current", "int32", "CDAB", scale="0.0001", unit="A"),
    Channel("pressure", "Pressure", "int16", scale="0.001", unit="bar"),
    Channel("temperature", "Temperature", "uint16", scale="0.01", unit="degC"),
    Channel("thermocouple", "Thermocouple", "uint16", scale="0.01", unit="degC"),
    Channel("voltage", "Voltage", "float32", unit="V"),
    Channel("flow", "Volume Flow RateRMS", "float32", unit="L/min"),
)
"""A pump rig, over the columns of the recording `skab`."""


def crc16(data: bytes) -> int:
    """Compute the CRC of a frame (Modbus over Serial Line V1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def framed(unit: int, pdu: bytes) -> bytes:
    """Put a PDU between its unit id and its CRC."""
    frame = bytes((unit,)) + pdu
    return frame + crc16(frame).to_bytes(2, "little")


class ModbusRtuInstrument:
    """A slave behind a pseudo-terminal. `port` is where a master opens it: `link_path`, or the name of the terminal."""

    def __init__(self, recording: Recording, *, unit: int = 1, link_path: Path | None = None) -> None:
        self.port = ""
        self.recording = recording
        self.bank = Bank(recording, PUMP, unit, "holding")
        self.served: list[Served] = []
        self._link_path = link_path
        self._master = self._slave = -1
        self._received = b""
        self._last_s = 0.0

    async def start(self) -> None:
        """Open the terminal and wait for questions."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        if self._link_path is not None:
            self._link_path.unlink(missing_ok=True)
            self._link_path.symlink_to(self.port)
            self.port = str(self._link_path)
        self._received = b""
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    async def stop(self) -> None:
        """Close the terminal; a master that has it open loses it."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        if self._link_path is not None:
            self._link_path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    def points(self) -> dict[str, Any]:
        """Give the points that read it, for the technician's file."""
        return self.bank.points()

    def link(self, device: str = "pump", every: str = "1s", baud: int = 19200) -> dict[str, Any]:
        """Give the link that reads it, for the technician's file."""
        devices = {device: {"unit": self.bank.unit, "every": every, "points": self.points()}}
        return {"driver": "modbus", "serial": {"port": self.port, "baud": baud}, "devices": devices}

    def _readable(self) -> None:
        now = time.monotonic()
        if now - self._last_s > _STALE_S:
            self._received = b""
        self._last_s = now
        with contextlib.suppress(BlockingIOError):
            self._received += os.read(self._master, 4096)
        while len(self._received) >= _QUESTION_BYTES:
            frame = self._received[:_QUESTION_BYTES]
            if crc16(frame) == 0:  # a frame that ends in its own CRC has the remainder zero
                self._received = self._received[_QUESTION_BYTES:]
                self._answer(frame)
            else:
                self._received = self._received[1:]

    def _answer(self, frame: bytes) -> None:
        answered = self.bank.answer(frame[0], frame[1:-2])
        if answered is None:
            return
        reply = framed(frame[0], answered.pdu)
        try:
            written = os.write(self._master, reply)
        except BlockingIOError:
            written = 0
        if answered.serial is not None and written == len(reply):
            self.served.append(Served(answered.serial, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
