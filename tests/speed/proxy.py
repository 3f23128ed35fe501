"""A proxy that counts what goes over a connection both ways, and may delay it: a round trip of any length, no root.

What is always true here:

- What is counted is the payload of TCP: TLS records and MQTT packets whole, headers of IP and TCP not.
- Delayed bytes keep their order, and nothing but the delay limits the rate: a long link, not a narrow one.
"""

import asyncio
import contextlib
from typing import Self

CHUNK = 256 * 1024


class Proxy:
    """Listens on `port` and passes on to `upstream`. `one_way_s` is half of the round trip it adds."""

    def __init__(self, upstream: int, one_way_s: float = 0.0) -> None:
        self._upstream = upstream
        self._one_way_s = one_way_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.passed = 0
        """Bytes so far, both ways."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up on everybody."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream, limit=CHUNK)
            with contextlib.closing(writer), contextlib.closing(far_writer):
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            writer.close()
        finally:
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._one_way_s:
            while data := await reader.read(CHUNK):
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
            return
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(late, writer))
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(CHUNK):
                self.passed += len(data)
                late.put_nowait((loop.time() + self._one_way_s, data))
            late.put_nowait((loop.time() + self._one_way_s, b""))
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await late.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
