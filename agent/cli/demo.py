"""`trambien demo`: the whole system on one machine, with an outage, a kill, a drain and a verdict."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from agent import failures
from agent.demo.brokers import Broker, Embedded, choose
from agent.demo.plant import find_recordings
from agent.demo.scenario import Pace, demonstrate
from agent.demo.screen import Screen
from agent.demo.verdict import Verdict
from agent.errors import AgentError, Exit
from agent.words import Language, Words, environment_language


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON, as the last line.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Leave configuration, buffer and trust in this directory.")] = None,
    data: Annotated[Path | None, typer.Option(help="Directory of the recorded data to replay.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The broker's port; else a free one.")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Use the embedded broker (MQTT 3.1.1).")] = False,
    language: Annotated[Language | None, typer.Option(help="By default that of the environment.")] = None,
) -> None:
    """Show the whole system: instruments, outage, kill, drain, and a verdict. Exit 0 only if the verdict holds."""
    words = Words(language or environment_language(os.environ))
    try:
        verdict = asyncio.run(_demonstrate(words, keep, data, port, Embedded if embedded else choose()))
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.UNPROVEN) from None
    _show(verdict, words, Console(file=sys.stderr if as_json else sys.stdout, highlight=False))
    if keep:
        print(words.say("agent.demo-kept", {"directory": keep}), file=sys.stderr)
    if as_json:
        print(json.dumps(verdict.document()))
    raise typer.Exit(Exit.OK if verdict.holds else Exit.UNPROVEN)


async def _demonstrate(
    words: Words, keep: Path | None, data: Path | None, port: int | None, broker: type[Broker]
) -> Verdict:
    recordings = find_recordings(data)
    if recordings is None:
        raise AgentError("agent.no-recordings", directory=data or "tests/data")
    with tempfile.TemporaryDirectory(prefix="trambien-demo-") as temporary:
        directory = _fresh(keep) if keep else Path(temporary)
        with Screen(words) as screen:
            return await demonstrate(directory, recordings, screen, Pace(), port, broker)


def _fresh(keep: Path) -> Path:
    """Make the directory to keep; an earlier run's is not written over."""
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError("agent.keep-refused", directory=keep, reason=error.strerror) from error
    if any(keep.iterdir()):
        raise AgentError("agent.keep-not-empty", directory=keep)
    return keep.resolve()


def _show(verdict: Verdict, words: Words, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    figures = ("produced", "stored", "delivered", "lost", "unsealed_at_kill")
    for column in ("instrument", *figures):
        name = words.say(f"agent.demo-{column.replace('_', '-')}", {})
        table.add_column(name, justify="left" if column == "instrument" else "right")
    for name, tally in (*verdict.instruments.items(), (words.say("agent.demo-total", {}), verdict.total)):
        table.add_row(name, *(str(getattr(tally, figure)) for figure in figures))
    console.print(table)
    lines = [words.say("agent.demo-blocks", verdict.document())]
    lines += [_silence(silence, words) for silence in verdict.document()["dead"]]
    lines += [words.say("agent.demo-finding", {"finding": text}) for text in (*verdict.gaps, *verdict.findings)]
    lines += [words.say(verdict.unproven, {})] if verdict.unproven else []
    for line in lines:
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    if verdict.holds:
        console.print(words.say("agent.demo-holds", {}), style="bold green", markup=False)
    else:
        text = words.say("agent.demo-fails", {"faults": ", ".join(verdict.faults)})
        console.print(text, style="bold red", markup=False, soft_wrap=True)


def _silence(silence: dict[str, object], words: Words) -> str:
    return words.say("agent.demo-dead" if silence["named"] else "agent.demo-dead-unnamed", silence)
