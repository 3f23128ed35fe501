"""Payloads become bytes that fit a block: encoded, compressed, divided where too large, without what cannot be encoded.

What is always true here:

- Every entry given is in exactly one piece, in order, or is refused: counted, and named by an event.
- No piece is larger than `room`, unless it holds a single entry; none passes the bounds of the format.

The sealer enters.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from buffer.block import MAX_PAYLOAD, MAX_RAW, compress
from buffer.columnar import Payload, encode_with_cuts
from buffer.frame import Event, Layout
from buffer.split import divide, entries

_SPARE = 0.9
"""Part of the room that a divided piece should fill: its own tables and heads cost something too."""


class Piece(NamedTuple):
    """A payload and its bytes."""

    payload: Payload
    codec: int
    stored: bytes
    raw_length: int


class Packer:
    """Packs the payloads of one seal. `refused` are events about, `dropped` readings of, what could not be packed."""

    def __init__(self, catalogue: Sequence[Layout], room: int, boot_ns: int, seed: bytes) -> None:
        self._catalogue = catalogue
        self._room = min(room, MAX_PAYLOAD)
        self._boot_ns = boot_ns
        self._seed = seed
        self.refused: list[Event] = []
        self.dropped = 0

    def pack(self, payload: Payload) -> list[Piece]:
        """Pack a payload into one piece or more. One that has no entry and cannot be encoded raises ValueError."""
        try:
            raw, cuts = encode_with_cuts(payload, self._catalogue)
        except ValueError as error:
            return self._without(payload, error)
        codec, stored = compress(raw, cuts)
        if len(stored) <= self._room and len(raw) <= MAX_RAW:
            return [Piece(payload, codec, stored, len(raw))]
        if entries(payload) > 1:
            return self._parts(payload, 1 + max(int(len(stored) / self._room / _SPARE), len(raw) // MAX_RAW))
        if len(stored) <= MAX_PAYLOAD and len(raw) <= MAX_RAW:
            return [Piece(payload, codec, stored, len(raw))]
        return self._without(payload, ValueError("too large"))

    def _parts(self, payload: Payload, parts: int) -> list[Piece]:
        return [piece for part in divide(payload, max(2, parts)) for piece in self.pack(part)]

    def _without(self, payload: Payload, error: ValueError) -> list[Piece]:
        """Leave out the one entry that cannot be packed, or look for it in halves."""
        count = entries(payload)
        if not count:
            raise error
        if count > 1:
            return self._parts(payload, 2)
        self._refuse(payload, str(error))
        rest = replace(payload, frames=(), changes=(), events=())
        return self.pack(rest) if rest.definitions else []

    def _refuse(self, payload: Payload, reason: str) -> None:
        self.dropped += payload.count_readings(self._catalogue)
        identity = sha256(self._seed + len(self.refused).to_bytes(4, "big")).digest()[:8]
        layouts = [self._catalogue[index] for index, _ in (*payload.frames, *payload.changes)]
        subject = [("link", layout.link) for layout in layouts] + [("device", layout.device) for layout in layouts]
        data = (*subject, *(("event", event.type[:64]) for event in payload.events), ("reason", reason[:200]))
        self.refused.append(Event("refused", self._boot_ns, identity, data))
