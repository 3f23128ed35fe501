"""What a carrier is given of a format: how one uplink is told of blocks, over one session after another.

What is always true here:

- An `Encoding` belongs to an uplink, a `Teller` to one session of it. Nothing here sends anything.
- `block` is told as it is; every other format gets opened blocks, cut to the points of the uplink.
- What a re-encoding format had told when a publish failed is told again.

The carrier enters, and the composition root.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from agent.broker import Message
from agent.formats import block
from agent.formats.api import Answer, Format, Hold, Placer, Skip
from agent.formats.opening import Opener, Points
from agent.kept import Definition, Kept


class Teller(Protocol):
    """One session's way of telling blocks."""

    @property
    def defines(self) -> bool:
        """Whether layouts and catalogues are published, retained, before the blocks that need them."""
        ...

    def needs(self, catalogue: bytes) -> bool:
        """Say whether a catalogue must be learned before a block that names it is told."""
        ...

    def learn(self, catalogue: bytes, definition: Definition) -> None:
        """Take a catalogue and its layouts."""
        ...

    def tell(self, kept: Kept) -> Answer:
        """Give the publishes made from a block, one at a time. The iterator may raise CannotTell."""
        ...

    def waits(self, hold: Hold) -> bool:
        """Say whether what was held back must still wait."""
        ...

    def forget(self) -> None:
        """Take it that nothing was heard."""
        ...


class Encoding(Protocol):
    """An uplink's way of telling blocks."""

    @property
    def house(self) -> bool:
        """Whether the station's own topics, `online` and `state`, belong on this platform."""
        ...

    def begin(self) -> Teller:
        """Begin a session."""
        ...


@dataclass(frozen=True, slots=True)
class Signed:
    """Blocks as they were signed. `root` is the gateway's topic root. It is its own teller: it remembers nothing."""

    root: str
    house: bool = True
    defines: bool = True

    def begin(self) -> Teller:
        """Begin a session."""
        return self

    def needs(self, _catalogue: bytes) -> bool:
        """Say yes: the carrier publishes what this session has not."""
        return True

    def learn(self, _catalogue: bytes, _definition: Definition) -> None:
        """Do nothing: nothing is decoded."""

    def tell(self, kept: Kept) -> Iterator[Message]:
        """Give the one publish of a block."""
        return iter((block.message(self.root, kept),))

    def waits(self, _hold: Hold) -> bool:
        """Say no: nothing is ever held."""
        return False

    def forget(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Reencoded:
    """Blocks in a format of another kind."""

    format: Format
    points: Points
    placer: Placer

    @property
    def house(self) -> bool:
        """Whether the station's own topics belong on this platform."""
        return self.format.house

    def begin(self) -> Teller:
        """Begin a session."""
        return _Retelling(self)


class _Retelling:
    """One session of a re-encoding format."""

    defines = False

    def __init__(self, encoding: Reencoded) -> None:
        self._opener = Opener(encoding.points, encoding.placer)
        self._conversation = encoding.format.converse()
        self._placer = encoding.placer

    def needs(self, catalogue: bytes) -> bool:
        return not self._opener.knows(catalogue)

    def learn(self, catalogue: bytes, definition: Definition) -> None:
        self._opener.learn(catalogue, definition)

    def tell(self, kept: Kept) -> Answer:
        opened = self._opener.open(kept)
        return opened if isinstance(opened, Skip) else self._conversation.messages(opened)

    def waits(self, hold: Hold) -> bool:
        return self._placer.place(hold.boot_id, hold.boot_ns) is None and not self._placer.final(hold.boot_id)

    def forget(self) -> None:
        self._conversation.forget()
