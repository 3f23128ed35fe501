"""How the faults of a configuration are shown: the technician's screen, in plain text or as JSON.

What is always true here:

- A fault is shown as `file:line:col: what`, the line it stands on with a caret under the place, and how to mend it.
- The language is the file's own, even of a file that cannot be read in full, else that of the environment.

`check`, `run` and every command that needs the configuration enter.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.words import Words, environment_language
from config.errors import ConfigFaults, Fault, dotted
from config.raw import SIZE_LIMIT, read_regular

_LANGUAGE_LINE = re.compile(rb"^[^#\n]*\blanguage:\s*[\"']?(vi|en)\b", re.MULTILINE)
_LINE_END = re.compile(r"\r\n|\n|\r")
"""What ends a line (YAML 1.2, section 5.4)."""
_SEARCHED = 65_536
_SHOWN = 160
"""The most of a line that is shown."""


def language_of(path: Path, environment: Mapping[str, str]) -> str:
    """Find the language to speak of a file, even of one that cannot be read."""
    try:
        written = _LANGUAGE_LINE.search(read_regular(path, _SEARCHED))
    except OSError:
        written = None
    if written is not None:
        return written[1].decode()
    return environment_language(environment)


def text(error: ConfigFaults, words: Words) -> str:
    """Show every fault."""
    return _blocks(error.faults, "config.fault-count", words)


def warning_text(warnings: Sequence[Fault], words: Words) -> str:
    """Show every warning."""
    return _blocks(warnings, "config.warning-count", words)


def _blocks(found: Sequence[Fault], count: str, words: Words) -> str:
    lines = _Lines()
    shown = [block for fault in found for block in (*_fault_lines(fault, words, lines), "")]
    return "\n".join([*shown, words.say(count, {"count": len(found)})])


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
    import unicodedata  # noqa: PLC0415  nearly a megabyte, for a file with faults only

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def document(error: ConfigFaults, words: Words) -> dict[str, Any]:
    """Render every fault as JSON."""
    return {"ok": False, "faults": list_of(error.faults, words)}


def list_of(found: Sequence[Fault], words: Words) -> list[dict[str, object]]:
    """Render faults or warnings as JSON."""
    return [_fault_json(fault, words) for fault in found]


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
        return _LINE_END.split(read_regular(file, SIZE_LIMIT).decode("utf-8-sig", "replace"))
    except OSError:
        return []
