"""The page for authors of payload formats: what a format is given, what it answers, and what always holds.

A format says how a platform is told of a block. To add one:

1. write its file here: a class with the members of `Format`, and a `make(station, options)` that builds it;
2. enter it in `FORMATS` of `agent/formats/__init__.py`, and its name in `Uplink.format` of `config/model.py`;
3. give it golden vectors in tests/agent/formats: the block of tests/golden.py in, exact bytes out.

What is always true here:

- A format is given a committed block of a stream that the uplink carries, decoded, with the points that the uplink
  lists and no others: what a platform is not given never reaches the format that writes for it.
- `messages` is a pure function of the block, of the time placement, and of what this session was told already. Messages
  come one at a time and are sent as the window allows, so memory does not grow with their number.
- The block is acknowledged when every one of them has succeeded (B4); where one fails the whole block is told again,
  after `forget`. No message at all is a success: there was nothing to tell.
- `Hold`: the time of this boot is not known yet. The block stays pending, and is offered again once it is.
- `Skip`: this block will not be told. It is counted as lost for its reason, stays in the buffer and can be sent again.
- A format opens nothing, waits for nothing, and takes time from the block alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent.broker import Message
from buffer.block import Header
from buffer.columnar import Payload
from buffer.frame import Layout
from buffer.keys import Signer

UNTIMED = "untimed"
EVICTED = "evicted"
UNREADABLE = "unreadable"


class Hold(NamedTuple):
    """The answer to a block whose time may become known: that of this boot, at this boot time."""

    boot_id: bytes
    boot_ns: int


class Skip(NamedTuple):
    """The answer to a block that will not be told; `reason` stands in the ledger."""

    reason: str


class CannotTell(Exception):
    """A block turned out impossible to tell while its messages were made; it is skipped with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)


class FormatMisconfigured(Exception):
    """The settings of a format do not make sense. `path` leads from the uplink to the place at fault."""

    def __init__(self, code: str, path: tuple[str | int, ...], **fields: object) -> None:
        self.code = code
        self.path = path
        self.fields = fields
        super().__init__(code, fields)


class Instant(NamedTuple):
    """A place on the world's clock: nanoseconds since 1970-01-01T00:00Z, and how far off it may be."""

    utc_ns: int
    bound_ns: int


class Placer(Protocol):
    """Whoever knows what time it was (B8: never guessed)."""

    def place(self, boot_id: bytes, boot_ns: int) -> tuple[int, int] | None:
        """Give UTC and the bound of its error, both in nanoseconds, or None where it is not known."""
        ...

    def final(self, boot_id: bytes) -> bool:
        """Say whether nothing more will be learned about a boot: it has ended, and all of it has been read."""
        ...


@dataclass(frozen=True, slots=True)
class Station:
    """What a format may know of the house. `root` is the gateway's topic root, `trambien/v1/<gateway>`."""

    gateway: str
    root: str
    timezone: str
    signer: Callable[[], Signer] | None
    """Gives the key in force; None where a configuration is checked and nothing will be said."""
    profiles: Mapping[str, str | None] = field(default_factory=dict)
    """The profile of each device, where it has one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A block as a format sees it.

    `layouts` and `payload` hold the points that the uplink is given, and `whole` says whether those are all. The
    positions of a restricted layout are its own: frames and changes are cut to fit.
    """

    header: Header
    digest: bytes
    layouts: tuple[Layout, ...]
    payload: Payload
    whole: bool
    placer: Placer

    def place(self, boot_ns: int) -> Instant | None:
        """Give the time of something in this block.

        A block whose own header is synchronised answers by itself, so that it is told alike however often.
        """
        clock = self.header.clock
        if clock.quality == "synchronised" and clock.max_error_ns is not None:
            distance_ns = abs(boot_ns - self.header.boot_ns)
            utc_ns = self.header.wall_ns + boot_ns - self.header.boot_ns
            return Instant(utc_ns, clock.max_error_ns + drift_ns(distance_ns))
        placed = self.placer.place(self.header.boot_id, boot_ns)
        return None if placed is None else Instant(*placed)

    def untimed(self) -> Hold | Skip | None:
        """Give what a format that needs time answers where there is none, or None where there is."""
        if self.place(self.header.boot_ns) is not None:
            return None
        if self.placer.final(self.header.boot_id):
            return Skip(UNTIMED)
        return Hold(self.header.boot_id, self.header.boot_ns)


def drift_ns(distance_ns: int) -> int:
    """Give what a clock of 100 ppm may be off after so long, rounded up."""
    return -(-distance_ns // 10_000)


Answer = Iterator[Message] | Hold | Skip


class Conversation(Protocol):
    """What a platform has been told over one session."""

    def messages(self, opened: Opened) -> Answer:
        """Give the publishes made from a block. The iterator may raise CannotTell."""
        ...

    def forget(self) -> None:
        """Take it that nothing was heard: a publish has failed."""
        ...


class Format(Protocol):
    """A payload format, made for one uplink."""

    @property
    def house(self) -> bool:
        """Whether the station's own topics, `online` and `state`, belong on this platform."""
        ...

    def try_on(self, layout: Layout, stream: str) -> None:
        """Judge, before anything runs, whether frames of a layout can be told. Raises FormatMisconfigured."""
        ...

    def converse(self) -> Conversation:
        """Begin a session."""
        ...
