"""`trambien reload`: have the running service take over its file; what is refused is named here, and changes nothing.

What is always true here: exit 0 only if the file is in force; 78 where it has faults, or changes what needs a restart.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent import control, failures
from agent.cli.site import load_site
from agent.errors import Exit, NotRunning
from agent.health import Document
from agent.service import DEFAULT_CONFIG
from agent.words import Words

WAIT_S = 30.0
"""How long a large file on a small station, and a commit on a slow card, may take."""


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Have the running station take over its file; links that did not change poll on."""
    site = load_site(config)
    try:
        answer = control.ask(control.socket_path(site.buffer), "reload", WAIT_S)
    except NotRunning as error:
        raise typer.Exit(failures.tell(error, site.words)) from None
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _tell(answer, site.words)
    raise typer.Exit(Exit.OK if answer.get("ok") else Exit(answer.get("exit", Exit.PERMISSION)))


def _tell(answer: Document, words: Words) -> None:
    if answer.get("ok"):
        print(words.say("agent.reloaded", answer))
        for what in ("links", "uplinks"):
            names = {key: ", ".join(found) or words.say("agent.reload-none", {}) for key, found in answer[what].items()}
            print(words.say(f"agent.reload-{what}", names))
    elif "text" in answer:
        print(answer["text"], file=sys.stderr)
    else:
        code, fields = str(answer.get("error")), answer.get("fields", {})
        print("\n".join(filter(None, (words.say(code, fields), words.hint(code, fields)))), file=sys.stderr)
