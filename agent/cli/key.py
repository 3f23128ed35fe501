"""`trambien key`: the identity of the device."""

from pathlib import Path
from typing import Annotated

import typer

from agent import failures
from agent.app import key_path
from agent.cli.site import load_site
from agent.errors import AgentError
from agent.service import DEFAULT_CONFIG
from buffer.cose import thumbprint
from buffer.keys import known_public, public_pem

app = typer.Typer(help="The device's identity.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Show the device's identity."""


@app.command("show")
def show(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_CONFIG,
    pem: Annotated[bool, typer.Option("--pem", help="Print the public key alone, as PEM.")] = False,
) -> None:
    """Show the device's public key and its thumbprint, as a verifier must be given them."""
    site = load_site(config)
    words = site.words
    path = key_path(site.buffer)
    try:
        known = known_public(path)
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    if not known:
        raise typer.Exit(failures.tell(AgentError("agent.no-key", path=path), words))
    public_key = known[0]
    if pem:
        print(public_pem(public_key).decode(), end="")
        return
    fields = {"gateway": site.gateway, "kid": thumbprint(public_key).hex(), "path": path}
    print(words.say("agent.key", fields))
    print(public_pem(public_key).decode(), end="")
