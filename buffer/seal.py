"""Batches become blocks: what one stream gathered since the last seal, encoded, chained and signed.

What is always true here:

- Pure: time, keys and randomness are given; the same input gives the same blocks, byte for byte.
- Blocks follow their head: `prev` is its digest, `seq` one more, the totals run on. The epoch is the sealer's own.
- The first block of an epoch begins with a `start` event that says what precedes it and how that is known.
- A catalogue is signed into the stream before the first block that needs it, with every layout it lists.
- No block is larger on the wire than `max_block`, unless a single entry is. A batch that is too large is split, in
  order, into blocks that are sealed together.
- An entry that cannot be encoded (a driver's bug) costs itself alone: it is counted as dropped and named by a `refused`
  event. Everything else of its batch is sealed.

The recorder enters, in the thread that owns the store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from buffer.block import (
    FLAG_VOLATILE,
    KIND_DATA,
    KIND_DEFINITIONS,
    MAX_ENVELOPE,
    MAX_PAYLOAD,
    MAX_RAW,
    Block,
    ClockQuality,
    Header,
    Totals,
    compress,
    sign_header,
)
from buffer.columnar import Definitions, Payload, encode_with_cuts
from buffer.frame import Change, Event, Frame, Layout
from buffer.keys import Signer
from buffer.layout import catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.split import divide, entries

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
    sealed in memory, `lost` where the store was set aside, `none` where the stream begins.
    """

    event_id: bytes
    software: str
    hardware: bytes
    config: bytes
    predecessor: str = "store"


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


