"""Batches become blocks: what one stream gathered since the last seal, encoded, chained and signed.

What is always true here:

- Pure: time, keys and randomness are given; the same input gives the same blocks, byte for byte.
- Blocks follow their head: `prev` is its digest, `seq` one more, the totals run on. The epoch is the sealer's own.
- The first block of an epoch begins with a `start` event that says what precedes it and how that is known.
- Events stand in blocks of their own, before the readings they came with: readings may be evicted, events explain.
- A catalogue is signed into the stream before the first block that needs it, with every layout it lists.
- No block is larger on the wire than `max_block`, unless a single entry is. A batch that is too large is split, in
  order, into blocks that are sealed together.
- An entry that cannot be encoded (a driver's bug) costs itself alone: it is counted as dropped and named by a `refused`
  event. Everything else of its batch is sealed.

The recorder enters, in the thread that owns the store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

from buffer.block import (
    FLAG_VOLATILE,
    KIND_DATA,
    KIND_DEFINITIONS,
    KIND_EVENTS,
    MAX_ENVELOPE,
    Block,
    ClockQuality,
    Header,
    Totals,
    sign_header,
)
from buffer.columnar import Definitions, Payload
from buffer.frame import Change, Event, EventData, Frame, Layout
from buffer.keys import Signer
from buffer.layout import catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.pack import Packer, Piece

WIRE_OVERHEAD = MAX_ENVELOPE + 16
"""What a block on the wire is at most larger than its payload."""


class Moment(NamedTuple):
    """When a seal happens, as far as is known. `boot_id` is 16 bytes."""

    boot_id: bytes
    boot_ns: int
    wall_ns: int
    clock: ClockQuality


class Opening(NamedTuple):
    """What the first block of an epoch says of who seals it. Digests are the caller's; `event_id` is 8 random bytes.

    `predecessor` says how the block before is known: `store` where it was read and proven, `volatile` where it was
    sealed in memory, `lost` where the store was set aside, `none` where the stream begins. Where lost, `aside` is the
    name of the file that was set aside, empty where its end alone is missing, and `highest` the highest seq noted
    outside, by stream.
    """

    event_id: bytes
    software: str
    hardware: bytes
    config: bytes
    predecessor: str = "store"
    keys: tuple[tuple[bytes, bytes], ...] = ()
    """Statements since the enrolled key (`buffer.rotation`), oldest first."""
    aside: str = ""
    highest: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True)
class Batch:
    """What one stream gathered since the last seal. Appending is one lookup and one append a frame."""

    frames: dict[Layout, list[Frame]] = field(default_factory=dict)
    changes: dict[Layout, list[Change]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    ticks_missed: int = 0
    readings_dropped: int = 0

    def add_frame(self, layout: Layout, frame: Frame) -> None:
        """Take a frame."""
        try:
            self.frames[layout].append(frame)
        except KeyError:
            self.frames[layout] = [frame]

    def add_changes(self, layout: Layout, changes: Iterable[Change]) -> None:
        """Take changes, in order of arrival."""
        self.changes.setdefault(layout, []).extend(changes)

    def __bool__(self) -> bool:
        """Say whether there is anything to tell."""
        return bool(self.frames or self.changes or self.events or self.ticks_missed or self.readings_dropped)


class Head(NamedTuple):
    """The last block of a stream, as far as its successor must know it."""

    epoch: bytes
    seq: int
    digest: bytes
    totals: Totals
    catalogue: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """Blocks of one stream, in order, to be committed together. `prev` is the digest that the first one names."""

    stream: str
    prev: bytes | None
    blocks: tuple[Block, ...]
    head: Head
    definitions: Definitions | None
    refused: int
    """Readings that could not be encoded."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals for one gateway, with one key, in one epoch. `max_block` is bytes on the wire."""

    gateway: str
    signer: Signer
    epoch: bytes
    max_block: int
    opening: Opening | None = None

    def seal(
        self,
        stream: str,
        head: Head | None,
        batch: Batch,
        catalogue: tuple[Layout, ...],
        moment: Moment,
        *,
        volatile: bool = False,
    ) -> Sealed:
        """Seal a batch; an empty one gives an empty block. Every layout of the batch must be in the catalogue."""
        encoded = encode_catalogue(tuple(map(layout_id, catalogue)))
        digest = catalogue_digest(encoded)
        known = head is not None and head.catalogue == digest
        definitions = None if known else Definitions(tuple(map(encode_layout, catalogue)), encoded)
        packer = Packer(catalogue, self._room, moment.boot_ns, self.epoch + moment.boot_ns.to_bytes(8, "big"))
        payloads = [] if definitions is None else _definition_payloads(definitions, self._room)
        events = tuple(batch.events)
        if self.opening is not None and (head is None or head.epoch != self.epoch):
            start = _start(self.opening, stream, head, moment)
            if payloads:
                payloads[0] = replace(payloads[0], events=(start,))
            else:
                events = (start, *events)
        if events:
            payloads.append(Payload(events=events))
        if batch.frames or batch.changes or not payloads:
            payloads.append(_data_payload(batch, catalogue))
        pieces = [piece for payload in payloads for piece in packer.pack(payload)]
        pieces += packer.pack(Payload(events=tuple(packer.refused))) if packer.refused else []
        missed = Totals(0, batch.ticks_missed, batch.readings_dropped + packer.dropped)
        chain = _Chain(self, stream, head, moment, catalogue=digest, flags=FLAG_VOLATILE if volatile else 0)
        blocks = tuple(
            chain.follow(piece, piece.payload.count_readings(catalogue), missed if at == 0 else Totals())
            for at, piece in enumerate(pieces)
        )
        prev = None if head is None else head.digest
        return Sealed(stream, prev, blocks, chain.head, definitions, packer.dropped)

    @property
    def _room(self) -> int:
        """Bytes that the payload of a block may have."""
        return self.max_block - WIRE_OVERHEAD


