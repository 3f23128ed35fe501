"""A serial instrument on a pseudo-terminal: it replays rows as lines of text and counts what it served.

    ST,00000042,12.25,-------

A line is a status (`ST`, or `OL` where a row has no value at all), a running number, and the values in the order of
`names`, shortest text that gives the same double; a value that the row lacks is dashes. `pattern` reads it back.

What is always true here:

- The running number starts at 1 and grows by one for each line sent; `served` has one entry for each, in order.
- With `ask`, a line is sent for each question that arrived, and for nothing else: the count is exact.
- Without, a line is sent each interval while somebody holds the port open (on Linux the master side of a pty reports
  POLLHUP while nobody does), and none otherwise.
- When the rows are at an end it is silent.

The demonstration and the tests enter; `drivers.serial_line` never does.
"""

import asyncio
import os
import select
import tty
from collections.abc import Callable, Iterable, Mapping, Sequence

from drivers.simulated.served import Served

MISSING = "-------"

Row = Mapping[str, float | None]


class SerialInstrument:
    """One instrument. `port` is the path to open once started; `clock` gives CLOCK_BOOTTIME in nanoseconds."""

    def __init__(
        self,
        rows: Iterable[Row],
        names: Sequence[str],
        clock: Callable[[], int],
        *,
        ask: bytes | None = None,
        interval_s: float = 1.0,
        terminator: bytes = b"\r\n",
    ) -> None:
        self.served: list[Served] = []
        self.names = tuple(names)
        self.port = ""
        self._rows = iter(rows)
        self._clock = clock
        self._ask = ask
        self._interval_s = interval_s
        self._terminator = terminator
        self._heard = b""
        self._master = -1
        self._slave = -1
        self._task: asyncio.Task[None] | None = None

    @property
    def pattern(self) -> str:
        """Give the regular expression that reads its lines: groups `status`, `serial` and each name."""
        values = "".join(f",(?P<{name}>[^,]*)" for name in self.names)
        return rf"(?P<status>ST|OL),(?P<serial>\d+){values}"

    async def start(self) -> None:
        """Make the port."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        if self._ask is not None:
            asyncio.get_running_loop().add_reader(self._master, self._asked)
            return
        os.close(self._slave)
        self._slave = -1
        self._task = asyncio.create_task(self._stream(), name=f"serial instrument {self.port}")

    async def stop(self) -> None:
        """Take the port away, as if the adapter were pulled. May be called twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1

    def line(self, row: Row) -> str:
        """Write a row as the next line."""
        values = [row.get(name) for name in self.names]
        status = "OL" if all(value is None for value in values) else "ST"
        texts = (MISSING if value is None else repr(float(value)) for value in values)
        return ",".join((status, f"{len(self.served) + 1:08d}", *texts))

    def _asked(self) -> None:
        """Answer each whole question in what was heard."""
        assert self._ask is not None
        self._heard += os.read(self._master, 4096)
        *asked, self._heard = self._heard.split(self._ask)
        for _ in asked:
            self._serve()

    async def _stream(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if self._held_open():
                self._serve()

    def _held_open(self) -> bool:
        poll = select.poll()
        poll.register(self._master, 0)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def _serve(self) -> None:
        row = next(self._rows, None)
        if row is None:
            return
        data = self.line(row).encode() + self._terminator
        try:
            sent = os.write(self._master, data)
        except BlockingIOError:
            return
        if sent == len(data):
            self.served.append(Served(len(self.served) + 1, self._clock()))
