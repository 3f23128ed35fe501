"""Work that is done in a process of its own, which ends: what only it needs takes no memory of the service for long.

    worker = Worker("read")                # starts the process; it gets ready for a task while this one goes on
    worker.ask("read", path, None)         # one of the tasks of `agent.judging`, with plain arguments
    worker.close()

What is always true here:

- The process is this interpreter with the module `agent.judging`, started without a shell; question and answer are
  pickles on its standard input and output, each behind its length. Its standard error is ours.
- What a task raises as its own errors (`ConfigFaults`, `TrustInvalid`) is raised here. That the process died, said
  something else, or took longer than it may is `AsideFailed`; it is killed then. Nothing of it is waited for longer.
- It is in a session of its own, so that a key in a terminal reaches the service alone. When the service ends, it does.

`ask` blocks: inside the event loop it belongs in a thread. This side imports nothing that its caller has not loaded.
"""

import contextlib
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any, NamedTuple, Self

from agent.errors import AsideFailed

LIMIT_S = 20.0
"""The longest a task may take; a large file on a slow board takes a tenth of it."""
ENDS_S = 2.0
"""How long a process with nothing left to do may take to end by itself."""
LENGTH_BYTES = 8
LONGEST = 64 << 20
"""The longest answer; a configuration of a mebibyte makes a few."""
_CHUNK = 1 << 16

_NONSENSE = (
    *(OSError, EOFError, pickle.PickleError, ValueError, TypeError, LookupError, AttributeError, ImportError),
    *(OverflowError, MemoryError, RecursionError),
)
"""What reading an answer that is none has been seen to raise, or may (pickle, "Exceptions")."""


class Question(NamedTuple):
    """What is to be done: a task's name, and what it is given."""

    task: str
    given: tuple[Any, ...]


class Answer(NamedTuple):
    """What became of it: a value, or an error that the task names as its own."""

    value: Any = None
    error: Exception | None = None


class Worker:
    """A process that does tasks, one after the other."""

    def __init__(self, *expected: str, limit_s: float = LIMIT_S, module: str = "agent.judging") -> None:
        """Start it. `expected` are the tasks that it gets ready for before it is asked."""
        self._limit_s = limit_s
        self._process, self._refusal = _started(module, expected)

    def __enter__(self) -> Self:
        """Use it for what follows."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end."""
        self.close()

    def ask(self, task: str, *given: Any) -> Any:
        """Have a task done and give its result. Raises what the task names as its errors, and AsideFailed."""
        if self._process is None:
            raise AsideFailed("agent.aside-died", task=task, reason=self._refusal)
        try:
            answer = _exchange(self._process, Question(task, given), time.monotonic() + self._limit_s)
        except TimeoutError as error:
            self._process.kill()
            raise AsideFailed("agent.aside-late", task=task, seconds=f"{self._limit_s:g}") from error
        except _NONSENSE as error:
            self._process.kill()
            reason = f"{type(error).__name__}, exit {self._process.wait()}"
            raise AsideFailed("agent.aside-died", task=task, reason=reason) from error
        if answer.error is not None:
            raise answer.error
        return answer.value

    def close(self) -> None:
        """Let the process end: it does once its input is closed; if it has not soon, it is killed."""
        if self._process is None:
            return
        asking, answering = _pipes(self._process)
        asking.close()
        with contextlib.suppress(TimeoutError, EOFError, OSError):
            _read(answering.fileno(), LONGEST, time.monotonic() + ENDS_S)
        answering.close()
        self._process.kill()
        self._process.wait()


def _started(module: str, expected: Sequence[str]) -> tuple["subprocess.Popen[bytes] | None", str]:
    """Start the process; where that cannot be done, say why."""
    try:
        process = subprocess.Popen(  # noqa: S603  this interpreter, and names of ours
            [sys.executable, "-P", "-m", module, *expected],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return None, str(error)
    asking, _ = _pipes(process)
    os.set_blocking(asking.fileno(), False)
    return process, ""


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _exchange(process: "subprocess.Popen[bytes]", question: Question, deadline: float) -> Answer:
    """Ask and hear, until a moment of the monotonic clock. Raises TimeoutError, and whatever nonsense draws."""
    asking, answering = _pipes(process)
    _write(asking.fileno(), packed(question), deadline)
    size = int.from_bytes(_read(answering.fileno(), LENGTH_BYTES, deadline), "big")
    if size > LONGEST:
        raise ValueError(size)
    answer = pickle.loads(_read(answering.fileno(), size, deadline))  # noqa: S301  from a process of our own account
    if not isinstance(answer, Answer):
        raise TypeError(type(answer).__name__)
    return answer


def packed(message: Question | Answer) -> bytes:
    """Give a message as it goes over a pipe: its length, then its pickle."""
    data = pickle.dumps(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _write(pipe: int, data: bytes, deadline: float) -> None:
    left = memoryview(data)
    while left:
        _await(pipe, select.POLLOUT, deadline)
        left = left[os.write(pipe, left[:_CHUNK]) :]


def _read(pipe: int, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        _await(pipe, select.POLLIN, deadline)
        if not (more := os.read(pipe, min(_CHUNK, size - len(data)))):
            raise EOFError
        data += more
    return bytes(data)


def _await(pipe: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise TimeoutError


def ask(task: str, *given: Any) -> Any:
    """Have one task done by a process of its own. Raises what the task names as its errors, and AsideFailed."""
    with Worker() as worker:
        return worker.ask(task, *given)
