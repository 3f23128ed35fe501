"""When certificates end. The only file that reads X.509, and the service does not load it: it asks aside.

What is always true here: files are read as they are now, whatever is in them; what is no certificate has no end.
"""

import datetime as dt
from pathlib import Path

from cryptography import x509

_LONGEST = 1_000_000
_PEM = b"-----BEGIN CERTIFICATE-----"


def ends_of(file: Path) -> dt.datetime | None:
    """Give the day on which the first certificate of a file to end does; None where it holds none."""
    try:
        if not file.is_absolute() or not file.is_file() or file.stat().st_size > _LONGEST:
            return None
        data = file.read_bytes()
        found = x509.load_pem_x509_certificates(data) if _PEM in data else [x509.load_der_x509_certificate(data)]
    except (OSError, ValueError):
        return None
    return min(one.not_valid_after_utc for one in found)


def expires_ns(cert: str) -> int | None:
    """Give the same in nanoseconds since 1970."""
    ends = ends_of(Path(cert))
    return None if ends is None else int(ends.timestamp()) * 10**9
