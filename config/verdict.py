"""What the judge of pushes is told, and what it answers: plain records, so that both can be in different processes.

`config.push` judges; the agent enters.
"""

from dataclasses import dataclass

from config.envelope import Push
from config.trust import Trust


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A configuration that this station has run and confirmed."""

    epoch: int
    version: int
    target: bytes


@dataclass(frozen=True, slots=True)
class State:
    """What the station remembers, and what stands in its file now.

    `epoch`, `version` and `digest` are those of the last push that was found genuine, whatever became of it.
    """

    gateway: str
    platform: str
    current: bytes
    epoch: int = 0
    version: int = 0
    digest: bytes = b""
    trust_version: int = 0
    trust_digest: bytes = b""
    confirmed: tuple[Confirmed, ...] = ()
    busy: bool = False
    accepted_remote: bytes = b""
    """Digest of the content that a technician lets in over what was edited here."""
    files: bytes = b""
    """Digest of the configuration with its `links.d` (`config.raw`); that of `current` where it is left out."""


@dataclass(frozen=True, slots=True)
class Now:
    """What is known of the time: the wall clock if it is synchronised, and a moment that has certainly passed."""

    wall_s: int | None
    error_s: int = 0
    floor_s: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A configuration to be tried. `digest` names the push: SHA-256 of its content."""

    push: Push
    digest: bytes


@dataclass(frozen=True, slots=True)
class Replaced:
    """The next trust document, as it is to be written."""

    trust: Trust
    data: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not to be obeyed, and why. `accepted` is there where all was well but for the file, which was edited here."""

    code: str
    accepted: Accepted | None = None