class _Chain:
    """The end of a stream while blocks are added to it."""

    def __init__(
        self, sealer: Sealer, stream: str, head: Head | None, moment: Moment, *, catalogue: bytes, flags: int
    ) -> None:
        self._sealer = sealer
        self._stream = stream
        self._moment = moment
        self._flags = flags
        self._prev = None if head is None else head.digest
        self._seq = 0 if head is None else head.seq
        self._totals = Totals() if head is None else head.totals
        self._catalogue = catalogue

    @property
    def head(self) -> Head:
        """The last block added. There must be one."""
        assert self._prev is not None
        return Head(self._sealer.epoch, self._seq, self._prev, self._totals, self._catalogue)

    def follow(self, piece: Piece, readings: int, missed: Totals) -> Block:
        """Sign a piece as the successor of the last block."""
        self._seq += 1
        self._totals = Totals(
            self._totals.readings + readings,
            self._totals.ticks_missed + missed.ticks_missed,
            self._totals.readings_dropped + missed.readings_dropped,
        )
        block = Block(sign_header(self._header(piece, readings), self._sealer.signer), piece.stored)
        self._prev = block.digest
        return block

    def _header(self, piece: Piece, readings: int) -> Header:
        return Header(
            gateway=self._sealer.gateway,
            stream=self._stream,
            epoch=self._sealer.epoch,
            seq=self._seq,
            prev=self._prev,
            kind=_kind(piece.payload),
            flags=self._flags,
            payload_digest=sha256(piece.stored).digest(),
            payload_length=len(piece.stored),
            raw_length=piece.raw_length,
            codec=piece.codec,
            boot_id=self._moment.boot_id,
            boot_ns=self._moment.boot_ns,
            wall_ns=self._moment.wall_ns,
            clock=self._moment.clock,
            interval=_interval(piece.payload),
            frames=piece.payload.count_frames(),
            readings=readings,
            totals=self._totals,
            catalogue=self._catalogue,
        )


def _data_payload(batch: Batch, catalogue: tuple[Layout, ...]) -> Payload:
    places = {layout: place for place, layout in enumerate(catalogue)}
    return Payload(
        frames=tuple(sorted((places[layout], tuple(frames)) for layout, frames in batch.frames.items() if frames)),
        changes=tuple(sorted((places[layout], tuple(changes)) for layout, changes in batch.changes.items() if changes)),
    )


def _kind(payload: Payload) -> int:
    if payload.definitions is not None:
        return KIND_DEFINITIONS
    return KIND_EVENTS if payload.events else KIND_DATA


def _definition_payloads(definitions: Definitions, room: int) -> list[Payload]:
    """Spread layouts over as many blocks as they need; the catalogue stands in the last."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for layout in definitions.layouts:
        size += len(layout)
        if parts[-1] and size > room:
            parts.append([])
            size = len(layout)
        parts[-1].append(layout)
    found = [Payload(definitions=Definitions(tuple(part))) for part in parts]
    found[-1] = Payload(definitions=Definitions(tuple(parts[-1]), definitions.catalogue))
    return found


def _start(opening: Opening, stream: str, head: Head | None, moment: Moment) -> Event:
    lost = opening.predecessor == "lost"
    data: tuple[tuple[str, EventData], ...] = (
        ("boot", moment.boot_id),
        ("software", opening.software),
        ("hardware", opening.hardware),
        ("config", opening.config),
        ("predecessor", None if head is None else head.digest),
        ("known", "none" if head is None and not lost else opening.predecessor),
        ("keys", opening.keys),
    )
    if lost:
        data += (("aside", opening.aside), ("highest", opening.highest.get(stream)))
    return Event("start", moment.boot_ns, opening.event_id, data)


def _interval(payload: Payload) -> tuple[int, int] | None:
    times = [frame[0] for _, frames in payload.frames for frame in frames]
    times += [change.t_boot_ns for _, changes in payload.changes for change in changes]
    times += [event.t_boot_ns for event in payload.events]
    return (min(times), max(times)) if times else None
