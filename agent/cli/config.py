"""`trambien config`: what a person at the station decides about its configuration."""

from pathlib import Path
from typing import Annotated

import typer

from agent import control, failures
from agent.cli.site import load_site
from agent.errors import AgentError, Exit, NotRunning
from agent.service import DEFAULT_CONFIG

app = typer.Typer(help="Decide about the configuration.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Decide about the configuration."""


@app.command("accept-remote")
def accept_remote(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_CONFIG,
) -> None:
    """Let in the push that was refused because this file was edited here; the edit is lost if it proves itself."""
    site = load_site(config)
    try:
        answer = control.ask(control.socket_path(site.buffer), "accept-remote")
    except NotRunning as error:
        raise typer.Exit(failures.tell(error, site.words)) from None
    if not answer.get("ok"):
        failures.tell(AgentError(str(answer["error"])), site.words)
        raise typer.Exit(Exit(answer.get("exit", Exit.UNAVAILABLE)))
    print(site.words.say("agent.push-let-in", answer))
