"""What can go wrong in the buffer, named by what must happen next.

| error | what must happen next |
|---|---|
| `StoreFull` | the caller makes room (payloads go before headers), or seals into memory until there is some |
| `CommitFailed` | the caller closes the store and opens it again, which begins a new epoch |
| `ChainBroken` | the file is set aside, never deleted, and a new epoch names the break |
| `BufferLocked` | another process owns the file: this one ends |
| `BufferNewer` | a newer version wrote the file: refuse, do not touch it |
| `BufferUnreadable` | the medium cannot be read now: wait for it, do not touch it |
| `BufferCorrupt` | SQLite cannot make sense of the file: ask again; if it stands, set aside and salvage |
| `BufferForeign` | another program's database: refuse, do not touch it |
| `KeyRefused` | a person mends the key's owner or permissions: refuse to start |
| `CredentialRefused` | a person mends the credential: refuse to start |
| `KeyFixed` | the key is changed where it comes from, not here |
| `EnrolFirst` | a person tells the platform the present key; then it may be rotated again |
| `BlockInvalid` | the block is set aside and named; every other one goes on |

Every error has a `code` (a key into config/locale, domain `buffer`) and `fields` for its words. No words stand here.
Anyone may enter.
"""

from typing import ClassVar


class BufferFault(Exception):
    """What this package may raise. `fields` are the words that the message of `code` needs."""

    code: ClassVar[str]

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        super().__init__(self.code, fields)

    def __str__(self) -> str:
        """Give the code and its fields, for the log of a developer; a person reads the words of config/locale."""
        return " ".join((self.code, *(f"{name}={value}" for name, value in self.fields.items())))


class CommitFailed(BufferFault):
    """A commit failed, so nothing of it may be sent. Fields: path, reason."""

    code = "buffer.commit-failed"


class StoreFull(CommitFailed):
    """The disk, or the space the buffer may take, is full. Fields: path, reason."""

    code = "buffer.full"


class ChainBroken(BufferFault):
    """The head of a stream cannot be proven. Fields: path, stream, position, reason."""

    code = "buffer.chain-broken"


class BufferLocked(BufferFault):
    """Another process holds the buffer. Fields: path."""

    code = "buffer.locked"


class BufferNewer(BufferFault):
    """A newer version wrote this buffer. Fields: path, found, known (schema numbers)."""

    code = "buffer.newer-schema"


class BufferUnreadable(BufferFault):
    """The file is not a buffer, or cannot be read. Fields: path, reason."""

    code = "buffer.unreadable"


class BufferCorrupt(BufferUnreadable):
    """The content of the file is not what SQLite can read. Fields: path, reason."""

    code = "buffer.corrupt"


class BufferForeign(BufferUnreadable):
    """The file is another program's. Fields: path, reason."""

    code = "buffer.foreign"


class KeyRefused(BufferFault):
    """The key file has an owner or permissions that let others read it. Fields: path, mode, owner."""

    code = "buffer.key-refused"


class CredentialRefused(BufferFault):
    """The key that systemd gives cannot be used. Fields: path, reason (its permissions, or what it is)."""

    code = "buffer.credential-refused"


class KeyFixed(BufferFault):
    """The key cannot be rotated here: it is a systemd credential. Fields: path."""

    code = "buffer.key-fixed"


class EnrolFirst(BufferFault):
    """So many rotations were made since the platform was told a key. Fields: most."""

    code = "buffer.enrol-first"


class BlockInvalid(BufferFault):
    """Bytes that are not a block of a key we trust. Fields: reason, one of a fixed set of words."""

    code = "buffer.block-invalid"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason=reason)
