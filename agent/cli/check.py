"""`trambien check FILE`: every fault of a configuration at once, or what it is, what it will cost, and what is unwise.

What is always true here: exit code 0, or 78 where there is a fault; a warning changes nothing of it. With `--connect`
every instrument is asked as well (`agent.cli.connect`). With `--json`, one JSON object and nothing else.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import failures, faults
from agent.cli import connect as instruments
from agent.clock import SystemClock
from agent.errors import Exit, PortBusy
from agent.reading import read
from agent.settings import Settings, credentials
from agent.unwise import shown
from agent.words import Language, Words
from config.errors import ConfigFaults


def command(
    file: Annotated[Path, typer.Argument(help="The configuration file.")],
    connect: Annotated[bool, typer.Option("--connect", help="Ask every instrument, and write to none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
    language: Annotated[Language | None, typer.Option(help="By default the file's own.")] = None,
) -> None:
    """Judge a configuration: every fault at once. Exit 0 or 78; with --connect also 69 and 75."""
    raise typer.Exit(check(file, connect=connect, as_json=as_json, language=language))


def check(path: Path, *, connect: bool = False, as_json: bool = False, language: str | None = None) -> int:
    """Judge a file and print the verdict. Gives the exit code."""
    words = Words(language or faults.language_of(path, os.environ))
    try:
        settings = read(path, SystemClock(), credentials(os.environ))
    except ConfigFaults as found:
        _print(json.dumps(faults.document(found, words), ensure_ascii=False) if as_json else faults.text(found, words))
        return Exit.CONFIG
    verdict = {"ok": True, **_summary(settings), **_cost(settings)}
    verdict["warnings"] = faults.list_of(settings.warnings, words)
    if not as_json:
        _print(_text(settings, words))
    code = Exit.OK
    if connect:
        try:
            looked = instruments.connect(settings)
        except PortBusy as error:
            return failures.tell(error, words)
        code, verdict["connect"] = instruments.exit_of(looked), looked
        if not as_json:
            _print("\n" + instruments.text(looked, words))
    if as_json:
        _print(json.dumps(verdict, ensure_ascii=False))
    return code


def _text(settings: Settings, words: Words) -> str:
    sound = words.say("config.sound", {"file": settings.loaded.path, **_summary(settings)})
    told = [f"{sound}\n{words.say('config.estimate', _cost_words(settings))}"]
    return "\n\n".join([*told, *([faults.warning_text(settings.warnings, words)] if settings.warnings else [])])


def _print(text: str) -> None:
    """Print text to whatever terminal there is; what its encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _summary(settings: Settings) -> dict[str, Any]:
    config = settings.loaded.config
    devices = [device for link in config.links.values() for device in link.devices.values()]
    return {
        "gateway": config.gateway.id,
        "links": len(config.links),
        "devices": len(devices),
        "points": sum(len(group.layout.columns) for driver in settings.instruments.values() for group in driver.groups),
        "uplinks": len(config.uplinks),
        "digest": settings.loaded.digest.hex(),
    }


def _cost(settings: Settings) -> dict[str, Any]:
    cost = settings.estimate
    return {
        "kept_bytes_a_day": round(cost.kept_bytes),
        "days_in_limit": round(cost.days(settings.loaded.config.buffer.limit), 1),
        "flash_bytes_a_day": round(cost.written_bytes),
        "loss_window_s": cost.loss_ns / 1e9,
    }


def _cost_words(settings: Settings) -> dict[str, str]:
    cost = settings.estimate
    return {
        "kept": f"{cost.kept_bytes / 1e6:.3g} MB",
        "days": shown(cost.days(settings.loaded.config.buffer.limit)),
        "written": f"{cost.written_bytes / 1e6:.3g} MB",
        "loss": f"{cost.loss_ns / 1e9:g} s",
    }
