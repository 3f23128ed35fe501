"""TLS towards a broker: contexts from files, and what its failures mean to a person.

What is always true here:

- TLS 1.2 at least; the server's certificate must come from our authority and carry the name we asked for.
- Files are read anew for every connection, so that a renewed certificate counts from the next one on.
- Every way in which trust fails has a code of its own: expired, not yet valid, another name, another authority, an old
  version of TLS, no TLS at all, and our own certificate turned away.

`agent.broker` enters; `agent.uplink` and its lookout ask for `fingerprint`.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from agent.errors import BrokerDown, BrokerRefused

# Codes of X509_verify_cert(3), as `ssl.SSLCertVerificationError.verify_code` gives them.
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 64)
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21, 24)

_OLD_VERSION = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW", "LEGACY_")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE")
_TURNED_AWAY = (
    "CERTIFICATE_REQUIRED",
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE",
    "ALERT_ACCESS_DENIED",
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_DECRYPT_ERROR",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)
"""Alerts by which a server turns a client's certificate away (RFC 8446, 6.2)."""
_IN_LOG = re.compile(r"\[SSL: (\w+)\]")

Fingerprint = tuple[tuple[int, int, int], ...]


def context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Make the context of one connection. Raises BrokerRefused where the files cannot be used."""
    try:
        made = ssl.create_default_context(cafile=ca)
        if cert is not None:
            made.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise BrokerRefused("agent.tls-files", ca=ca, cert=cert, reason=str(error)) from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def fingerprint(files: tuple[str | None, ...]) -> Fingerprint:
    """Tell one state of the files from another: inode, time of change and size of each. A missing one is zeros."""
    return tuple(_mark(Path(file)) for file in files if file is not None)


def _mark(file: Path) -> tuple[int, int, int]:
    try:
        facts = file.stat()
    except OSError:
        return (0, 0, 0)
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size)


def fault(error: ssl.SSLError, address: str, name: str) -> BrokerDown | BrokerRefused:
    """Name what went wrong in a handshake with `address`, of which the name `name` was expected."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokerRefused(_verification(error.verify_code), address=address, name=name, reason=error.verify_message)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return BrokerDown("agent.tls-cut", address=address)
    return by_reason(error.reason or str(error), address)


def _verification(code: int) -> str:
    if code in _WRONG_NAME:
        return "agent.tls-wrong-name"
    if code in _UNKNOWN_AUTHORITY:
        return "agent.tls-unknown-authority"
    return {_EXPIRED: "agent.tls-expired", _NOT_YET_VALID: "agent.tls-not-yet-valid"}.get(code, "agent.tls-refused")


_BY_REASON: Mapping[str, tuple[str, ...]] = {
    "agent.tls-old-version": _OLD_VERSION,
    "agent.not-tls": _NO_TLS,
    "agent.certificate-refused": _TURNED_AWAY,
}


def by_reason(reason: str, address: str) -> BrokerRefused:
    """Name a failure by OpenSSL's reason."""
    for code, marks in _BY_REASON.items():
        if any(mark in reason for mark in marks):
            return BrokerRefused(code, address=address, reason=reason)
    return BrokerRefused("agent.tls-refused", address=address, reason=reason)


def alert_in(text: str, address: str) -> BrokerRefused | None:
    """Find in the MQTT library's log the alert with which a server ends TLS 1.3 after the handshake, if it is one."""
    found = _IN_LOG.search(text)
    return by_reason(found[1], address) if found else None
