"""A Modbus TCP server of 100 input registers a unit that walk at random, for measuring; `python registers.py PORT...`.

Each port serves one device. Answers cost next to nothing: a precomputed table of walks, one struct a request. Values
start uniformly and walk by at most 10 from one answer to the next, like real ones, so that no codec is flattered.
"""

import asyncio
import random
import struct
import sys

REGISTERS = 100
ROWS = 600
STEP = 10


def walk(seed: int) -> list[bytes]:
    """Give the registers of every second, as bytes on the wire."""
    rng = random.Random(seed)
    row = [rng.randrange(65536) for _ in range(REGISTERS)]
    rows = []
    for _ in range(ROWS):
        rows.append(struct.pack(f">{REGISTERS}H", *row))
        row = [min(65535, max(0, value + rng.randint(-STEP, STEP))) for value in row]
    return rows


class Device(asyncio.Protocol):
    """One connection to one device."""

    def __init__(self, rows: list[bytes]) -> None:
        self._rows = rows
        self._answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the segment."""
        for at in range(0, len(data) - 11, 12):
            transaction, _, _, unit, function, address, count = struct.unpack_from(">HHHBBHH", data, at)
            row = self._rows[self._answered % ROWS]
            self._answered += 1
            values = row[2 * address : 2 * (address + count)]
            head = struct.pack(">HHHBBB", transaction, 0, 3 + len(values), unit, function, len(values))
            self._transport.write(head + values)  # type: ignore[attr-defined]


async def serve(ports: list[int]) -> None:
    """Serve every port until killed."""
    loop = asyncio.get_running_loop()
    for seed, port in enumerate(ports):
        rows = walk(seed)
        await loop.create_server(lambda rows=rows: Device(rows), "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve([int(text) for text in sys.argv[1:]]))
