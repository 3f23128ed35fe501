"""A serial line at a pseudo-terminal whose bytes take the time that a baud rate gives them, in both directions.

What is always true here:

- A byte that the master writes reaches the far end when the line could have carried it, and so the other way round.
  Times are absolute (catch-up, not a sleep a byte), so a late wake-up makes no later byte late.
- The line has a thread of its own: a busy event loop does not slow it, and what it measures is the master's doing.
- The far end is one function: bytes heard, now, to what it says and after which delay. It runs in that thread.
- Without a `baud` bytes take no time.
- `unplug` takes the terminal away as a pulled adapter would; `plug` brings another one under the same `link_path`.

    line = MeteredLine(ScriptedSlave().conversation("rtu"), 9600)
    line.plug()
    ... line.port is what the master opens ...
    line.unplug()
"""

import contextlib
import heapq
import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

Hear = Callable[[bytes], Sequence[tuple[float, bytes]]]
"""Takes bytes heard and gives what is said: after so many seconds, these bytes."""

_GRAIN_S = 0.001
_LONG_S = 3600.0


class Carried(NamedTuple):
    """What a line carried: bytes from and to the master, and how often both spoke at once."""

    questions_bytes: int
    answers_bytes: int
    collisions: int


class MeteredLine:
    """One line. `char_bits` is 10 for 8N1, and 11 with parity or a second stop bit."""

    def __init__(
        self, hear: Hear, baud: int | None = None, *, char_bits: int = 10, link_path: Path | None = None
    ) -> None:
        self.char_s = char_bits / baud if baud else 0.0
        self.port = ""
        self._hear = hear
        self._link_path = link_path
        self._wire: _Wire | None = None

    def plug(self) -> None:
        """Open the terminal; `port` names it."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.port = os.ttyname(slave)
        if self._link_path is not None:
            self._link_path.unlink(missing_ok=True)
            self._link_path.symlink_to(self.port)
            self.port = str(self._link_path)
        self._wire = _Wire(master, slave, self._hear, self.char_s)
        self._wire.start()

    def unplug(self) -> None:
        """Take the terminal away; a master that has it open loses it. May be called twice."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self._link_path is not None:
            self._link_path.unlink(missing_ok=True)
        wire.stop()

    def say(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for."""
        assert self._wire is not None
        self._wire.say(data)

    @property
    def carried(self) -> Carried:
        """What the line carried since it was plugged in."""
        assert self._wire is not None
        return Carried(self._wire.heard_bytes, self._wire.said_bytes, self._wire.collisions)


class _Wire(threading.Thread):
    """The thread of a plugged-in line, and all that it touches."""

    def __init__(self, master: int, slave: int, hear: Hear, char_s: float) -> None:
        super().__init__(name="metered-line", daemon=True)
        self.heard_bytes = self.said_bytes = self.collisions = 0
        self._master, self._slave = master, slave
        self._hear = hear
        self._char_s = char_s
        self._wake_in, self._wake_out = os.pipe()
        self._order = count()
        self._due: list[tuple[float, int, Callable[[bytes], None], bytes]] = []
        self._unasked: list[bytes] = []
        self._speaking = b""
        self._spoken_until = self._heard_until = 0.0
        self._ended = False

    def say(self, data: bytes) -> None:
        self._unasked.append(data)
        os.write(self._wake_out, b"!")

    def stop(self) -> None:
        self._ended = True
        os.write(self._wake_out, b"!")
        self.join()
        for descriptor in (self._master, self._slave, self._wake_in, self._wake_out):
            os.close(descriptor)

    def run(self) -> None:
        while not self._ended:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, act, data = heapq.heappop(self._due)
                act(data)
            self._speak(time.monotonic())
            readable, _, _ = select.select([self._master, self._wake_in], [], [], self._idle_s(time.monotonic()))
            if self._wake_in in readable:
                os.read(self._wake_in, 64)
                for data in self._unasked[:]:
                    self._unasked.remove(data)
                    self._answer(data)
            if self._master in readable:
                self._listen()

    def _idle_s(self, now: float) -> float:
        due_s = self._due[0][0] - now if self._due else _LONG_S
        if self._speaking:
            left_s = self._spoken_until - now
            due_s = min(due_s, left_s, max(self._char_s, _GRAIN_S))
        return max(0.0, due_s)

    def _at(self, when: float, act: Callable[[bytes], None], data: bytes) -> None:
        heapq.heappush(self._due, (when, next(self._order), act, data))

    def _listen(self) -> None:
        """Take what the master wrote; it has been heard when the line has carried it."""
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self._master, 4096)
        if not data:
            return
        self.heard_bytes += len(data)
        self.collisions += bool(self._speaking)
        self._heard_until = max(time.monotonic(), self._heard_until) + len(data) * self._char_s
        self._at(self._heard_until, self._heard, data)

    def _heard(self, data: bytes) -> None:
        for delay_s, answer in self._hear(data):
            if delay_s:
                self._at(time.monotonic() + delay_s, self._answer, answer)
            else:
                self._answer(answer)

    def _answer(self, data: bytes) -> None:
        self.said_bytes += len(data)
        self._spoken_until = max(time.monotonic(), self._spoken_until) + len(data) * self._char_s
        self._speaking += data
        self._speak(time.monotonic())

    def _speak(self, now: float) -> None:
        """Hand over the bytes that the line has carried by now."""
        if not self._speaking:
            return
        left_s = self._spoken_until - now
        still = -int(-left_s // self._char_s) if self._char_s and left_s > 0 else 0
        ready = max(0, len(self._speaking) - still)
        if ready:
            with contextlib.suppress(BlockingIOError):
                written = os.write(self._master, self._speaking[:ready])
                self._speaking = self._speaking[written:]
