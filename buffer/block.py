"""The block: a signed header that names the payload and the previous block by hash, and the payload itself.

What is always true here:

- What was signed is what is stored is what is sent is what the auditor verifies: an envelope (COSE_Sign1, type
  `trambien-block`, whose content is the header) and payload bytes as they were compressed. Neither is ever made again.
- A block's digest is the SHA-256 of its envelope. The header holds its predecessor's digest and the payload's, so a
  block whose payload is gone still proves that, and of what, there was one.
- Its identity is (kid, stream, epoch, seq). Within an epoch seq grows by one, and goes on over epochs.
- Verify before interpret, digest before decompress, and every size bounded before it is allocated: envelope 1 KiB,
  payload 1 MiB, decompressed 8 MiB.
- A header key of a later version is covered by the signature and skipped; a negative one means "do not interpret".

`FORMAT.md` gives every byte. Anyone may enter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from threading import get_ident
from typing import Any, NamedTuple, Protocol

import zstandard

from buffer import cose
from buffer.cbor import dumps, expect, fields, instant, loads, natural
from buffer.columnar import MAX_READINGS
from buffer.errors import BlockInvalid

VERSION = 1
TYPE = "trambien-block"

KIND_DATA, KIND_DEFINITIONS, KIND_EVENTS = 0, 1, 2
"""What a payload is: readings, which may be evicted; layouts and events, which explain the chain and stay longer."""
FLAG_VOLATILE = 1
CODEC_NONE, CODEC_ZSTD = 0, 1

MAX_ENVELOPE = 1 << 10
MAX_PAYLOAD = 1 << 20
MAX_RAW = 8 << 20
MAX_SEQ = (1 << 40) - 1
MAX_NAME = 63
MAX_CLOCK_TEXT = 32
_MAX_COUNT = (1 << 63) - 1
_WIRE_HEADS = 16

ZSTD_LEVEL = 3
_WORTH_A_CUT = 128
"""A stream shorter than this is not worth a table of its own."""


class ClockQuality(NamedTuple):
    """What was known of the wall clock.

    `quality` is `synchronised`, `holdover` (it was, earlier in this boot), `unsynchronised` or `unknown`;
    `max_error_ns` is a bound, or None where none is known.
    """

    quality: str
    max_error_ns: int | None
    source: str


class Totals(NamedTuple):
    """Since the stream began, this block included."""

    readings: int = 0
    ticks_missed: int = 0
    readings_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What is signed. Times in nanoseconds; digests are SHA-256; `prev` is None in the first block of a stream.

    `interval` is the first and last boot time inside, None where there is none. `kid` is whose signature covers it: it
    stands in the envelope's protected header and is filled when an envelope is opened.
    """

    gateway: str
    stream: str
    epoch: bytes
    seq: int
    prev: bytes | None
    kind: int
    flags: int
    payload_digest: bytes
    payload_length: int
    raw_length: int
    codec: int
    boot_id: bytes
    boot_ns: int
    wall_ns: int
    clock: ClockQuality
    interval: tuple[int, int] | None
    frames: int
    readings: int
    totals: Totals
    catalogue: bytes
    version: int = VERSION
    kid: bytes = b""

    @property
    def volatile(self) -> bool:
        """Say whether the block was sealed while the store could not commit."""
        return bool(self.flags & FLAG_VOLATILE)


@dataclass(frozen=True, slots=True)
class Block:
    """A signed envelope and its payload, None where the payload was evicted."""

    envelope: bytes
    payload: bytes | None

    @property
    def digest(self) -> bytes:
        """What the successor's header names this block by."""
        return sha256(self.envelope).digest()

    @property
    def size(self) -> int:
        """Bytes of both parts."""
        return len(self.envelope) + len(self.payload or b"")


class Signing(Protocol):
    """The part of a signer that a block needs."""

    @property
    def kid(self) -> bytes:
        """The key's thumbprint."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign bytes."""
        ...


