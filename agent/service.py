"""`trambien run`: the service. It imports no command-line or terminal library, and a driver only when it is named."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent import failures, log, supervise
from agent.app import App
from agent.errors import Exit
from agent.settings import Site, read
from agent.words import Words
from config.errors import ConfigFaults

DEFAULT_CONFIG = Path("/etc/trambien/gateway.yaml")


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM; give the exit code."""
    parser = argparse.ArgumentParser(prog="trambien run", description="Run the station.")
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="the configuration file")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    log.configure(verbose=options.verbose)
    try:
        site = read(options.config)
    except ConfigFaults as faults:
        return _refuse(faults)
    try:
        asyncio.run(_run(site))
    except failures.Mendable as error:
        return failures.tell(error, Words(site.config.gateway.language))
    return Exit.OK


async def _run(site: Site) -> None:
    stop = asyncio.Event()
    supervise.on_stop(stop)
    await App(site).run(stop)


def _refuse(faults: ConfigFaults) -> int:
    ...
