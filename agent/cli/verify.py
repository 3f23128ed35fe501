"""`trambien verify SOURCE`: prove a buffer file, a folder of blocks, or a live topic."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent import failures
from agent.cli import verdict
from agent.cli.progress import bar
from agent.errors import Exit
from agent.proof import Client, is_url, known_heads, prove_files, prove_topic, service_heads, trusted_keys
from agent.words import Language, Words, environment_language
from buffer.verify import Verifier

EXITS = {"complete": Exit.OK, "unexplained": Exit.UNPROVEN, "unreadable": Exit.UNREADABLE}


def command(
    source: Annotated[
        str, typer.Argument(help="A buffer file, a folder of blocks, or mqtts://host:port/prefix/gateway.")
    ],
    trust: Annotated[list[Path] | None, typer.Option(help="A public key to trust (PEM); may be given again.")] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="What must be there: the digest of a stream's last block, or a file with a station's `state`."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="How long to listen to a topic; by default until Ctrl-C.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="The broker's authority, for a topic.")] = None,
    cert: Annotated[Path | None, typer.Option(help="This client's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="This client's key.")] = None,
    language: Annotated[Language | None, typer.Option(help="By default that of the environment.")] = None,
) -> None:
    """Prove that blocks are authentic, complete and in order. Exit 0 proven, 1 unexplained, 2 unreadable."""
    words = Words(language or environment_language(os.environ))
    try:
        keys, by_itself = trusted_keys(None if is_url(source) else Path(source), trust or [])
        verifier = Verifier(keys, whole=not is_url(source), remember=is_url(source))
        heads = known_heads(head or []) | (set() if is_url(source) else service_heads(Path(source)))
        for digest in heads:
            verifier.expect_head(digest)
        if is_url(source):
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(prove_topic(source, Client(ca, cert, key), verifier, seconds))
        else:
            _prove_files(Path(source), verifier)
    except failures.Mendable as error:
        failures.tell(error, words)
        raise typer.Exit(Exit.UNREADABLE) from None
    report = verifier.report()
    if by_itself and not as_json:
        print(words.say("agent.verify-self-trust", {"path": by_itself}), file=sys.stderr)
    print(json.dumps(verdict.document(report)) if as_json else verdict.text(report, words, whole=bool(heads)))
    raise typer.Exit(EXITS[report.verdict])


def _prove_files(path: Path, verifier: Verifier) -> None:
    with bar() as progress:
        prove_files(path, verifier, progress)
