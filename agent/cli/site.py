"""The configuration as the tools need it: what stands in the file, or a clear end."""

import os
import sys
from pathlib import Path

import typer

from agent import faults
from agent.errors import Exit
from agent.settings import settings_for
from agent.words import Words
from config.errors import ConfigFaults
from config.load import Loaded, load
from drivers import registry


def load_site(path: Path) -> Loaded:
    """Read a file, or say what is wrong with it and end with 78. No driver is constructed."""
    try:
        return load(path, settings_for, registry.names())
    except ConfigFaults as found:
        words = Words(faults.language_of(path, os.environ))
        print(faults.text(found, words), file=sys.stderr)
        raise typer.Exit(Exit.CONFIG) from None


def language_of(site: Loaded) -> str:
    """Give the language that the file asks for."""
    return site.config.gateway.language
