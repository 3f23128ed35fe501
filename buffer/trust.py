"""The keys that a verifier believes: those it was given, and those that they led to.

What is always true here:

- A key is trusted because someone named it, or because a trusted key and it have signed that it follows
  (`buffer.rotation`). The gateway's label in a statement decides nothing: who signed says the key.
- A statement is learnt from a proven block only, and when it comes: a block by a key of which nothing was learnt yet is
  foreign. In files, which are read in order, that is exact; who listens to a topic names more keys.
- A key retires in a stream with the block that holds its statement: what it signs at a later number is `retired-key`,
  whichever of the two came first.
- A key has one successor, the first that was learnt. A second one, and what is no statement, is `key-statement`.
- Memory grows with the gaps in what each key has signed, not with the blocks.

The verifier enters.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from buffer.block import KIND_DEFINITIONS, KIND_EVENTS, Header, trust
from buffer.errors import BlockInvalid
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.rotation import Statement, read_statement


class KeyFault(NamedTuple):
    """What must not be: `retired-key` or `key-statement`, and at which block."""

    reason: str
    gateway: str
    stream: str
    seq: int


class KeyRing:
    """Begins with the raw public keys it is given, and learns from proven blocks."""

    def __init__(self, trusted: Iterable[bytes]) -> None:
        self._keys = trust(tuple(trusted))
        self._successors: dict[bytes, bytes] = {}
        self._signed: dict[tuple[str, str, bytes, bytes], Intervals] = {}
        self._retired: dict[tuple[str, bytes], int] = {}
        self._refused: dict[KeyFault, None] = {}

    @property
    def keys(self) -> Mapping[bytes, bytes]:
        """The raw public keys trusted by now, by thumbprint, as `open_envelope` wants them."""
        return MappingProxyType(self._keys)

    def note(self, header: Header) -> None:
        """Note who signed a proven block."""
        branch = header.epoch if header.volatile else b""
        signed = self._signed.setdefault((header.gateway, header.stream, header.kid, branch), Intervals())
        signed.add(header.seq)

    def learn(self, header: Header, events: Iterable[Event]) -> None:
        """Learn from the events of a proven block whose payload is the signed one."""
        if header.kind not in (KIND_DEFINITIONS, KIND_EVENTS):
            return
        for encoded in statements_of(events):
            try:
                self._follow(header, read_statement(encoded))
            except BlockInvalid:
                self._refused[KeyFault("key-statement", header.gateway, header.stream, header.seq)] = None

    def faults(self, abandoned: Collection[bytes] = ()) -> Iterator[KeyFault]:
        """Give what must not be, of all that was noted and learnt by now.

        `abandoned` are the epochs of volatile branches that are part of no chain: their key was in force back then.
        """
        yield from self._refused
        for gateway, stream, later in self._signed_later(abandoned):
            yield from (KeyFault("retired-key", gateway, stream, seq) for seq in later)

    def count_faults(self, abandoned: Collection[bytes] = ()) -> int:
        """Count them."""
        return len(self._refused) + sum(len(later) for _, _, later in self._signed_later(abandoned))

    def _signed_later(self, abandoned: Collection[bytes]) -> Iterator[tuple[str, str, range]]:
        """Give the numbers that a key signed in a stream after it had retired there."""
        for (gateway, stream, kid, branch), signed in self._signed.items():
            limit = self._retired.get((stream, kid))
            if limit is not None and branch not in abandoned:
                yield from ((gateway, stream, range(max(first, limit + 1), last + 1)) for first, last in signed)

    def _follow(self, header: Header, statement: Statement) -> None:
        old, new = statement.old_kid, statement.new_kid
        if old not in self._keys:
            return  # of a key before those that were named: nothing hangs on it
        if self._successors.setdefault(old, new) != new:
            raise BlockInvalid("key-statement")
        self._keys[new] = statement.new
        known = self._retired.get((header.stream, old), header.seq)
        self._retired[header.stream, old] = min(known, header.seq)


def statements_of(events: Iterable[Event]) -> Iterator[object]:
    """Give what stands where statements should: one in `key-rotated`, an array of them in `start`."""
    for event in events:
        if event.type == "key-rotated":
            yield _datum(event, "statement", None)
        elif event.type == "start":
            keys = _datum(event, "keys", ())
            yield from keys if isinstance(keys, tuple) else (keys,)


def _datum(event: Event, name: str, default: object) -> object:
    return dict(event.data).get(name, default)
