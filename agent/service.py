"""`trambien run`: the service. It imports no command-line or terminal library, and a driver only when it is named."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent import failures, faults, log, supervise
from agent.app import App
from agent.aside import Worker
from agent.clock import SystemClock
from agent.errors import AsideFailed, Exit
from agent.journal import Hold
from agent.machine import forbid_core_dumps, give_back
from agent.reload import FIXED
from agent.settings import credentials, read_aside
from agent.words import Words
from config.errors import ConfigFaults

_log = log.Log("service")

DEFAULT_CONFIG = Path("/etc/trambien/gateway.yaml")


def main(arguments: Sequence[str], worker: Worker | None = None) -> int:
    """Run until SIGTERM; give the exit code. `worker` is a process that was started before, to read the file."""
    parser = argparse.ArgumentParser(prog="trambien run", description="Run the station.")
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="the configuration file")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    log.configure(verbose=options.verbose)
    forbid_core_dumps()
    supervise.keep_reload()
    clock = SystemClock()
    hold = Hold(options.config, clock.boot_id.hex(), clock.boot_ns)
    try:
        hold.recover()
    except OSError as error:  # readings matter more
        _log.error("push-disk", reason=error, folder=hold.folder)
    code = _once(hold, clock, worker or Worker("read"))
    if code != Exit.OK and hold.give_up():
        _log.error("push-undone", code="push.not-started", exit=code)
        code = _once(hold, clock, Worker("read"))
    return code


def _once(hold: Hold, clock: SystemClock, worker: Worker) -> int:
    """Run with the configuration as it stands; give the exit code."""
    words = Words(faults.language_of(hold.config, os.environ))
    try:
        with worker:
            app = _composed(hold, clock, worker)
    except ConfigFaults as found:
        sys.stderr.write(faults.text(found, words) + "\n")
        return Exit.CONFIG
    except failures.Mendable as error:
        return failures.tell(error, words)
    code: int = Exit.OK
    try:
        give_back()
        asyncio.run(_run(app))
    except* failures.Mendable as ended:
        code = failures.tell(failures.first(ended), words)
    return code


def _composed(hold: Hold, clock: SystemClock, worker: Worker) -> App:
    """Read the configuration and compose the house, with what only that needs done by the worker."""
    given = credentials(os.environ)
    settings = read_aside(hold.config, clock, given, FIXED, worker)
    for warning in settings.warnings:
        _log.warning(warning.code, **{**warning.fields, "file": warning.file, "line": warning.line})
    app = App(settings, clock, partial(read_aside, clock=clock, credentials=given, spots=FIXED), hold, given)
    buffer = Path(settings.loaded.config.buffer.path)
    if not buffer.exists():
        with contextlib.suppress(AsideFailed):  # then it is made here
            worker.ask("make-buffer", buffer)
    return app


async def _run(app: App) -> None:
    stop = asyncio.Event()
    supervise.on_stop(stop)
    await app.run(stop)
