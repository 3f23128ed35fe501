"""Whom this station obeys: the trust document, a JSON file beside the technician's file.

What is always true here:

- A `Trust` names Ed25519 keys only, each once, under one name; every role has at least as many keys as its threshold
  asks for, and all roles are there. A key that was retired does not come back.
- The file is kept and signed as the exact bytes it has; its digest is SHA-256 of them.

Pure. `config.trust_file` reads it, `config.push` judges with it, the agent replaces the file. `config/PUSH.md`
describes it for strangers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from config.model import Name
from config.shape import Between, Length, Pattern, Strict

FILE_NAME = "trust.json"
"""Beside the configuration."""
SIZE_LIMIT = 65_536
NUMBER_LIMIT = 2**53 - 1
"""The largest version and epoch: the largest integer that every JSON reader keeps (RFC 8259, section 6)."""

CRITICAL = ("gateway.id", "uplinks", "buffer.path", "links.*.devices.*.profile", "links.*.devices.*.points.*.writable")
"""What is critical unless the document says otherwise. A profile may bring points that can be written."""

Number = Annotated[int, Between(1, NUMBER_LIMIT)]
Hex = Annotated[str, Pattern(r"^[0-9a-f]{64}$")]


class TrustInvalid(Exception):
    """The bytes are no trust document. `detail` says why, for the log."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Strict):
    """A public key: Ed25519, 32 bytes in hexadecimal."""

    type: Literal["Ed25519"]
    public: Hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Strict):
    """Who may do something, and how many of them it takes."""

    keys: Annotated[tuple[Name, ...], Length(1, 32)]
    threshold: Annotated[int, Between(1, 8)]

    def __post_init__(self) -> None:
        """Refuse what nobody can meet."""
        if len(set(self.keys)) != len(self.keys) or self.threshold > len(self.keys):
            raise ValueError("a role names a key twice, or cannot be met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles(Strict):
    """`config` signs every push, `critical` what touches a critical setting too, `trust` the next trust document."""

    config: Role
    critical: Role
    trust: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust(Strict):
    """The document."""

    format: Literal[1]
    fleet: Name
    version: Number
    epoch: Number
    keys: Annotated[dict[Name, Key], Length(1, 32)]
    roles: Roles
    retired: Annotated[tuple[Hex, ...], Length(most=256)] = ()
    critical: Annotated[tuple[Annotated[str, Length(1)], ...], Length(most=64)] = CRITICAL
    groups: Annotated[dict[Name, tuple[Name, ...]], Length(most=64)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        publics = [key.public for key in self.keys.values()]
        named = {name for role in (self.roles.config, self.roles.critical, self.roles.trust) for name in role.keys}
        if len(set(publics)) != len(publics):
            raise ValueError("one key stands under two names")
        if not named <= self.keys.keys():
            raise ValueError("a role names a key that is not there")
        if set(publics) & set(self.retired):
            raise ValueError("a retired key does not come back")

    @property
    def publics(self) -> tuple[bytes, ...]:
        """Give every key that may sign."""
        return tuple(bytes.fromhex(key.public) for key in self.keys.values())

    def of(self, role: Role) -> frozenset[bytes]:
        """Give the public keys of a role."""
        return frozenset(bytes.fromhex(self.keys[name].public) for name in role.keys)

    def addresses(self, gateway: str, gateways: tuple[str, ...], groups: tuple[str, ...]) -> bool:
        """Say whether a gateway is among those addressed, by its id or by a group it is in."""
        return gateway in gateways or any(gateway in self.groups.get(group, ()) for group in groups)


class Standing(NamedTuple):
    """A trust document, and the digest of the bytes it was read from."""

    document: Trust
    digest: bytes


def differing(before: object, after: object, critical: tuple[str, ...]) -> tuple[str, ...]:
    """Name the critical settings that two configurations, as plain trees, write differently.

    A pattern is a path with dots; `*` stands for any one key. The order of keys counts, too: what is only moved is
    taken for changed, never the other way round.
    """
    return tuple(
        pattern
        for pattern in critical
        if repr([*_found(before, pattern.split("."))]) != repr([*_found(after, pattern.split("."))])
    )


def _found(tree: object, path: list[str]) -> Iterator[object]:
    if not path:
        yield tree
    elif isinstance(tree, dict):
        for key in tree if path[0] == "*" else (key for key in (path[0],) if key in tree):
            for value in _found(tree[key], path[1:]):
                yield key, value
