"""The device key: made on first start, kept in one file that nobody else can read.

What is always true here:

- Ed25519, in a PEM file (PKCS #8) of mode 0600 owned by whoever runs the agent; the public key stands beside it as
  `NAME.pub`. A key file that others may read or that belongs to another is refused, untouched: a person must decide.
- A file is written as temporary, fsync, rename, fsync of the directory: never half a key.
- A damaged key is set aside as `NAME.old-N`, never deleted, and replaced; the caller is told, because the platform must
  enrol the new one. The public key of a key that is gone is kept as `NAME.old-N.pub`: what it signed stays provable.
- Key material is in no repr, no error and no log.

The agent enters, once at start.
"""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from buffer.cose import thumbprint
from buffer.errors import BufferUnreadable, KeyRefused

Fate = Literal["created", "loaded", "replaced"]
"""What became of the key at start."""

_OTHERS = 0o077


class Signer(Protocol):
    """Whoever signs for the device. It may live in a file or in a secure element; no one sees the key itself."""

    @property
    def kid(self) -> bytes:
        """The COSE thumbprint of the public key, 32 bytes."""
        ...

    @property
    def public_key(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Give the 64 bytes of the signature."""
        ...


class DeviceKey:
    """A signer whose key is in this process."""

    __slots__ = ("_private", "kid", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = thumbprint(self.public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> "DeviceKey":
        """Make the key of a 32-byte seed (RFC 8032, section 5.1.5)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, data: bytes) -> bytes:
        """Give the signature."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        """Show which key it is, and nothing of it."""
        return f"DeviceKey({self.kid.hex()[:16]})"


def load_or_create(path: Path) -> tuple[DeviceKey, Fate]:
    """Load the device key, or make one where there is none or a damaged one.

    Raises KeyRefused where its owner or permissions are wrong, BufferUnreadable where the folder cannot be used.
    """
    try:
        return _load_or_create(path)
    except OSError as error:
        raise BufferUnreadable(path=str(path), reason=error.strerror) from error


def _load_or_create(path: Path) -> tuple[DeviceKey, Fate]:
    if not path.exists():
        return _create(path), "created"
    _check_mode(path)
    key = _parse(path.read_bytes())
    if key is not None:
        return _with_public(key, path), "loaded"
    path.rename(_aside(path))
    return _create(path), "replaced"


def load_public(path: Path) -> bytes:
    """Read a raw public key from a PEM file. Raises BufferUnreadable."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise BufferUnreadable(path=str(path), reason=str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise BufferUnreadable(path=str(path), reason="not an Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def known_public(path: Path) -> tuple[bytes, ...]:
    """Read every public key this device has had: the present one first, then those set aside."""
    earlier = sorted(path.parent.glob(f"{path.name}.old-*.pub"))
    found = [public for public in (_public_path(path), *earlier) if public.exists()]
    return tuple(key for key in map(_readable, found) if key is not None)


def _readable(path: Path) -> bytes | None:
    """Read a public key; one that is damaged is not a key, and must not stop the start."""
    with suppress(BufferUnreadable):
        return load_public(path)
    return None


def public_pem(public_key: bytes) -> bytes:
    """Give a raw public key as PEM."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _check_mode(path: Path) -> None:
    found = path.stat()
    if found.st_mode & _OTHERS or found.st_uid != os.geteuid():
        raise KeyRefused(path=str(path), mode=f"{found.st_mode & 0o7777:04o}", owner=found.st_uid)


def _parse(pem: bytes) -> DeviceKey | None:
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_private_key(pem, password=None)
        if isinstance(key, Ed25519PrivateKey):
            return DeviceKey(key)
    return None


def _create(path: Path) -> DeviceKey:
    private = Ed25519PrivateKey.generate()
    _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return _with_public(DeviceKey(private), path)


def _with_public(key: DeviceKey, path: Path) -> DeviceKey:
    public = _public_path(path)
    pem = public_pem(key.public_key)
    if public.exists() and public.read_bytes() != pem:
        public.rename(_public_path(_aside(path)))
    if not public.exists():
        _write(public, pem, 0o644)
    return key


def _aside(path: Path) -> Path:
    """Give the first free name to set a key or its public half aside under."""
    names = (path.with_name(f"{path.name}.old-{number}") for number in count(1))
    return next(name for name in names if not name.exists() and not _public_path(name).exists())


def _public_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _write(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
