"""`trambien verify SOURCE`: prove a buffer file, a folder of blocks, or a live topic."""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import failures
from agent.app import key_path
from agent.errors import AgentError, Exit
from agent.proof import Client, is_url, prove_files, prove_topic
from agent.words import Language, Words, environment_language
from buffer.keys import known_public, load_public
from buffer.verify import Report, Verifier

EXITS = {"complete": Exit.OK, "unexplained": Exit.UNPROVEN, "unreadable": Exit.UNREADABLE}
SHOWN = 20
"""Findings beyond this are counted, and stand in --json."""


class _BadArgument(AgentError):
    exit = Exit.UNREADABLE


def command(
    source: Annotated[
        str, typer.Argument(help="A buffer file, a folder of blocks, or mqtts://host:port/prefix/gateway.")
    ],
    trust: Annotated[list[Path] | None, typer.Option(help="A public key to trust (PEM); may be given again.")] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="A digest that must be there: the known head of a stream.")
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
        for digest in head or []:
            verifier.expect_head(_digest(digest))
        if is_url(source):
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(prove_topic(source, Client(ca, cert, key), verifier, seconds))
        else:
            prove_files(Path(source), verifier)
    except failures.Mendable as error:
        failures.tell(error, words)
        raise typer.Exit(Exit.UNREADABLE) from None
    report = verifier.report()
    if by_itself and not as_json:
        print(words.say("agent.verify-self-trust", {"path": by_itself}), file=sys.stderr)
    print(json.dumps(document(report)) if as_json else text(report, words, whole=bool(head)))
    raise typer.Exit(EXITS[report.verdict])


def _keys(source: str, trust: list[Path]) -> tuple[tuple[bytes, ...], Path | None]:
    """Give the keys to trust, and the file they came from where nobody named one."""
    if trust:
        return tuple(load_public(path) for path in trust), None
    beside = key_path(Path(source))
    found = () if is_url(source) else known_public(beside)
    if not found:
        raise _BadArgument("agent.no-trust", path=f"{beside}.pub")
    return found, beside


def _digest(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        if len(digest := bytes.fromhex(text)) == 32:
            return digest
    raise _BadArgument("agent.bad-head", head=text)


def document(report: Report) -> dict[str, Any]:
    """Render a report as JSON; bytes as hexadecimal."""
    plain = asdict(report)
    plain["heads"] = {"/".join(name): digest for name, digest in report.heads.items()}
    rendered: dict[str, Any] = json.loads(json.dumps(plain, default=_plain))
    return rendered


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def text(report: Report, words: Words, *, whole: bool) -> str:
    """Render a report for a person: what was proven of each stream, then what was not."""
    lines = [_stream_line(report, name, words) for name in report.heads]
    findings = [words.say("agent.verify-gap", _plain_fields(gap)) for gap in report.gaps]
    findings += [words.say("agent.verify-fault", _plain_fields(fault)) for fault in report.faults]
    lines += findings[:SHOWN]
    lines.append(words.say(f"agent.verify-{report.verdict}", {"count": report.fault_count + len(report.gaps)}))
    if report.verdict == "complete" and not whole:
        lines.append(words.say("agent.verify-tail", {}))
    return "\n".join(lines)


def _stream_line(report: Report, name: tuple[str, str], words: Words) -> str:
    epochs = [epoch for epoch in report.epochs if (epoch.gateway, epoch.stream) == name]
    fields = {
        "gateway": name[0],
        "stream": name[1],
        "blocks": sum(epoch.blocks for epoch in epochs),
        "readings": sum(epoch.readings for epoch in epochs),
        "evicted": sum(epoch.evicted for epoch in epochs),
        "epochs": len(epochs),
        "head": report.heads[name].hex(),
    }
    return words.say("agent.verify-stream", fields)


def _plain_fields(finding: Any) -> dict[str, object]:
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in asdict(finding).items()}
