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
    try:
        given = credentials(os.environ)
        read_again = partial(read, options.config, clock := SystemClock(), given)
        settings = read_again()
    except ConfigFaults as found:
        sys.stderr.write(faults.text(found, Words(faults.language_of(options.config, os.environ))) + "\n")
        return Exit.CONFIG
    for warning in settings.warnings:
        _log.warning(warning.code, **{**warning.fields, "file": warning.file, "line": warning.line})
    code, words = Exit.OK, Words(settings.loaded.config.gateway.language)
    try:
        app = App(settings, clock, given, reread=read_again)
        del settings  # the places of every key are not needed any more, and are megabytes
        asyncio.run(_run(app))
    except* failures.Mendable as ended:
        code = failures.tell(failures.first(ended), words)
    return code


async def _run(app: App) -> None:
    stop = asyncio.Event()
    supervise.on_stop(stop)
    await app.run(stop)
