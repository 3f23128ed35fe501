"""What the keeper is told and what it gives: who seals and where, blocks read back, and what their positions mean.

What is always true here: these are values; whoever has one cannot change what is kept.

Anyone in the agent may enter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from agent.housekeeping import Rules
from buffer.block import Block
from buffer.custody import Custody
from buffer.frame import Layout
from buffer.keys import Signer
from buffer.store import Absence

AckKey = tuple[str, str]
"""An uplink's name and a stream's."""

VOLATILE = "volatile"
"""Why a position has no block: it was sealed in memory, which had no room until the store worked again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who seals, and what the `start` events of its epochs state. Digests are SHA-256."""

    gateway: str
    signer: Signer
    software: str
    hardware: bytes
    config: bytes


@dataclass(frozen=True, slots=True)
class Site:
    """What a keeper is told: the file, who seals, the keys believed, and what each stream's positions mean.

    `custody` is None where the signer is not a key of ours to rotate.
    """

    path: Path
    identity: Identity
    keys: tuple[bytes, ...]
    catalogues: Mapping[str, tuple[Layout, ...]]
    max_block: int
    custody: Custody | None = None
    rules: Rules = field(default_factory=Rules)


class Turn(NamedTuple):
    """What changes while the station runs: catalogues, the configuration's digest, and who carries which streams."""

    catalogues: Mapping[str, tuple[Layout, ...]]
    config: bytes
    carriers: Mapping[str, tuple[str, ...] | None]


class Kept(NamedTuple):
    """A committed block, its position in its stream, and the digest of the catalogue it needs."""

    stream: str
    position: int
    block: Block
    catalogue: bytes


class Reading(NamedTuple):
    """Blocks read back, in order, and the positions found damaged."""

    blocks: tuple[Kept, ...]
    damaged: tuple[int, ...]
    gone: tuple[Absence, ...] = ()
    """Positions of which a signed event says that nothing is to be had, and why: `pruned` or `VOLATILE`."""

    @property
    def reached(self) -> int:
        """Give the last position that this tells of, 0 where it tells of none."""
        return max((*(one.position for one in self.blocks), *self.damaged, *(one.last for one in self.gone)), default=0)


class Definition(NamedTuple):
    """A catalogue as it was signed, and its layouts by id."""

    catalogue: bytes
    layouts: Mapping[bytes, bytes]
