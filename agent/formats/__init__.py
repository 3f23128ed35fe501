"""What an uplink makes of a block: one file a payload format; `agent/formats/api.py` is the page for their authors.

What is always true here: a format is imported when a configuration names it and not before, like a driver.
"""

from importlib import import_module

from agent.formats.api import Format, Placer, Station
from agent.formats.opening import Points
from agent.formats.teller import Encoding, Reencoded, Signed
from config.model import Uplink

BLOCK = "block"

FORMATS: dict[str, str] = {
    "json": "agent.formats.signed_json",
    "thingsboard": "agent.formats.thingsboard",
    "template": "agent.formats.template",
}
"""Where each format's `make(station, uplink)` is. `block` is none of them: it is what the others are made from."""


def make(station: Station, uplink: Uplink) -> Format | None:
    """Make the format that an uplink names, None for `block`. Raises FormatMisconfigured."""
    if uplink.format == BLOCK:
        return None
    made: Format = import_module(FORMATS[uplink.format]).make(station, uplink)
    return made


def encoding(station: Station, uplink: Uplink, placer: Placer) -> Encoding:
    """Give an uplink's way of telling blocks. Raises FormatMisconfigured."""
    made = make(station, uplink)
    if made is None:
        return Signed(station.root)
    return Reencoded(made, Points(uplink.points), placer)
