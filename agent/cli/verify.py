"""`trambien verify SOURCE`: prove a buffer file, a folder of blocks, or a live topic."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from agent import failures
from agent.app import key_path
from agent.cli import verdict
from agent.errors import AgentError, Exit
from agent.proof import Client, is_url, known_heads, prove_files, prove_topic, service_heads
from agent.words import Language, Words, environment_language
from buffer.keys import known_public, load_public
from buffer.verify import Verifier

EXITS = {"complete": Exit.OK, "unexplained": Exit.UNPROVEN, "unreadable": Exit.UNREADABLE}


class _BadArgument(AgentError):
    exit = Exit.UNREADABLE


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
        keys, by_itself = _keys(source, trust or [])
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
    """Prove a file or a folder, with a bar where somebody watches."""
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    with bar if sys.stderr.isatty() else contextlib.nullcontext():
        task = bar.add_task("")
        prove_files(path, verifier, lambda done, total: bar.update(task, completed=done, total=total))


def _keys(source: str, trust: list[Path]) -> tuple[tuple[bytes, ...], Path | None]:
    """Give the keys to trust, and the file they came from where nobody named one."""
    if trust:
        return tuple(load_public(path) for path in trust), None
    beside = key_path(Path(source))
    found = () if is_url(source) else known_public(beside)
    if not found:
        raise _BadArgument("agent.no-trust", path=f"{beside}.pub")
    return found, beside
