"""The configuration as the tools need it: the language, the gateway, the buffer; or a clear end.

What is always true here: nothing else of the file is judged. Who asks the running service need not be able to read its
secrets and certificates, and a fault written since the start does not hide the state.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from agent import faults
from agent.errors import Exit
from agent.words import Words
from config.errors import ConfigFaults
from config.model import Buffer
from config.raw import read_bytes
from config.source import parse


@dataclass(frozen=True, slots=True)
class Site:
    """What a tool needs to find the station's files and to speak to its technician."""

    gateway: str
    words: Words
    buffer: Path


def load_site(path: Path) -> Site:
    """Read a file, or say why it cannot be read and end with 78."""
    language = faults.language_of(path, os.environ)
    try:
        document = _sound(path)
    except ConfigFaults as found:
        print(faults.text(found, Words(language)), file=sys.stderr)
        raise typer.Exit(Exit.CONFIG) from None
    written = _text(document, "buffer", "path") or Buffer().path
    return Site(_text(document, "gateway", "id"), Words(language), path.parent / written)


def _sound(path: Path) -> Any:
    document = parse(read_bytes(path), path)
    if () in document.broken:
        raise ConfigFaults(document.faults)
    return document.value


def _text(value: Any, *keys: str) -> str:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""
