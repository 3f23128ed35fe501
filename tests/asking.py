"""How a test asks a service that runs in a process of its own: with patience.

What is always true here:

- A test does not fail because an answer came late. It asks again, for a minute.
- Where none comes, what every thread of the service does is in the test's report, so that a service that hangs and a
  machine that is slow can be told apart. The service must have been started with `OPTIONS`; it ends by that.
"""

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent import control
from agent.errors import NotRunning

OPTIONS = ("-X", "faulthandler")
"""What Python is given, so that SIGABRT makes a process tell where it is (faulthandler)."""
PATIENCE_S = 60.0


def asked(buffer: Path, process: "subprocess.Popen[Any]", log: Path, question: str = "status") -> dict[str, Any]:
    """Ask the service that owns a buffer, as soon as it answers."""
    deadline_s = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        try:
            return control.ask(control.socket_path(buffer), question, PATIENCE_S)
        except NotRunning as error:
            if time.monotonic() > deadline_s:
                pytest.fail(f"no answer to {question}: {error.fields['reason']}\n{_where(process, log)}")
        time.sleep(0.05)
    pytest.fail(f"it ended with {process.returncode}\n{log.read_text()}")


def ended(process: "subprocess.Popen[Any]", log: Path) -> int:
    """Wait until a service that was told to leave has left; give its exit code."""
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not leave\n{_where(process, log)}")


def _where(process: "subprocess.Popen[Any]", log: Path) -> str:
    """Make a process tell what its threads do, which ends it; give its log."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    process.kill()
    return log.read_text(errors="replace")
