"""`trambien check FILE`: every fault of a configuration at once, or one line that says what it is.

What is always true here:

- A fault is shown as `file:line:col: what`, the line it stands on with a caret under the place, and how to mend it.
- The language is the one asked for, else the file's own, else that of the environment, else Vietnamese; a file that
  cannot be read in full is still asked for its language.
- Exit code 0, or 78 (EX_CONFIG of sysexits.h) where there is a fault.
- With `--json`, one JSON object and nothing else.

The command line enters.
"""

import json as json_text
import os
import re
import sys
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from agent.settings import Settings, read
from agent.words import LANGUAGES, Words
from config.errors import ConfigFaults, Fault, dotted

EX_CONFIG = 78
_LANGUAGE_LINE = re.compile(rb"^[^#\n]*\blanguage:\s*[\"']?(vi|en)\b", re.MULTILINE)
_LINE_END = re.compile(r"\r\n|\n|\r")
"""What ends a line (YAML 1.2, section 5.4)."""
_SHOWN = 160
"""The most of a line that is shown."""


class _BootClock:
    """CLOCK_BOOTTIME, for drivers that are constructed and never opened."""

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def check(path: Path, *, json: bool = False, language: str | None = None) -> int:
    """Judge a file and print the verdict. Gives the exit code."""
    words = Words(language or language_of(path, os.environ))
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        settings = read(path, _BootClock(), Path(directory) if directory else None)
    except ConfigFaults as error:
        _print(_faults_json(error, words) if json else _faults_text(error, words))
        return EX_CONFIG
    _print(json_text.dumps({"ok": True, **_summary(settings)}) if json else _sound(settings, words))
    return 0


def language_of(path: Path, environment: Mapping[str, str]) -> str:
    """Find the language to speak of a file, even of one that cannot be read."""
    try:
        with path.open("rb") as stream:
            written = _LANGUAGE_LINE.search(stream.read(65_536))
    except OSError:
        written = None
    if written is not None:
        return written[1].decode()
    spoken = (environment.get(name, "")[:2] for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((code for code in spoken if code in LANGUAGES), "vi")


def _print(text: str) -> None:
    """Print text to whatever terminal there is; what its encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _summary(settings: Settings) -> dict[str, object]:
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


def _sound(settings: Settings, words: Words) -> str:
    return words.say("config.sound", {"file": settings.loaded.path, **_summary(settings)})


def _faults_text(error: ConfigFaults, words: Words) -> str:
    lines = _Lines()
    shown = [block for fault in error.faults for block in (*_fault_lines(fault, words, lines), "")]
    return "\n".join([*shown, words.say("config.fault-count", {"count": len(error.faults)})])


def _fault_lines(fault: Fault, words: Words, lines: "_Lines") -> list[str]:
    block = [f"{fault.file}:{fault.line}:{fault.col}: {words.say(fault.code, fault.fields)}"]
    source = lines.line(fault.file, fault.line)
    if source.strip():
        block += [f"    {source[:_SHOWN]}", f"    {_space_under(source[: fault.col - 1])}^"][
            : 1 + (fault.col <= _SHOWN)
        ]
    hint = words.hint(fault.code, fault.fields)
    return [_printable(line) for line in (block if hint is None else [*block, f"    → {hint}"])]


def _printable(line: str) -> str:
    """Keep what a file contains from steering the terminal."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}" for character in line
    )


def _space_under(text: str) -> str:
    """Give spaces as wide as a text is on the screen, so that a caret stands under the right place."""
    return "".join("\t" if character == "\t" else " " * _width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _faults_json(error: ConfigFaults, words: Words) -> str:
    return json_text.dumps(
        {"ok": False, "faults": [_fault_json(fault, words) for fault in error.faults]}, ensure_ascii=False
    )


def _fault_json(fault: Fault, words: Words) -> dict[str, object]:
    return {
        "code": fault.code,
        "file": str(fault.file),
        "line": fault.line,
        "col": fault.col,
        "path": dotted(fault.path),
        "message": words.say(fault.code, fault.fields),
        "hint": words.hint(fault.code, fault.fields),
    }


class _Lines:
    """The lines of the files that faults stand in; a file that cannot be read has none."""

    def __init__(self) -> None:
        self._files: dict[Path, list[str]] = {}

    def line(self, file: Path, number: int) -> str:
        if file not in self._files:
            self._files[file] = _read_lines(file)
        lines = self._files[file]
        return lines[number - 1] if number <= len(lines) else ""


def _read_lines(file: Path) -> list[str]:
    try:
        return _LINE_END.split(file.read_bytes().decode("utf-8-sig", "replace"))
    except OSError:
        return []
