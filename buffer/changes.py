"""What is done to blocks that are sealed already, and the event that tells of each: nothing goes without a word.

What is always true here:

- A change is planned from what is stored and applied in one commit with the block that holds its event.
- A payload goes before its header. Payloads of kind 1 and 2 never go for want of room: they explain the rest.
- Where a row stays without payload its `gone` says why: `GONE[reason]`. Where no row is left, `absent` has the span.
- A damaged payload under a good envelope leaves the envelope (kind 0); all else that is damaged leaves no row. The
  bytes are set aside, never deleted.
- Where the block goes that holds the word of a hole which stays, the word is said again: `Again`.

Pure. The store applies them; the agent's keeper seals their events.
"""

from typing import NamedTuple

from buffer.frame import EventData

DELIVERED = "delivered"
POLICIES = ("oldest", "newest", "thin")
"""What goes of the undelivered when room is needed: the oldest, the newest, or all but every n-th."""
EVICTED = (DELIVERED, *POLICIES)
DAMAGED, LOST, PRUNED = "damaged", "lost", "pruned"
"""The further reasons of the ledger for what is not held."""

GONE = {reason: number for number, reason in enumerate((*EVICTED, DAMAGED), start=1)}
REASON = {number: reason for reason, number in GONE.items()}

NO_ROW = "block"
"""Why a block is damaged where nothing at all stands in its place."""
_AGAIN = {DAMAGED: NO_ROW, LOST: "volatile"}
"""What an event says as its reason where the ledger knows no finer one."""

Told = tuple[str, tuple[tuple[str, EventData], ...]]
"""An event's type and data."""


class Account(NamedTuple):
    """Blocks of one stream: the first and last seq, how many, their readings (None: unknown), wall times at seal."""

    stream: str
    first: int
    last: int
    blocks: int
    readings: int | None
    from_ns: int = 0
    to_ns: int = 0


class Eviction(NamedTuple):
    """Payloads that go. `positions` ascend; all are rows of kind 0 that have one."""

    account: Account
    positions: tuple[int, ...]
    reason: str

    def told(self) -> Told:
        """Give the event."""
        account = self.account
        return "evicted", (
            ("first", account.first),
            ("last", account.last),
            ("blocks", account.blocks),
            ("readings", account.readings),
            ("reason", self.reason),
            ("from", account.from_ns),
            ("to", account.to_ns),
        )


class Damage(NamedTuple):
    """A run of blocks found damaged. With `envelope_good` it is one, and only its payload is set aside."""

    account: Account
    reason: str
    envelope_good: bool = False

    def told(self) -> Told:
        """Give the event."""
        account = self.account
        return DAMAGED, (
            ("first", account.first),
            ("last", account.last),
            ("blocks", account.blocks),
            ("readings", account.readings),
            ("reason", self.reason),
        )


class Loss(NamedTuple):
    """Blocks that were sealed in memory and never written."""

    account: Account
    reason: str = "volatile"

    def told(self) -> Told:
        """Give the event."""
        account = self.account
        return LOST, (
            ("first", account.first),
            ("last", account.last),
            ("blocks", account.blocks),
            ("readings", account.readings),
            ("reason", self.reason),
        )


class Again(NamedTuple):
    """A hole whose word is said again, because the block that held it has gone. `reason` is one of the ledger's."""

    account: Account
    reason: str

    def told(self) -> Told:
        """Give the event: what is not known any more is left out or null."""
        account, reason = self.account, _AGAIN.get(self.reason, self.reason)
        return "evicted" if self.reason in EVICTED else self.reason, (
            ("first", account.first),
            ("last", account.last),
            ("blocks", account.blocks),
            ("readings", account.readings),
            *((("reason", reason),) if reason != PRUNED else ()),
            ("again", True),
        )


class Pruning(NamedTuple):
    """Headers and events that go, an unbroken run. `lost` of them had lost their payload undelivered or damaged.

    `again` are the words among them of payloads whose headers stay.
    """

    account: Account
    digest: bytes
    root: bytes
    lost: int
    again: tuple[Again, ...] = ()

    def told(self) -> Told:
        """Give the event."""
        account = self.account
        return PRUNED, (
            ("first", account.first),
            ("last", account.last),
            ("digest", self.digest),
            ("root", self.root),
            ("blocks", account.blocks),
            ("readings", account.readings),
            ("lost", self.lost),
            ("from", account.from_ns),
            ("to", account.to_ns),
        )


class Thinned(NamedTuple):
    """How far thinning has come: every `every`-th block stays, and up to `upto` that is done."""

    stream: str
    every: int
    upto: int


class Aged(NamedTuple):
    """The accumulated running time now, and the streams whose last position is to be remembered with it.

    Marks up to `forget_ns` are of no more use, but for the last of them.
    """

    running_ns: int
    streams: tuple[str, ...] = ()
    forget_ns: int = 0


class Owed(NamedTuple):
    """Of the holes that blocks up to `upto` spoke of those from `first` on are still to be told again."""

    stream: str
    first: int
    upto: int


Change = Eviction | Damage | Loss | Pruning | Again | Thinned | Aged | Owed
