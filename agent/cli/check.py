"""`trambien check FILE`: every fault of a configuration at once, or one line that says what it is.

What is always true here: exit code 0, or 78 where there is a fault; a warning changes nothing of it. With `--json`, one
JSON object and nothing else.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import faults
from agent.clock import SystemClock
from agent.errors import Exit
from agent.settings import Settings, credentials, read
from agent.unwise import shown
from agent.words import Language, Words
from config.errors import ConfigFaults


def command(
    file: Annotated[Path, typer.Argument(help="The configuration file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
    language: Annotated[Language | None, typer.Option(help="By default the file's own.")] = None,
) -> None:
    """Judge a configuration: every fault at once. Exit 0 or 78."""
    raise typer.Exit(check(file, as_json=as_json, language=language))


def check(path: Path, *, as_json: bool = False, language: str | None = None) -> int:
    """Judge a file and print the verdict. Gives the exit code."""
    words = Words(language or faults.language_of(path, os.environ))
    try:
        settings = read(path, SystemClock(), credentials(os.environ))
    except ConfigFaults as found:
        _print(json.dumps(faults.document(found, words), ensure_ascii=False) if as_json else faults.text(found, words))
        return Exit.CONFIG
    summary = _summary(settings)
    sound = words.say("config.sound", {"file": settings.loaded.path, **summary})
    if as_json:
        warnings = faults.list_of(settings.warnings, words)
        _print(json.dumps({"ok": True, **summary, **_cost(settings), "warnings": warnings}, ensure_ascii=False))
    else:
        cost = words.say("config.estimate", _cost_words(settings))
        told = [f"{sound}\n{cost}", *([faults.warning_text(settings.warnings, words)] if settings.warnings else [])]
        _print("\n\n".join(told))
    return Exit.OK


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
        "points": sum(len(group.layout.columns) for driver in settings.drivers.values() for group in driver.groups),
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
