"""`trambien schema`: JSON Schema of the technician's file, so that an editor completes keys and explains them.

What is always true here: it knows the drivers that are installed and can be loaded, and the profiles that are shipped.
"""

import json
from pathlib import Path
from typing import Any

from config import profile
from config.model import Link
from config.schema import schema
from drivers import registry


def command() -> None:
    """Print the JSON Schema of the configuration file."""
    print(json.dumps(document(), ensure_ascii=False, indent=1))


def document() -> dict[str, Any]:
    """Give the schema for what is installed."""
    links: dict[str, type[Link[Any]]] = {}
    for name in registry.names():
        try:
            links[name] = registry.driver_class(name).Settings
        except registry.DriverBroken:  # `check` says so where it is named
            continue
    return schema(links, profile.names(Path()))
