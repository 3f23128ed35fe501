"""`trambien run`: the service. It imports no command-line or terminal library, and a driver only when it is named."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent import failures, faults, log, supervise
from agent.app import App
from agent.clock import SystemClock
from agent.errors import Exit
from agent.journal import Hold
from agent.machine import give_back
from agent.settings import credentials, read
from agent.words import Words
from config.errors import ConfigFaults

_log = log.Log("service")

DEFAULT_CONFIG = Path("/etc/trambien/gateway.yaml")


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM; give the exit code."""
    parser = argparse.ArgumentParser(prog="trambien run", description="Run the station.")
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="the configuration file")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    log.configure(verbose=options.verbose)
    supervise.forbid_core_dumps()
    supervise.keep_reload()
    clock = SystemClock()
    hold = Hold(options.config, clock.boot_id.hex(), clock.boot_ns)
    try:
        hold.recover()
    except OSError as error:  # readings matter more
        _log.error("push-disk", reason=error, folder=hold.folder)
    code = _once(hold, clock)
    if code != Exit.OK and hold.give_up():
        _log.error("push-undone", code="push.not-started", exit=code)
        code = _once(hold, clock)
    return code


def _once(hold: Hold, clock: SystemClock) -> int:
    """Run with the configuration as it stands; give the exit code."""
    try:
        given = credentials(os.environ)
        read_file = partial(read, clock=clock, credentials=given)
        settings = read_file(hold.config)
    except ConfigFaults as found:
        sys.stderr.write(faults.text(found, Words(faults.language_of(hold.config, os.environ))) + "\n")
        return Exit.CONFIG
    for warning in settings.warnings:
        _log.warning(warning.code, **{**warning.fields, "file": warning.file, "line": warning.line})
    code, words = Exit.OK, Words(settings.loaded.config.gateway.language)
    try:
        app = App(settings, clock, read_file, hold, given)
        del settings  # the places of every key are not needed any more, and are megabytes
        give_back()
        asyncio.run(_run(app))
    except* failures.Mendable as ended:
        code = failures.tell(failures.first(ended), words)
    return code


async def _run(app: App) -> None:
    stop = asyncio.Event()
    supervise.on_stop(stop)
    await app.run(stop)
