"""`trambien export`: history, delivered or not, to CSV, JSON lines, or a folder of blocks."""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from agent import failures
from agent.cli.progress import bar
from agent.cli.rows import CsvRows, JsonRows, readings
from agent.errors import AgentError, Exit
from agent.formats.opening import Points
from agent.history import BLOCK_SUFFIX, BufferSource, FolderSource, History, Source, Span, Tally
from agent.proof import trusted_keys
from agent.words import Language, Words, environment_language
from buffer.block import encode_block, read_header

NICE = 10
"""Exporting a year must not be felt by what polls."""
NS_PER_US = 1000


class Format(StrEnum):
    """What is written."""

    csv = "csv"
    jsonl = "jsonl"
    blocks = "blocks"


class _BadArgument(AgentError):
    exit = Exit.UNREADABLE


class _NotWritten(AgentError):
    exit = Exit.BUFFER


def command(
    source: Annotated[Path, typer.Argument(help="A buffer file, or a folder of blocks.")],
    since: Annotated[
        str | None, typer.Option("--from", help="From this time on: 2026-11-20, 2026-11-20T08:00, ...+07:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Before this time.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="This device; may be given again.")] = None,
    points: Annotated[list[str] | None, typer.Option(help="These points, as device/point; may be given again.")] = None,
    form: Annotated[Format, typer.Option("--format", help="What is written.")] = Format.csv,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, or a folder for blocks; by default the terminal.")
    ] = None,
    zone: Annotated[
        str, typer.Option(help="The zone of times, given and shown: local, UTC, Asia/Ho_Chi_Minh.")
    ] = "local",
    raw: Annotated[bool, typer.Option("--raw", help="The raw values too, as they came over the wire.")] = False,
    trust: Annotated[list[Path] | None, typer.Option(help="A public key to trust (PEM); may be given again.")] = None,
    language: Annotated[Language | None, typer.Option(help="By default that of the environment.")] = None,
) -> None:
    """Export history. Exit 0; 1 where a block could not be proven and was left out."""
    words = Words(language or environment_language(os.environ))
    try:
        where = _zone(zone)
        span = Span(_instant(since, where), _instant(until, where))
        keys, _ = trusted_keys(source, trust or [])
        history = History(_source(source, keys), keys)
        os.nice(NICE)
        with bar() as progress:
            history.survey(progress)
        chosen = Points(None if not device and not points else [*(points or []), *(f"{d}/*" for d in device or [])])
        if form is Format.blocks:
            _blocks(history, history.source, chosen, span, output)
        else:
            _text(history, chosen, span, form, where, output, raw=raw)
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    _tell(history.tally, words)
    raise typer.Exit(Exit.UNPROVEN if history.tally.refused else Exit.OK)


def _source(path: Path, keys: tuple[bytes, ...]) -> Source:
    return FolderSource(path, keys) if path.is_dir() else BufferSource(path)


def _zone(name: str) -> tzinfo:
    if name == "local":
        return datetime.now().astimezone().tzinfo or UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _BadArgument("agent.bad-zone", zone=name) from None


def _instant(text: str | None, zone: tzinfo) -> int | None:
    """Read a time; one without an offset is in the zone."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        aware = read if read.tzinfo else read.replace(tzinfo=zone)
        since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _BadArgument("agent.bad-time", time=text) from None
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * NS_PER_US


def _text(
    history: History, points: Points, span: Span, form: Format, zone: tzinfo, output: Path | None, *, raw: bool
) -> None:
    with _opened(output) as out, bar() as progress:
        rows = (CsvRows if form is Format.csv else JsonRows)(out, zone, raw=raw)
        for told in history.told(points, span, progress):
            for reading in readings(told):
                if span.has(told.place(reading.t_boot_ns)):
                    rows.write(told, reading)


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Give what is written to; a file appears under its name once it is whole."""
    if output is None:
        yield from _terminal()
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(output)
    except OSError as error:
        raise _NotWritten("agent.not-written", path=output, reason=error.strerror) from error


def _terminal() -> Iterator[TextIO]:
    """Give standard output. A reader that has enough and leaves is no fault: the command ends."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):  # what could not be written is let go, or it would be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise _NotWritten("agent.not-written", path="/dev/stdout", reason=error.strerror) from error


def _blocks(history: History, source: Source, points: Points, span: Span, output: Path | None) -> None:
    """Write the stretches of a span as they are, and from elsewhere the layouts and events that explain them."""
    if output is None or not points.all:
        raise _BadArgument("agent.blocks-need-folder" if output is None else "agent.blocks-are-whole")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with bar() as progress:
            for stream, position in history.whole(span, progress):
                for _, block in source.blocks(stream, position, position):
                    gateway = read_header(block.envelope).gateway
                    name = f"{gateway}.{stream}.{position:013}{BLOCK_SUFFIX}"
                    (output / name).write_bytes(encode_block(block))
                    history.tally.blocks += 1
        os.sync()
    except OSError as error:
        raise _NotWritten("agent.not-written", path=output, reason=error.strerror) from error


def _tell(tally: Tally, words: Words) -> None:
    """Say on standard error what was exported, and what was not there."""
    print(words.say("agent.exported", {"blocks": tally.blocks}), file=sys.stderr)
    for name in ("evicted", "refused", "untimed"):
        if count := getattr(tally, name):
            print(words.say(f"agent.exported-{name}", {"count": count}), file=sys.stderr)
