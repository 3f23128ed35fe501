"""The keeper: seals batches and commits them, inside the one thread that owns SQLite and signing.

What is always true here:

- One commit holds the blocks of all streams that had something to seal, and what was acknowledged since the last one.
- A block exists for the rest of the house once its commit has returned, never before (B3).
- After any failed commit the store is closed; the next call opens it again, which begins a new epoch whose first
  block in every stream says so (B2). What was being sealed is still the caller's.

Only `agent.recorder` enters, through the owner's thread.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from agent.log import Log
from buffer.block import Block
from buffer.errors import CommitFailed
from buffer.frame import Event, EventData, Layout
from buffer.intervals import Intervals
from buffer.keys import Signer
from buffer.seal import Batch, Head, Moment, Sealer
from buffer.store import Store

AckKey = tuple[str, str]
"""An uplink's name and a stream's."""

_log = Log("keeper")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who seals, and the facts its `start` events state."""

    gateway: str
    signer: Signer
    facts: tuple[tuple[str, EventData], ...]
    """Software version, hardware-id hash, configuration digest, fate of the key."""


class Kept(NamedTuple):
    """A committed block and its position in its stream."""

    stream: str
    position: int
    block: Block


class Keeper:
    """The store, the sealer and the heads. Every method runs in the owner's thread."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        catalogues: Mapping[str, tuple[Layout, ...]],
        max_block: int,
        moment: Callable[[], Moment],
        new_event_id: Callable[[], bytes],
    ) -> None:
        self._path = path
        self._identity = identity
        self._catalogues = catalogues
        self._max_block = max_block
        self._moment = moment
        self._new_event_id = new_event_id
        self._store: Store | None = None
        self._sealer: Sealer | None = None
        self._reason = "started"
        self.heads: dict[str, Head] = {}

    def open(self) -> None:
        """Open the store, prove its end, begin an epoch."""
        store = Store.open(self._path)
        self._sealer = Sealer(self._identity.gateway, self._identity.signer, store.epoch, self._max_block)
        self.heads = store.heads()
        self._store = store

    def seal(self, batches: Mapping[str, Batch], acknowledged: Mapping[AckKey, Intervals]) -> tuple[Kept, ...]:
        """Seal and commit. Raises CommitFailed (or StoreFull); the batches are unharmed and may be given again."""
        store, sealer = self._opened()
        moment = self._moment()
        sealed = []
        for stream, batch in batches.items():
            head = self.heads.get(stream)
            opening = head is None or head.epoch != store.epoch
            whole = replace(batch, events=[self._start(moment), *batch.events]) if opening else batch
            sealed.append(sealer.seal(stream, head, whole, self._catalogues[stream], moment))
        blocks = [block for part in sealed for block in part.blocks]
        definitions = [definition for part in sealed for definition in part.definitions]
        try:
            positions = store.append(blocks, definitions, acknowledged)
        except CommitFailed:
            self.close()
            self._reason = "reopened"
            raise
        self.heads.update((stream, part.head) for stream, part in zip(batches, sealed, strict=True))
        owners = [stream for stream, part in zip(batches, sealed, strict=True) for _ in part.blocks]
        return tuple(map(Kept, owners, positions, blocks))

    def close(self) -> None:
        """Close the store; the lock is free then."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _start(self, moment: Moment) -> Event:
        data = (("reason", self._reason), ("boot_id", moment.boot_id), *self._identity.facts)
        return Event("start", moment.boot_ns, self._new_event_id(), data)
