"""JSON Web Signatures, compact (RFC 7515), with EdDSA (RFC 8037).

What is always true here:

- The protected header is `{"alg":"EdDSA","typ":...,"cty":...,"kid":...}`; `kid` is the device key's COSE thumbprint in
  hexadecimal, the one that `trambien key show` gives and the blocks carry. The type keeps one kind of signed thing from
  being taken for another.
- What is signed may be compressed; `cty` says so, under the signature, so a receiver verifies before it decompresses.

Pure. The format `json` enters.
"""

import gzip
from base64 import urlsafe_b64encode
from collections.abc import Callable

from agent.formats.numbers import dumps
from buffer.block import CODEC_ZSTD, compress
from buffer.keys import Signer

GZIP_LEVEL = 6


def _zstd(raw: bytes) -> tuple[str, bytes]:
    codec, packed = compress(raw)
    return ("json+zstd", packed) if codec == CODEC_ZSTD else ("json", raw)


def _gzip(raw: bytes) -> tuple[str, bytes]:
    packed = gzip.compress(raw, GZIP_LEVEL, mtime=0)
    return ("json+gzip", packed) if len(packed) < len(raw) else ("json", raw)


PACKERS: dict[str, Callable[[bytes], tuple[str, bytes]]] = {
    "none": lambda raw: ("json", raw),
    "zstd": _zstd,
    "gzip": _gzip,
}
"""By the setting `compress`: content type and packed bytes; what does not shrink stays as it is."""


def sign(content: bytes, content_type: str, kind: str, signer: Signer) -> bytes:
    """Give the compact serialisation (RFC 7515, section 7.1)."""
    header = {"alg": "EdDSA", "typ": kind, "cty": content_type, "kid": signer.kid.hex()}
    signed = _base64url(dumps(header).encode()) + b"." + _base64url(content)
    return signed + b"." + _base64url(signer.sign(signed))


def _base64url(data: bytes) -> bytes:
    """Encode as RFC 7515, section 2, wants: without padding."""
    return urlsafe_b64encode(data).rstrip(b"=")
