"""B6: verify before decompress, and every size is bounded before it is allocated."""

import tracemalloc
from hashlib import sha256

import pytest
import zstandard
from chains import METER, Station, key, resigned

from buffer import block as block_module
from buffer.block import CODEC_ZSTD, MAX_ENVELOPE, MAX_RAW, Block, decode_block, open_envelope, payload_bytes, trust
from buffer.cbor import dumps
from buffer.columnar import decode_payload
from buffer.errors import BlockInvalid
from buffer.verify import Verifier, payload_of

KEYS = trust([key().public_key])
MEBIBYTE = 1 << 20


def peak_of(function, *arguments):
    """Give the most bytes that were allocated while bytes were being refused."""
    tracemalloc.start()
    with pytest.raises(BlockInvalid):
        function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.fixture
def unpacked(monkeypatch):
    """Give the list of what was given to the decompressor."""
    seen = []
    real = block_module._decompress
    monkeypatch.setattr(block_module, "_decompress", lambda *args: seen.append(args) or real(*args))
    return seen


def test_a_bad_signature_is_never_decompressed(unpacked):
    """Nothing of it is even interpreted."""
    good = Station().blocks(2)[1]
    envelope = good.envelope[:-1] + bytes([good.envelope[-1] ^ 1])
    with pytest.raises(BlockInvalid):
        payload_of(Block(envelope, good.payload), open_envelope(envelope, KEYS), [METER])
    Verifier([key().public_key]).feed(envelope, good.payload)
    assert unpacked == []


def test_a_payload_of_another_digest_is_never_decompressed(unpacked):
    """It is not the one that was signed."""
    good = Station().blocks(2)[1]
    header = open_envelope(good.envelope, KEYS)
    for payload in (good.payload[:-1] + b"\0", good.payload + b"\0", b""):
        with pytest.raises(BlockInvalid):
            payload_bytes(Block(good.envelope, payload), header)
    assert unpacked == []
    payload_bytes(good, header)
    assert len(unpacked) == 1


def test_the_verifier_decompresses_layouts_and_events_alone(unpacked):
    """A chain is proven by envelopes, digests, and what proven events say of its holes; never by readings."""
    verifier = Verifier([key().public_key])
    definitions, *read = Station().blocks(5)
    for block in read:
        verifier.feed(block.envelope, block.payload)
    assert unpacked == []
    verifier.feed(definitions.envelope, definitions.payload)
    assert (verifier.report().verdict, len(unpacked)) == ("complete", 1)


def test_the_verifier_decompresses_nothing_that_is_not_proven(unpacked):
    """A wrong signature, a wrong digest."""
    verifier = Verifier([key().public_key])
    definitions = Station().blocks(1)[0]
    verifier.feed(definitions.envelope[:-1] + b"x", definitions.payload)
    verifier.feed(definitions.envelope, bytes(len(definitions.payload)))
    assert unpacked == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_bomb_does_not_unpack_beyond_what_it_declares(sized):
    """Even one that a trusted key signed."""
    bomb = zstandard.ZstdCompressor(write_content_size=sized).compress(bytes(512 * MEBIBYTE))
    good = Station().blocks(2)[1]
    signed = resigned(
        good, key(), payload_digest=sha256(bomb).digest(), payload_length=len(bomb), raw_length=1000, codec=CODEC_ZSTD
    )
    header = open_envelope(signed.envelope, KEYS)
    assert peak_of(payload_bytes, Block(signed.envelope, bomb), header) < MEBIBYTE


def test_a_declared_size_beyond_the_bound_is_refused_with_the_header():
    """Before anyone could believe it."""
    good = Station().blocks(2)[1]
    signed = resigned(good, key(), raw_length=MAX_RAW + 1)
    with pytest.raises(BlockInvalid):
        open_envelope(signed.envelope, KEYS)


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x5b" + b"\x7f" * 8,
        b"\x82\x9b" + b"\x7f" * 8,
        b"\xbb" + b"\x7f" * 8,
        b"\x9b" + b"\x00\x00\x00\x00\x7f\xff\xff\xff",
        b"\x81" * 100_000,
    ],
)
def test_a_length_is_not_believed_before_its_bytes_are_there(data):
    """An array of billions, a string of terabytes, a tower of arrays."""
    assert peak_of(decode_block, data) < 2 * MEBIBYTE
    assert peak_of(decode_payload, data, [METER]) < 2 * MEBIBYTE


def test_an_envelope_beyond_the_bound_is_not_parsed():
    """1 KiB, whatever is in it."""
    with pytest.raises(BlockInvalid) as refused:
        open_envelope(bytes(MAX_ENVELOPE + 1), KEYS)
    assert refused.value.reason == "envelope-size"


@pytest.mark.parametrize(
    "body",
    [
        {0: b"", 1: [1, [0], 1 << 50, {}, {}]},
        {0: b"", 1: [1, [0], [1 << 19], {}, {}]},
        {0: b"", 1: [1, [0] * 100_000, 1, {}, {}]},
        {0: b"", 2: [1, 1, [[0, 1 << 50, b"", None, None, None, None, []]]]},
    ],
)
def test_counts_are_checked_against_the_bytes_before_anything_is_made_of_them(body):
    """A payload of a few bytes cannot claim millions of readings."""
    assert peak_of(decode_payload, dumps(body), [METER]) < 64 * MEBIBYTE
