"""What software and what hardware this is, as the `start` event states it."""

import hashlib
from pathlib import Path

_HARDWARE = (Path("/sys/firmware/devicetree/base/serial-number"), Path("/etc/machine-id"))
"""The board's serial number (Raspberry Pi, most Arm gateways), else what systemd made at installation."""


def version() -> str:
    """Give the version of the installed distribution."""
    from importlib import metadata  # noqa: PLC0415  a megabyte, which the service has looked up aside

    try:
        return metadata.version("trambien")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def hardware_hash() -> bytes:
    """Give the SHA-256 of the hardware's id, so that a moved card shows and no serial number is published."""
    for path in _HARDWARE:
        try:
            return hashlib.sha256(b"trambien-hardware\0" + path.read_bytes().strip()).digest()
        except OSError:
            continue
    return b""
