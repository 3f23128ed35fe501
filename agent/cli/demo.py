"""`trambien demo`: the whole system on one machine, and a verdict.

With an outage, a kill and a drain; or with `--push`, an operator's configurations: a good, a forged and a fatal one.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from agent import failures
from agent.demo.brokers import Broker, Embedded, choose
from agent.demo.plant import find_recordings
from agent.demo.push_scenario import PushPace, demonstrate_pushes
from agent.demo.push_verdict import PushVerdict
from agent.demo.scenario import Pace, demonstrate
from agent.demo.screen import Screen
from agent.demo.verdict import Verdict
from agent.errors import AgentError, Exit
from agent.words import Language, Words, environment_language


def command(
    push: Annotated[
        bool, typer.Option("--push", help="Show signed configuration pushes instead of an outage.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON, as the last line.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Leave configuration, buffer and trust in this directory.")] = None,
    data: Annotated[Path | None, typer.Option(help="Directory of the recorded data to replay.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The broker's port; else a free one.")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Use the embedded broker (MQTT 3.1.1).")] = False,
    language: Annotated[Language | None, typer.Option(help="By default that of the environment.")] = None,
) -> None:
    """Show the whole system: instruments, outage, kill, drain, or pushes; and a verdict. Exit 0 only if it holds."""
    words = Words(language or environment_language(os.environ))
    try:
        verdict = asyncio.run(_demonstrate(words, push, keep, data, port, Embedded if embedded else choose()))
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
    words: Words, push: bool, keep: Path | None, data: Path | None, port: int | None, broker: type[Broker]
) -> Verdict | PushVerdict:
    recordings = find_recordings(data)
    if recordings is None:
        raise AgentError("agent.no-recordings", directory=data or "tests/data")
    with tempfile.TemporaryDirectory(prefix="trambien-demo-") as temporary:
        directory = _fresh(keep) if keep else Path(temporary)
        with Screen(words) as screen:
            if push:
                return await demonstrate_pushes(directory, recordings, screen, PushPace(), port, broker)
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


def _show(verdict: Verdict | PushVerdict, words: Words, console: Console) -> None:
    pushed = isinstance(verdict, PushVerdict)
    figures = ("produced", "stored", "delivered", "lost", *(() if pushed else ("unsealed_at_kill",)))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("instrument", *figures):
        name = words.say(f"agent.demo-{column.replace('_', '-')}", {})
        table.add_column(name, justify="left" if column == "instrument" else "right")
    for name, tally in (*verdict.instruments.items(), (words.say("agent.demo-total", {}), verdict.total)):
        table.add_row(name, *(str(getattr(tally, figure)) for figure in figures))
    console.print(table)
    lines = [*_pushes(verdict, words)] if isinstance(verdict, PushVerdict) else [*_outage(verdict, words)]
    lines += [words.say("agent.demo-finding", {"finding": text}) for text in (*verdict.gaps, *verdict.findings)]
    lines += [words.say(verdict.unproven, {})] if verdict.unproven else []
    for line in lines:
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    if verdict.holds:
        text = words.say("agent.demo-push-holds" if pushed else "agent.demo-holds", {})
        console.print(text, style="bold green", markup=False, soft_wrap=not console.is_terminal)
    else:
        text = words.say("agent.demo-fails", {"faults": ", ".join(verdict.faults)})
        console.print(text, style="bold red", markup=False, soft_wrap=True)


def _outage(verdict: Verdict, words: Words) -> Iterator[str]:
    yield words.say("agent.demo-blocks", verdict.document())
    for silence in verdict.document()["dead"]:
        yield words.say("agent.demo-dead" if silence["named"] else "agent.demo-dead-unnamed", silence)


def _pushes(verdict: PushVerdict, words: Words) -> Iterator[str]:
    document = verdict.document()
    yield words.say("agent.demo-push-blocks", {**document, "steps": len(verdict.told)})
    for one in verdict.outcomes:
        name, state = words.say(f"agent.demo-push-{one.name}", {}), words.say(f"agent.push-{one.state}", {})
        why = f" ({words.say(one.reason, {})})" if one.reason else ""
        yield words.say("agent.demo-push-ended", {"push": name, "state": state + why, "seconds": f"{one.seconds:.0f}"})
    yield words.say("agent.demo-push-asked", {"before": document["every_before_s"], "after": document["every_after_s"]})
