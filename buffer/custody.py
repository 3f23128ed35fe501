"""The custody of the device key: where it comes from, what stands beside it, and how another one takes its place.

What is always true here:

- The key is `PATH`, or a systemd credential, which is read and never changed: it cannot be rotated here. The third way,
  a secure element, needs a `Signer` and nothing else of this file.
- Exactly one key is in force. A rotation writes the next key (`PATH.next`, 0600, fsynced), then the caller commits the
  statement to every stream, then `switch` notes the statement (`PATH.statements`) and renames: whichever step a kill
  falls into, at the next opening the chain says whether the commit is there, and `switch` or `undo` ends the rest.
- The old private key is gone with the rename. A key that a statement has retired is never used again: where a restored
  copy brings it back, it is set aside like a damaged one.
- `PATH.enrolled` names the key the platform knows: the first one, and then whichever `enrol` was called for. The
  device's key is enrolled while statements lead from that one to it; else an alarm stands. No mark is set when a key is
  lost, so none can be missed. A key made beside history is not the first one, though nothing else of it is left.
- Each change of these files is made under a lock of their folder: a second process meets them before or after it.
- What a platform needs to follow the rotations are the statements since the enrolled key: at most `MAX_STATEMENTS`, and
  a rotation beyond that is refused until the present key is enrolled.

The composition root enters, and the tools that show or change the key.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from buffer.cbor import dumps, expect, loads
from buffer.cose import thumbprint
from buffer.errors import BlockInvalid, BufferUnreadable, CredentialRefused, EnrolFirst, KeyFixed
from buffer.keys import (
    DeviceKey,
    Fate,
    clear_temporary,
    known_public,
    load,
    load_credential,
    load_or_create,
    load_public,
    new_key,
    public_path,
    remove,
    replace_file,
    set_aside,
    take_place,
    with_public,
)
from buffer.rotation import MAX_STATEMENTS, Encoded, Statement, read_statement, sign_statement


class Published(NamedTuple):
    """What anyone may know of a device's key: it stands beside it in files that may be read by all.

    `statements` are those since the enrolled key; None where none lead from it, and the platform must be told the key.
    """

    public_key: bytes
    statements: tuple[Encoded, ...] | None

    @property
    def enrolled(self) -> bool:
        """Say whether the platform can know this key."""
        return self.statements is not None


def published(path: Path) -> Published | None:
    """Read the public half of the key at `path` and what belongs to it; None where there is none."""
    with suppress(BufferUnreadable):
        public_key = load_public(public_path(path))
        return Published(public_key, _since_enrolled(public_key, _read_statements(path), _read_enrolled(path)))
    return None


def believed(path: Path) -> tuple[bytes, ...]:
    """Give every public key that this device has had or is about to have: its own blocks are theirs."""
    known = list(known_public(path))
    known += [key for _, statement in _read_statements(path) for key in (statement.new, statement.old)]
    with suppress(OSError):
        pending = load(_next(path))
        known += [] if pending is None else [pending.public_key]
    return tuple(dict.fromkeys(known))


def enrol(path: Path, public_key: bytes) -> None:
    """Note that the platform has been told a key. Raises BufferUnreadable."""
    with _alone(path):
        _enrol(path, public_key)


class Custody:
    """The device's key and its files, for the process that owns the buffer."""

    def __init__(
        self,
        path: Path,
        signer: DeviceKey,
        fate: Fate,
        pending: DeviceKey | None = None,
        *,
        fixed: bool = False,
        history: bool = False,
    ) -> None:
        self.path = path
        self.signer = signer
        self.fate: Fate = fate
        self._fixed = fixed
        self._pending = pending
        if not history and not _enrolled(path).exists() and known_public(path) == (signer.public_key,):
            _enrol(path, signer.public_key)  # the first key of a device is noted at commissioning

    @classmethod
    def open(cls, path: Path, credential: Path | None = None, *, history: bool = False) -> "Custody":
        """Load the key, or make one where there is none, or a damaged or retired one.

        `credential` is where systemd puts one; it is used where it is there. `history` says that there is a buffer
        already. Raises KeyRefused or CredentialRefused, and BufferUnreadable where the folder cannot be used.
        """
        with _alone(path):
            if credential is not None and credential.exists():
                return cls._open_credential(path, credential, history=history)
            return cls._open_file(path, history=history)

    @classmethod
    def _open_file(cls, path: Path, *, history: bool) -> "Custody":
        clear_temporary(path, _next(path))
        pending = load(_next(path))
        if pending is not None and _noted(path, pending):  # committed, and killed before the rename
            take_place(_next(path), path)
            pending = None
        retired = {statement.old_kid for _, statement in _read_statements(path)}
        present = load(path) if path.exists() else None
        known = _known(path)
        if present is not None and present.kid in retired:
            set_aside(path)
        key, fate = load_or_create(path)
        if known not in (None, key.public_key) and not _noted(path, key):
            fate = "replaced"
        if fate != "loaded" or pending is None:
            remove(_next(path))
            pending = None
        return cls(path, key, fate, pending, history=history)

    @classmethod
    def _open_credential(cls, path: Path, credential: Path, *, history: bool) -> "Custody":
        key, known = load_credential(credential), _known(path)
        if key.kid in {statement.old_kid for _, statement in _read_statements(path)}:
            raise CredentialRefused(path=str(credential), reason="retired")
        fate: Fate = "loaded" if known in (None, key.public_key) else "replaced"
        return cls(path, with_public(key, path), fate, fixed=True, history=history)

    @property
    def pending(self) -> bytes | None:
        """The thumbprint of a key that a rotation was about to bring in, and that is not settled yet."""
        return None if self._pending is None else self._pending.kid

    @property
    def statements(self) -> tuple[Encoded, ...]:
        """Those since the enrolled key, oldest first; none where the key is not enrolled."""
        return self._since() or ()

    @property
    def enrolled(self) -> bool:
        """Say whether the platform knows this key, or can follow the statements to it."""
        return self._since() is not None

    def enrol(self) -> None:
        """Note that the platform has been told the present key. Raises BufferUnreadable."""
        enrol(self.path, self.signer.public_key)

    def begin(self, gateway: str) -> Encoded:
        """Make the next key, durable, and give the statement to be committed; then `switch` or `undo`.

        Raises KeyFixed for a credential, EnrolFirst beyond the bound, BufferUnreadable where it cannot be written.
        """
        since = self._since()
        if self._fixed:
            raise KeyFixed(path=str(self.path))
        if since is not None and len(since) >= MAX_STATEMENTS:
            raise EnrolFirst(most=MAX_STATEMENTS)
        if _next(self.path).exists():
            raise BufferUnreadable(path=str(_next(self.path)), reason="an earlier rotation could not be ended")
        with _alone(self.path):
            self._pending = new_key(_next(self.path))
        return self._statement(gateway, self._pending)

    def switch(self, gateway: str) -> None:
        """Put the next key in force: its statement is committed. Each step may be the last of this process.

        Raises BufferUnreadable where a file cannot be written: the next key is in force all the same, and the next
        opening ends what is left to do.
        """
        pending, self._pending = self._pending, None
        assert pending is not None
        old = self.signer
        self.signer = pending
        with _alone(self.path):
            self._note(sign_statement(gateway, old, pending, self._counter(old)), pending)
            take_place(_next(self.path), self.path)
            with_public(pending, self.path)

    def undo(self) -> None:
        """Forget the next key: its statement was not committed. Raises BufferUnreadable."""
        self._pending = None
        with _alone(self.path):
            remove(_next(self.path))

    def _since(self) -> tuple[Encoded, ...] | None:
        return _since_enrolled(self.signer.public_key, _read_statements(self.path), _read_enrolled(self.path))

    def _statement(self, gateway: str, pending: DeviceKey) -> Encoded:
        return sign_statement(gateway, self.signer, pending, self._counter(self.signer))

    def _counter(self, old: DeviceKey) -> int:
        """Give the number of the rotation that follows the one which brought `old`."""
        before = [one.counter for _, one in _read_statements(self.path) if one.new == old.public_key]
        return 1 + max(before, default=0)

    def _note(self, encoded: Encoded, pending: DeviceKey) -> None:
        if not _noted(self.path, pending):
            kept = [known for known, _ in _read_statements(self.path)]
            replace_file(_statements(self.path), dumps([list(one) for one in (*kept, encoded)]), 0o644)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the files beside a key for a moment. Raises BufferUnreadable for an OSError."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:  # of any of the files beside it, or of the credential
        raise BufferUnreadable(path=str(error.filename or path), reason=error.strerror) from error


