"""From the settings of an uplink to what it carries and where to.

What is always true here: a stream that the buffer does not know is left out; the file was warned about it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from agent.broker import Endpoint, split_url
from agent.carrier import Carriage
from agent.formats.teller import Encoding
from agent.log import Log
from agent.start import OLDEST, Start
from config.envelope import SIZE_LIMIT as PUSH_LIMIT
from config.model import Uplink

_NS_PER_S = 10**9
BESIDE_PUSH = 4096
"""What a packet may hold beside the envelope of a push: its head, topic and properties."""

_log = Log("uplink")


def carriage_of(
    name: str, root: str, encoding: Encoding, settings: Uplink, known: Sequence[str], timezone: str
) -> Carriage:
    """Say what an uplink carries and how. `known` are the streams of the buffer and of the devices."""
    return Carriage(
        name,
        root,
        tuple(stream for stream in settings.streams or known if stream in known),
        encoding,
        newest_first=settings.backlog == "newest-first",
        share_percent=settings.share,
        max_rate=settings.max_rate,
        unheard_counts=settings.no_subscriber == "accept",
        confirm_within_s=settings.confirm_within / _NS_PER_S if settings.confirm == "platform" else None,
        resend="resend" in settings.accept,
        start=_start(settings.start, timezone),
    )


def _start(written: str, timezone: str) -> Start:
    """Read `from`: a day begins at midnight where the gateway stands."""
    if written == "oldest":
        return OLDEST
    if written == "now":
        return Start(now=True)
    from zoneinfo import ZoneInfo  # noqa: PLC0415  few files name a day

    day = dt.datetime.combine(dt.date.fromisoformat(written), dt.time(), ZoneInfo(timezone))
    return Start(wall_ns=int(day.timestamp()) * _NS_PER_S)


def endpoints_of(client_id: str, settings: Uplink) -> tuple[Endpoint, ...]:
    """Give the addresses of an uplink in order."""
    if settings.mqtt != "5":
        _log.warning("mqtt-311", client=client_id, effect="a refused publish cannot be told from an accepted one")
    return tuple(_endpoint(url, client_id, settings) for url in settings.url)


def _endpoint(url: str, client_id: str, settings: Uplink) -> Endpoint:
    _, host, port = split_url(url)
    protocol = 5 if settings.mqtt == "5" else 4
    max_packet = PUSH_LIMIT + BESIDE_PUSH if "config" in settings.accept else None
    endpoint = Endpoint(host, port, client_id, protocol=protocol, window=settings.window, max_packet=max_packet)
    if settings.tls is None:
        return endpoint
    return replace(endpoint, ca=settings.tls.ca, cert=settings.tls.cert, key=settings.tls.key)
