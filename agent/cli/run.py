"""`trambien run`: its help. The service itself starts from `agent.service`, without this library."""

from pathlib import Path
from typing import Annotated

import typer

from agent import service


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = service.DEFAULT_CONFIG,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the station until SIGTERM."""
    raise typer.Exit(service.main(["-c", str(config), *(["-v"] if verbose else [])]))