def trust(public_keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Index raw public keys by their thumbprint, as `open_envelope` wants them."""
    return {cose.thumbprint(key): key for key in public_keys}


def sign_header(header: Header, signer: Signing) -> bytes:
    """Give the envelope. Raises ValueError beyond the bounds of the format."""
    envelope = cose.sign(encode_header(header), TYPE, signer.kid, signer.sign)
    if len(envelope) > MAX_ENVELOPE:
        raise ValueError(f"envelope of {len(envelope)} bytes, at most {MAX_ENVELOPE} are allowed")
    return envelope


def open_envelope(envelope: bytes, public_keys: Mapping[bytes, bytes]) -> Header:
    """Verify, then interpret. `public_keys` are raw keys by thumbprint. Raises BlockInvalid.

    Reasons of a bad envelope: envelope-size, not-sign1, wrong-type, foreign-key, bad-signature; of one that is well
    signed and cannot be read: header, version, do-not-interpret.
    """
    if len(envelope) > MAX_ENVELOPE:
        raise BlockInvalid("envelope-size")
    try:
        signed = cose.verify(envelope, public_keys, TYPE)
    except cose.SignatureRefused as refused:
        raise BlockInvalid(refused.reason) from refused
    return decode_header(signed.payload, signed.kid)


def read_header(envelope: bytes) -> Header:
    """Interpret an envelope without verifying it: for blocks that this process sealed, or proved, itself."""
    try:
        signed = cose.unverified(envelope)
    except cose.SignatureRefused as refused:
        raise BlockInvalid(refused.reason) from refused
    return decode_header(signed.payload, signed.kid)


def encode_header(header: Header) -> bytes:
    """Encode a header as the deterministic CBOR map that is signed."""
    values = (
        header.version,
        header.gateway,
        header.stream,
        header.epoch,
        header.seq,
        header.prev,
        header.kind,
        header.flags,
        header.payload_digest,
        header.payload_length,
        header.raw_length,
        header.codec,
        header.boot_id,
        header.boot_ns,
        header.wall_ns,
        list(header.clock),
        None if header.interval is None else list(header.interval),
        header.frames,
        header.readings,
        list(header.totals),
        header.catalogue,
    )
    return dumps(dict(enumerate(values)))


_FIELDS = 21


def decode_header(data: bytes, kid: bytes) -> Header:
    """Undo `encode_header`; raises BlockInvalid."""
    entries = fields(loads(data, "header"), _FIELDS, "header")
    if expect(entries.get(0), int, "header") != VERSION:
        raise BlockInvalid("version")
    if len(entries) != _FIELDS:
        raise BlockInvalid("header")
    return Header(
        gateway=_name(entries[1], MAX_NAME),
        stream=_name(entries[2], MAX_NAME),
        epoch=_bytes(entries[3], 8),
        seq=_seq(entries[4]),
        prev=None if entries[5] is None else _bytes(entries[5], 32),
        kind=_count(entries[6]),
        flags=_count(entries[7]),
        payload_digest=_bytes(entries[8], 32),
        payload_length=natural(entries[9], MAX_PAYLOAD, "header"),
        raw_length=natural(entries[10], MAX_RAW, "header"),
        codec=_count(entries[11]),
        boot_id=_bytes(entries[12], 16),
        boot_ns=_count(entries[13]),
        wall_ns=instant(entries[14], "header"),
        clock=_clock(entries[15]),
        interval=_interval(entries[16]),
        frames=natural(entries[17], MAX_READINGS, "header"),
        readings=natural(entries[18], MAX_READINGS, "header"),
        totals=Totals(*map(_count, _list(entries[19], 3))),
        catalogue=_bytes(entries[20], 32),
        kid=kid,
    )


def encode_block(block: Block) -> bytes:
    """Encode a block for the wire."""
    return dumps([block.envelope, block.payload])


def decode_block(data: bytes) -> Block:
    """Decode a block from the wire, nothing of it verified; raises BlockInvalid."""
    if len(data) > MAX_ENVELOPE + MAX_PAYLOAD + _WIRE_HEADS:
        raise BlockInvalid("block-size")
    match loads(data, "block"):
        case [bytes(envelope), bytes() | None as payload]:
            return Block(envelope, payload)
    raise BlockInvalid("block")


def compress(raw: bytes, cuts: Sequence[int] = ()) -> tuple[int, bytes]:
    """Give codec and payload: one zstd frame, or the bytes as they are where that is no longer.

    A new zstd block begins at every cut that has enough behind it, so that streams of a different nature do not share
    one table. Readers need not know.
    """
    chunker = _compressor(get_ident()).compressobj()
    edges = [0, *cuts, len(raw)]
    out = []
    for start, end in pairwise(edges):
        out.append(chunker.compress(raw[start:end]))
        if end - start >= _WORTH_A_CUT and end != len(raw):
            out.append(chunker.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    out.append(chunker.flush())
    packed = b"".join(out)
    return (CODEC_ZSTD, packed) if len(packed) < len(raw) else (CODEC_NONE, raw)


@lru_cache(maxsize=4)
def _compressor(thread: int) -> zstandard.ZstdCompressor:  # noqa: ARG001  one thread, one compressor
    """Keep the working memory: to get a megabyte anew costs more than to compress a second's readings."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=False)


def payload_bytes(block: Block, header: Header) -> bytes:
    """Give the decompressed payload of a block whose envelope was opened; raises BlockInvalid.

    Reasons: evicted, payload-length, payload-digest, codec, compressed.
    """
    stored = check_payload(block, header)
    if header.codec == CODEC_NONE:
        raw = stored
    elif header.codec == CODEC_ZSTD:
        raw = _decompress(stored, header.raw_length)
    else:
        raise BlockInvalid("codec")
    if len(raw) != header.raw_length:
        raise BlockInvalid("compressed")
    return raw


def check_payload(block: Block, header: Header) -> bytes:
    """Give the payload as stored if it is the one that the header names; raises BlockInvalid."""
    if block.payload is None:
        raise BlockInvalid("evicted")
    if len(block.payload) != header.payload_length:
        raise BlockInvalid("payload-length")
    if sha256(block.payload).digest() != header.payload_digest:
        raise BlockInvalid("payload-digest")
    return block.payload


def _decompress(stored: bytes, raw_length: int) -> bytes:
    try:
        if zstandard.frame_content_size(stored) > raw_length:
            raise BlockInvalid("compressed")
        reader = zstandard.ZstdDecompressor(max_window_size=MAX_RAW)
        return reader.decompress(stored, max_output_size=max(raw_length, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BlockInvalid("compressed") from error


def _name(value: Any, longest: int) -> str:
    text = expect(value, str, "header")
    if len(text) > longest:
        raise BlockInvalid("header")
    return text


def _bytes(value: Any, length: int) -> bytes:
    data = expect(value, bytes, "header")
    if len(data) != length:
        raise BlockInvalid("header")
    return data


def _seq(value: Any) -> int:
    seq = natural(value, MAX_SEQ, "header")
    if seq == 0:
        raise BlockInvalid("header")
    return seq


def _count(value: Any) -> int:
    return natural(value, _MAX_COUNT, "header")


def _list(value: Any, length: int) -> list[Any]:
    members = expect(value, list, "header")
    if len(members) != length:
        raise BlockInvalid("header")
    return members


def _clock(value: Any) -> ClockQuality:
    quality, max_error, source = _list(value, 3)
    bound = None if max_error is None else _count(max_error)
    return ClockQuality(_name(quality, MAX_CLOCK_TEXT), bound, _name(source, MAX_CLOCK_TEXT))


def _interval(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    first, last = (instant(member, "header") for member in _list(value, 2))
    return first, last
