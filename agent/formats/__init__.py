"""What an uplink makes of a block: one file a payload format; `agent/formats/api.py` is the page for their authors.

What is always true here: a format is imported when a configuration names it and not before, like a driver.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

from agent.formats.api import Format, FormatMisconfigured, Placer, Station
from agent.formats.opening import EVERY, Points, cut_layout
from agent.formats.teller import Encoding, Reencoded, Signed
from buffer.frame import Layout
from buffer.keys import Signer
from config.model import Config, Uplink

BLOCK = "block"

FORMATS: dict[str, str] = {
    "json": "agent.formats.signed_json",
    "thingsboard": "agent.formats.thingsboard",
    "template": "agent.formats.template",
}
"""Where each format's `make(station, uplink)` is. `block` is none of them: it is what the others are made from."""


def station(config: Config, uplink: Uplink, signer: Callable[[], Signer] | None) -> Station:
    """Give what a format of an uplink may know of the house; without a signer where a file is only checked."""
    gateway = config.gateway
    profiles = {device: facts.profile for link in config.links.values() for device, facts in link.devices.items()}
    return Station(gateway.id, f"{uplink.prefix}/{gateway.id}", gateway.timezone, signer, profiles)


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


def judge(station: Station, uplink: Uplink, layouts: Sequence[tuple[str, Layout]]) -> Iterator[FormatMisconfigured]:
    """Find what is wrong with an uplink's format, given the streams it carries and the layouts in them."""
    known = {f"{layout.device}/{column.name}" for _, layout in layouts for column in layout.columns}
    wide = {f"{layout.device}/{EVERY}" for _, layout in layouts}
    for index, point in enumerate(uplink.points or ()):
        if point not in known | wide:
            yield FormatMisconfigured("format.unknown-point", ("points", index), point=point, known=_some(known))
    try:
        made = make(station, uplink)
        for stream, layout in layouts if made is not None else ():
            cut = cut_layout(layout, Points(uplink.points))
            if made is not None and cut.columns:
                made.try_on(cut, stream)
    except FormatMisconfigured as error:
        yield error


def _some(known: set[str]) -> str:
    """List what there is, as far as a person reads."""
    listed = sorted(known)
    return ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")


_LISTED = 12
