"""Whom this station obeys: the trust document, a JSON file beside the technician's file.

What is always true here:

- A `Trust` names Ed25519 keys only, each once, under one name; every role has at least as many keys as its threshold
  asks for, and all roles are there. A key that was retired does not come back.
- One reading: a key written twice, a number that is no integer, a text that is too long or nested too deep is refused.
- The file is kept and signed as the exact bytes it has; its digest is SHA-256 of them.

Pure. `config.push` judges with it, the agent reads and replaces the file. `config/PUSH.md` describes it for strangers.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from config.model import Name, Strict

SIZE_LIMIT = 65_536
NUMBER_LIMIT = 2**53 - 1
"""The largest version and epoch: the largest integer that every JSON reader keeps (RFC 8259, section 6)."""

CRITICAL = ("gateway.id", "uplinks", "buffer.path", "links.*.devices.*.profile", "links.*.devices.*.points.*.writable")
"""What is critical unless the document says otherwise. A profile may bring points that can be written."""

Number = Annotated[int, Field(ge=1, le=NUMBER_LIMIT)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrustInvalid(Exception):
    """The bytes are no trust document. `detail` says why, for the log."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class Key(Strict):
    """A public key: Ed25519, 32 bytes in hexadecimal."""

    type: Literal["Ed25519"]
    public: Hex


class Role(Strict):
    """Who may do something, and how many of them it takes."""

    keys: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    threshold: Annotated[int, Field(ge=1, le=8)]

    @model_validator(mode="after")
    def _can_be_met(self) -> "Role":
        if len(set(self.keys)) != len(self.keys) or self.threshold > len(self.keys):
            raise ValueError("a role names a key twice, or cannot be met")
        return self


class Roles(Strict):
    """`config` signs every push, `critical` what touches a critical setting too, `trust` the next trust document."""

    config: Role
    critical: Role
    trust: Role


class Trust(Strict):
    """The document."""

    format: Literal[1]
    fleet: Name
    version: Number
    epoch: Number
    keys: Annotated[dict[Name, Key], Field(min_length=1, max_length=32)]
    roles: Roles
    retired: Annotated[tuple[Hex, ...], Field(max_length=256)] = ()
    critical: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=64)] = CRITICAL
    groups: Annotated[dict[Name, tuple[Name, ...]], Field(max_length=64)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> "Trust":
        publics = [key.public for key in self.keys.values()]
        named = {name for role in (self.roles.config, self.roles.critical, self.roles.trust) for name in role.keys}
        if len(set(publics)) != len(publics):
            raise ValueError("one key stands under two names")
        if not named <= self.keys.keys():
            raise ValueError("a role names a key that is not there")
        if set(publics) & set(self.retired):
            raise ValueError("a retired key does not come back")
        return self

    @cached_property
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


def parse(data: bytes) -> Trust:
    """Read a trust document. Raises TrustInvalid."""
    if len(data) > SIZE_LIMIT:
        raise TrustInvalid("too large")
    try:
        return Trust.model_validate(_frozen(json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise TrustInvalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise TrustInvalid(str(error)) from error


def read(data: bytes) -> Standing:
    """Read the document that stands in a file. Raises TrustInvalid."""
    return Standing(parse(data), sha256(data).digest())


def touched(before: object, after: object, critical: tuple[str, ...]) -> tuple[str, ...]:
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def _frozen(value: object) -> object:
    """Give a tree with tuples for lists, as strict models take it."""
    if isinstance(value, dict):
        return {key: _frozen(member) for key, member in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