def _enrol(path: Path, public_key: bytes) -> None:
    replace_file(_enrolled(path), f"{thumbprint(public_key).hex()}\n".encode(), 0o644)


def _since_enrolled(
    public_key: bytes, statements: Iterable[tuple[Encoded, Statement]], enrolled: bytes | None
) -> tuple[Encoded, ...] | None:
    """Walk back from a key to the enrolled one; None where that cannot be done."""
    found: list[Encoded] = []
    at = public_key
    for encoded, statement in reversed(tuple(statements)):
        if thumbprint(at) == enrolled:
            break
        if statement.new == at:
            found.insert(0, encoded)
            at = statement.old
    return tuple(found) if thumbprint(at) == enrolled else None


def _read_statements(path: Path) -> tuple[tuple[Encoded, Statement], ...]:
    """Read what stands beside the key; what is damaged leads nowhere, and the alarm says so."""
    found: list[tuple[Encoded, Statement]] = []
    with suppress(OSError, BlockInvalid):
        for entry in expect(loads(_statements(path).read_bytes(), "statements"), list, "statements"):
            statement = read_statement(entry)
            found.append(((entry[0], entry[1]), statement))
    return tuple(found)


def _read_enrolled(path: Path) -> bytes | None:
    with suppress(OSError, ValueError):
        return bytes.fromhex(_enrolled(path).read_text("ascii"))
    return None


def _noted(path: Path, key: DeviceKey) -> bool:
    """Say whether the statement that brings a key is noted beside it: then it was committed."""
    return any(statement.new == key.public_key for _, statement in _read_statements(path))


def _known(path: Path) -> bytes | None:
    """Give the public key that the device had when it was last here."""
    with suppress(BufferUnreadable):
        return load_public(public_path(path))
    return None


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _statements(path: Path) -> Path:
    return path.with_name(f"{path.name}.statements")


def _enrolled(path: Path) -> Path:
    return path.with_name(f"{path.name}.enrolled")
