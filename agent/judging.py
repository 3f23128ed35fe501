"""The process beside the service (`agent.aside`): it may import everything, does a few tasks, and ends.

What is always true here:

- Questions and answers go over standard input and output (`agent.aside`); whatever a library prints, to standard
  error.
- Only what `TASKS` names is done, and only what a task needs is imported; for the one that the command line names, at
  once. An error that a task is expected to raise is an answer; any other ends the process, with its traceback.
- It ends with its input, by itself after a bound if the service is gone, and leaves no core: secrets pass through it.

`python -m agent.judging [TASK]`; nobody imports it.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any

from agent import log, machine
from agent.aside import LENGTH_BYTES, LIMIT_S, Answer, Question, packed
from config.errors import ConfigFaults
from config.trust import TrustInvalid

TASKS = {
    "read": "agent.reading:read_for",
    "read-trust": "config.push_reading:trust",
    "touched": "config.push_reading:touched",
    "certificate-end": "agent.certificate:expires_ns",
    "make-buffer": "agent.new_buffer:make",
}
_SLACK_S = 5
"""How much later than the service this process gives itself up."""


def task(name: str) -> Callable[..., Any]:
    """Give what does a task."""
    module, _, function = TASKS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _answer(question: Question) -> Answer:
    try:
        return Answer(task(question.task)(*question.given))
    except (ConfigFaults, TrustInvalid) as error:
        return Answer(error=error)


def main(expected: list[str]) -> None:
    """Answer until there is nothing more to answer."""
    machine.forbid_core_dumps()
    log.configure()
    for name in expected:
        task(name)
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        while (question := _next(sys.stdin.buffer)) is not None:
            signal.alarm(int(LIMIT_S) + _SLACK_S)
            answers.write(packed(_answer(question)))
            answers.flush()
            signal.alarm(0)
        sys.stderr.flush()
        os._exit(0)  # what is left in memory need not be taken apart


def _next(questions: IO[bytes]) -> Question | None:
    length = questions.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    question: Question = pickle.loads(questions.read(int.from_bytes(length, "big")))  # noqa: S301  from the service
    return question


if __name__ == "__main__":
    main(sys.argv[1:])