class _Packed(NamedTuple):
    payload: Payload
    codec: int
    stored: bytes
    raw_length: int


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
        definitions = self._definitions(head, catalogue)
        pieces = [Payload(definitions=part) for part in definitions]
        data = _payload(batch, catalogue)
        if batch or not pieces:
            pieces.append(data)
        if self.opening is not None and (head is None or head.epoch != self.epoch):
            start = _start(self.opening, head, moment)
            pieces[0] = Payload(pieces[0].frames, pieces[0].changes, (start, *pieces[0].events), pieces[0].definitions)
        refused = _Refused(catalogue, moment, self.epoch)
        packed = [part for piece in pieces for part in self._pack(piece, catalogue, refused)]
        packed += self._pack(Payload(events=tuple(refused.events)), catalogue, refused) if refused.events else []
        missed = Totals(0, batch.ticks_missed, batch.readings_dropped + refused.readings)
        digest = catalogue_digest(_encoded(catalogue))
        blocks, after = self._chain(stream, head, packed, catalogue, digest, missed, moment, volatile)
        prev = None if head is None else head.digest
        return Sealed(stream, prev, blocks, after, _merged(definitions), refused.readings)

    def _definitions(self, head: Head | None, catalogue: tuple[Layout, ...]) -> list[Definitions]:
        encoded = _encoded(catalogue)
        if head is not None and head.catalogue == catalogue_digest(encoded):
            return []
        parts: list[list[bytes]] = [[]]
        for layout in catalogue:
            part = encode_layout(layout)
            if parts[-1] and sum(map(len, parts[-1])) + len(part) > self._room:
                parts.append([])
            parts[-1].append(part)
        last = len(parts) - 1
        return [Definitions(tuple(part), encoded if at == last else b"") for at, part in enumerate(parts)]

    @property
    def _room(self) -> int:
        """Bytes that the payload of a block may have."""
        return min(self.max_block - WIRE_OVERHEAD, MAX_PAYLOAD)

    def _pack(self, payload: Payload, catalogue: Sequence[Layout], refused: "_Refused") -> list[_Packed]:
        """Encode and compress; divide what is too large, and leave out what cannot be encoded."""
        count = entries(payload)
        try:
            raw, cuts = encode_with_cuts(payload, catalogue)
        except ValueError as error:
            if not count:
                raise
            if count == 1:
                return self._refuse(payload, catalogue, refused, str(error))
            return self._divide(payload, 2, catalogue, refused)
        codec, stored = compress(raw, cuts)
        if count > 1 and (len(stored) > self._room or len(raw) > MAX_RAW):
            parts = max(len(stored) * 10 // (self._room * 9), len(raw) // MAX_RAW) + 1
            return self._divide(payload, max(2, parts), catalogue, refused)
        if len(stored) > MAX_PAYLOAD or len(raw) > MAX_RAW:
            return self._refuse(payload, catalogue, refused, "too large")
        return [_Packed(payload, codec, stored, len(raw))]

    def _divide(self, payload: Payload, parts: int, catalogue: Sequence[Layout], refused: "_Refused") -> list[_Packed]:
        return [packed for part in divide(payload, parts) for packed in self._pack(part, catalogue, refused)]

    def _refuse(self, payload: Payload, catalogue: Sequence[Layout], refused: "_Refused", reason: str) -> list[_Packed]:
        refused.add(payload, reason)
        rest = Payload(events=payload.events, definitions=payload.definitions)
        return self._pack(rest, catalogue, refused) if rest.events or rest.definitions else []

    def _chain(
        self,
        stream: str,
        head: Head | None,
        packed: Sequence[_Packed],
        catalogue: Sequence[Layout],
        digest: bytes,
        missed: Totals,
        moment: Moment,
        volatile: bool,
    ) -> tuple[tuple[Block, ...], Head]:
        seq, prev, totals = (0, None, Totals()) if head is None else (head.seq, head.digest, head.totals)
        blocks = []
        for piece in packed:
            readings = piece.payload.count_readings(catalogue)
            totals = Totals(
                totals.readings + readings,
                totals.ticks_missed + missed.ticks_missed,
                totals.readings_dropped + missed.readings_dropped,
            )
            missed = Totals()
            seq += 1
            header = Header(
                gateway=self.gateway,
                stream=stream,
                epoch=self.epoch,
                seq=seq,
                prev=prev,
                kind=KIND_DATA if piece.payload.definitions is None else KIND_DEFINITIONS,
                flags=FLAG_VOLATILE if volatile else 0,
                payload_digest=sha256(piece.stored).digest(),
                payload_length=len(piece.stored),
                raw_length=piece.raw_length,
                codec=piece.codec,
                boot_id=moment.boot_id,
                boot_ns=moment.boot_ns,
                wall_ns=moment.wall_ns,
                clock=moment.clock,
                interval=_interval(piece.payload),
                frames=piece.payload.count_frames(),
                readings=readings,
                totals=totals,
                catalogue=digest,
            )
            blocks.append(Block(sign_header(header, self.signer), piece.stored))
            prev = blocks[-1].digest
        assert prev is not None
        return tuple(blocks), Head(self.epoch, seq, prev, totals, digest)


class _Refused:
    """What could not be encoded while sealing one batch."""

    def __init__(self, catalogue: Sequence[Layout], moment: Moment, epoch: bytes) -> None:
        self.events: list[Event] = []
        self.readings = 0
        self._catalogue = catalogue
        self._moment = moment
        self._epoch = epoch

    def add(self, payload: Payload, reason: str) -> None:
        """Count a payload of one entry, and say of which device it was and why."""
        index = (payload.frames or payload.changes)[0][0]
        self.readings += payload.count_readings(self._catalogue)
        seed = b"%b%d-%d" % (self._epoch, self._moment.boot_ns, len(self.events))
        data = (("link", self._catalogue[index].link), ("device", self._catalogue[index].device), ("reason", reason))
        self.events.append(Event("refused", self._moment.boot_ns, sha256(seed).digest()[:8], data))


def _payload(batch: Batch, catalogue: tuple[Layout, ...]) -> Payload:
    places = {layout: place for place, layout in enumerate(catalogue)}
    return Payload(
        frames=tuple(sorted((places[layout], tuple(frames)) for layout, frames in batch.frames.items() if frames)),
        changes=tuple(sorted((places[layout], tuple(changes)) for layout, changes in batch.changes.items() if changes)),
        events=tuple(batch.events),
    )


def _encoded(catalogue: tuple[Layout, ...]) -> bytes:
    return encode_catalogue(tuple(map(layout_id, catalogue)))


def _merged(parts: Sequence[Definitions]) -> Definitions | None:
    return (
        Definitions(tuple(layout for part in parts for layout in part.layouts), parts[-1].catalogue) if parts else None
    )


def _start(opening: Opening, head: Head | None, moment: Moment) -> Event:
    data = (
        ("boot", moment.boot_id),
        ("software", opening.software),
        ("hardware", opening.hardware),
        ("config", opening.config),
        ("predecessor", None if head is None else head.digest),
        ("known", "none" if head is None else opening.predecessor),
        ("keys", ()),
    )
    return Event("start", moment.boot_ns, opening.event_id, data)


def _interval(payload: Payload) -> tuple[int, int] | None:
    times = [frame[0] for _, frames in payload.frames for frame in frames]
    times += [change.t_boot_ns for _, changes in payload.changes for change in changes]
    times += [event.t_boot_ns for event in payload.events]
    return (min(times), max(times)) if times else None
