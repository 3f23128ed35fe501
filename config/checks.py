"""What no single key can tell: names that must agree, files that must fit, addresses that must make sense.

What is always true here: a check is asked only about parts that are well-formed, adds faults and changes nothing.
TLS files are read as the TLS library itself will read them.

`config.load` enters.
"""

import ssl
import zoneinfo
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from config.errors import Fault, KeyPath, fault_at
from config.files import file_code
from config.model import OWN_DEVICE, Config, Device, Link, Tls, Uplink
from config.places import Places, Spotter

Links = Mapping[str, Link[Any]]


def gateway_faults(config: Config, places: Places) -> Iterator[Fault]:
    """Judge the time zone."""
    zone = config.gateway.timezone
    path: KeyPath = ("gateway", "timezone")
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield fault_at(places.place(path), "config.unknown-timezone", path)


def device_faults(links: Links, places: Places) -> Iterator[Fault]:
    """Judge devices together: a name stands for one device in the whole station, and each measures something."""
    first: dict[str, str] = {}
    for link, model in links.items():
        if link == OWN_DEVICE:
            yield fault_at(places.key_place(("links", link)), "config.own-name", ("links", link), name=link)
        for name, device in model.devices.items():
            path = ("links", link, "devices", name)
            if name == OWN_DEVICE:
                yield fault_at(places.key_place(path), "config.own-name", path, name=name)
            if name in first:
                place = places.key_place(("links", first[name], "devices", name))
                words = {"name": name, "other": first[name], "first": f"{place.file}:{place.line}"}
                yield fault_at(places.key_place(path), "config.duplicate-device", path, **words)
            first.setdefault(name, link)
            yield from _measures(device, path, places)


def _measures(device: Device[Any], path: KeyPath, places: Places) -> Iterator[Fault]:
    if not device.points and path not in places.incomplete:
        yield fault_at(places.key_place(path), "config.no-points", path, name=path[-1])


def stream_warnings(uplinks: Mapping[str, Uplink], links: Links, places: Spotter) -> Iterator[Fault]:
    """Find what an uplink carries and no device gives: the buffer may still hold such a stream."""
    known = sorted({device.stream for model in links.values() for device in model.devices.values()})
    for name, uplink in uplinks.items():
        for index, stream in enumerate(uplink.streams or ()):
            if stream not in known:
                path = ("uplinks", name, "streams", index)
                words = {"name": stream, "known": ", ".join(known)}
                yield fault_at(places.spot(path), "config.unknown-stream", path, **words)


def uplink_faults(uplinks: Mapping[str, Uplink], places: Places) -> Iterator[Fault]:
    """Judge each uplink's address and certificates. Paths in `tls` are absolute by now."""
    for name, uplink in uplinks.items():
        path: KeyPath = ("uplinks", name)
        yield from _url_faults(uplink, path, places)
        yield from _format_faults(uplink, path, places)
        if uplink.tls is not None:
            yield from _tls_faults(uplink.tls, (*path, "tls"), places)


def _url_faults(uplink: Uplink, path: KeyPath, places: Places) -> Iterator[Fault]:
    several = len(uplink.url) > 1
    for index, written in enumerate(uplink.url):
        at: KeyPath = ("url", index) if several else ("url",)
        yield from _address_faults(uplink, written, path, (*path, *at), places)


def _address_faults(uplink: Uplink, written: str, path: KeyPath, at: KeyPath, places: Places) -> Iterator[Fault]:
    place = places.place(at)
    try:
        url = urlsplit(written)
        complete = bool(url.hostname) and url.port is not None
    except ValueError:
        yield fault_at(place, "config.bad-url", at)
        return
    if url.scheme not in ("mqtt", "mqtts"):
        yield fault_at(place, "config.bad-url-scheme", at, scheme=url.scheme)
    elif not complete or url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
        yield fault_at(place, "config.bad-url", at)
    elif url.scheme == "mqtts" and uplink.tls is None:
        yield fault_at(places.key_place(path), "config.url-needs-ca", path)
    elif url.scheme == "mqtt" and uplink.tls is not None:
        yield fault_at(place, "config.tls-unused", at)


_FORMATS_OF = {
    "points": ("json", "thingsboard", "template"),
    "compress": ("json",),
    "chunk": ("thingsboard",),
    "template": ("template",),
}
"""The keys of an uplink that mean something in some formats only."""


def _format_faults(uplink: Uplink, path: KeyPath, places: Places) -> Iterator[Fault]:
    """Judge that the keys that stand there mean something in the uplink's format, and that none is missing."""
    for key, formats in _FORMATS_OF.items():
        if getattr(uplink, key) is not None and uplink.format not in formats:
            words = {"key": key, "format": uplink.format, "formats": ", ".join(formats)}
            yield fault_at(places.key_place((*path, key)), "config.not-in-this-format", (*path, key), **words)
    if uplink.format == "template" and uplink.template is None:
        yield fault_at(places.place((*path, "format")), "config.template-missing", (*path, "format"))


def _tls_faults(tls: Tls, path: KeyPath, places: Places) -> Iterator[Fault]:
    if (tls.cert is None) != (tls.key is None):
        missing, present = ("key", "cert") if tls.key is None else ("cert", "key")
        yield fault_at(places.key_place((*path, present)), "config.tls-half", path, missing=missing, present=present)
    unreadable = {key: code for key in ("ca", "cert", "key") if (code := file_code(getattr(tls, key)))}
    for key, code in unreadable.items():
        yield fault_at(places.place((*path, key)), code, (*path, key), file=getattr(tls, key))
    if "ca" not in unreadable and not _is_ca(tls.ca):
        yield fault_at(places.place((*path, "ca")), "config.tls-not-pem", (*path, "ca"), file=tls.ca)
    if tls.cert and tls.key and not {"cert", "key"} & unreadable.keys():
        yield from _pair_faults(tls.cert, tls.key, path, places)


def _is_ca(name: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=name)
    except (ssl.SSLError, OSError):
        return False
    return True


def _pair_faults(cert: str, key: str, path: KeyPath, places: Places) -> Iterator[Fault]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield fault_at(places.place((*path, "key")), "config.tls-key-mismatch", (*path, "key"), cert=cert)
            return
        which, file = ("key", key) if _is_ca(cert) else ("cert", cert)
        yield fault_at(places.place((*path, which)), "config.tls-not-pem", (*path, which), file=file)
