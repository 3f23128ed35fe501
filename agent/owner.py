"""Threads that own what must not be shared, and the way the event loop talks to them.

What is always true here:

- Every thread is a daemon: one that is stuck in the kernel never keeps the process from ending.
- Calls to an owner run one at a time, in the order they were made.
- A call whose awaiter was cancelled still runs; its result is dropped.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_Job = Callable[[], None]


class Owner:
    """A daemon thread with a queue of calls. One owns SQLite and signing."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in the thread; the future ends in the calling loop with its result or its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(lambda: _perform(function, loop, future))
        return future

    def end(self) -> None:
        """Let the thread end after the calls already made."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def in_daemon(name: str, function: Callable[[], T]) -> asyncio.Future[T]:
    """Run one function that may block for long (a connection, a name look-up) in a daemon thread of its own."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_perform, args=(function, loop, future), name=name, daemon=True).start()
    return future


def _perform(function: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - handed to whoever awaits, never swallowed
        _finish(loop, future, partial(future.set_exception, error))
    else:
        _finish(loop, future, partial(future.set_result, result))


def _finish(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: _Job) -> None:
    def unless_dropped() -> None:
        if not future.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to ask
        loop.call_soon_threadsafe(unless_dropped)
