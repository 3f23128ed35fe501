"""The device key: made on first start, kept in one file that nobody else can read, or given by systemd.

What is always true here:

- Ed25519, in a PEM file (PKCS #8) of mode 0600 owned by whoever runs the agent; the public key stands beside it as
  `NAME.pub`. A key file that others may read or that belongs to another is refused, untouched: a person must decide.
- A systemd credential is read and never changed; systemd keeps others from it (systemd.exec(5), LoadCredential).
- A file is written as temporary, fsync, rename, fsync of the directory: never half a key.
- A damaged key is set aside as `NAME.old-N`, never deleted, and replaced; the caller is told, because the platform must
  enrol the new one. The public key of a key that is gone is kept as `NAME.old-N.pub`: what it signed stays provable.
- Key material is in no repr, no error and no log.

`buffer.custody` enters, which adds rotation; what needs only a public key enters too.
"""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, NoReturn, Protocol

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
from buffer.errors import BufferUnreadable, CredentialRefused, KeyRefused

Fate = Literal["created", "loaded", "replaced"]
"""What became of the key at start."""

_OTHERS = 0o077
_WORLD = 0o007
"""systemd hands a credential over by owner or by an access list, which shows as the group's permissions."""


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

    def certificate_request(self, common_name: str) -> bytes:
        """Give a PKCS #10 request (RFC 2986, RFC 8410) as PEM: who has this key asks to be certified by this name."""
        from cryptography import x509  # noqa: PLC0415 - the service never needs it

        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        return builder.sign(self._private, None).public_bytes(Encoding.PEM)

    def __repr__(self) -> str:
        """Show which key it is, and nothing of it."""
        return f"DeviceKey({self.kid.hex()[:16]})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: what is written elsewhere is not kept here."""
        raise TypeError("a device key is not copied")


def key_path(buffer: Path) -> Path:
    """Give the device key that belongs to a buffer: a sibling, so that both are kept or lost together."""
    return buffer.parent / "device.key"  # what a person names may be a folder without a name, like `.`


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
        return with_public(new_key(path), path), "created"
    key = load(path)
    if key is not None:
        return with_public(key, path), "loaded"
    set_aside(path)
    return with_public(new_key(path), path), "replaced"


def load(path: Path) -> DeviceKey | None:
    """Load a key; None where there is none, or a damaged one. Raises KeyRefused, OSError."""
    if not path.exists():
        return None
    _check_mode(path)
    return _parse(path.read_bytes())


def load_credential(path: Path) -> DeviceKey:
    """Load a key that systemd gives. Raises CredentialRefused where others may read it, or it is none."""
    found = path.stat()
    if found.st_mode & _WORLD or found.st_uid not in (0, os.geteuid()):
        raise CredentialRefused(path=str(path), reason=f"{found.st_mode & 0o7777:04o}")
    key = _parse(path.read_bytes())
    if key is None:
        raise CredentialRefused(path=str(path), reason="not an Ed25519 key")
    return key


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
    found = [public for public in (public_path(path), *earlier) if public.exists()]
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


def new_key(path: Path) -> DeviceKey:
    """Make a key and write it, durable. Raises OSError."""
    private = Ed25519PrivateKey.generate()
    replace_file(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return DeviceKey(private)


def with_public(key: DeviceKey, path: Path) -> DeviceKey:
    """Have the public half of a key beside it; that of another key is set aside. Raises OSError."""
    public = public_path(path)
    pem = public_pem(key.public_key)
    if public.exists() and public.read_bytes() != pem:
        public.rename(public_path(_aside(path)))
    if not public.exists():
        replace_file(public, pem, 0o644)
    return key


def set_aside(path: Path) -> None:
    """Keep a key that is not used any more under another name. Raises OSError."""
    path.rename(_aside(path))


def public_path(path: Path) -> Path:
    """Give where the public half of a key stands."""
    return path.with_name(f"{path.name}.pub")


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, durable: temporary, fsync, rename, fsync of the directory. Raises OSError."""
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    take_place(temporary, path)


def take_place(successor: Path, path: Path) -> None:
    """Let one file take the name of another, durable. Raises OSError."""
    successor.rename(path)
    _sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file, durable. Raises OSError."""
    if path.exists():
        path.unlink()
        _sync_directory(path.parent)


def clear_temporary(*paths: Path) -> None:
    """Remove what a kill left of keys that were being written. Raises OSError."""
    for path in paths:
        remove(_temporary(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _aside(path: Path) -> Path:
    """Give the first free name to set a key or its public half aside under."""
    names = (path.with_name(f"{path.name}.old-{number}") for number in count(1))
    return next(name for name in names if not name.exists() and not public_path(name).exists())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
