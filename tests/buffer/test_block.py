"""A block says what it is, is verified before it is believed, and bounded before it is unpacked."""

from dataclasses import replace
from hashlib import sha256

import pytest
import zstandard
from chains import Station, key, resigned

from buffer import cose
from buffer.block import (
    CODEC_NONE,
    CODEC_ZSTD,
    MAX_ENVELOPE,
    MAX_PAYLOAD,
    MAX_RAW,
    TYPE,
    Block,
    ClockQuality,
    check_payload,
    compress,
    decode_block,
    decode_header,
    encode_block,
    encode_header,
    open_envelope,
    payload_bytes,
    read_header,
    sign_header,
    trust,
)
from buffer.cbor import dumps, loads
from buffer.errors import BlockInvalid

KEYS = trust([key().public_key])
BLOCK = Station().blocks(2)[1]
HEADER = open_envelope(BLOCK.envelope, KEYS)


def reason(function, *arguments):
    """Give why bytes are refused."""
    with pytest.raises(BlockInvalid) as refused:
        function(*arguments)
    return refused.value.reason


def with_payload(raw, stored, codec=CODEC_ZSTD, **changes):
    """Give a block of other payload bytes, well signed."""
    changes = {"payload_digest": sha256(stored).digest(), "payload_length": len(stored), **changes}
    block = resigned(BLOCK, key(), raw_length=len(raw), codec=codec, **changes)
    return Block(block.envelope, stored)


def opened(block):
    """Give the payload of a block."""
    return payload_bytes(block, open_envelope(block.envelope, KEYS))


def test_a_header_comes_back_as_it_was():
    """Every field, and whose signature covers it."""
    full = replace(HEADER, prev=None, interval=None, clock=ClockQuality("unknown", None, ""), flags=1)
    assert open_envelope(sign_header(full, key()), KEYS) == replace(full, kid=key().kid)
    assert full.volatile
    assert not HEADER.volatile


def test_an_envelope_fits_the_size_that_was_reckoned_with():
    """About 350 bytes, whatever the numbers."""
    assert len(BLOCK.envelope) < 380


def test_a_block_comes_back_from_the_wire():
    """With and without its payload."""
    assert decode_block(encode_block(BLOCK)) == BLOCK
    hollow = Block(BLOCK.envelope, None)
    assert decode_block(encode_block(hollow)) == hollow
    assert hollow.size == len(BLOCK.envelope)
    assert hollow.digest == BLOCK.digest


@pytest.mark.parametrize("data", [dumps([]), dumps([b""]), dumps([b"", 1]), dumps([b"", b"", b""]), dumps({}), b"\xff"])
def test_what_is_not_a_block_is_refused(data):
    """An array of two byte strings, the second of which may be null."""
    assert reason(decode_block, data) == "block"


def test_a_block_beyond_the_bounds_is_not_even_decoded():
    """1 MiB of payload and 1 KiB of envelope."""
    assert reason(decode_block, bytes(MAX_ENVELOPE + MAX_PAYLOAD + 17)) == "block-size"
    assert reason(open_envelope, bytes(MAX_ENVELOPE + 1), KEYS) == "envelope-size"


def test_a_header_too_large_for_an_envelope_is_not_signed():
    """The writer keeps the bound that readers check."""
    with pytest.raises(ValueError, match="envelope"):
        sign_header(replace(HEADER, gateway="x" * 1000), key())


def test_another_key_or_type_is_refused():
    """Foreign devices, and pushes signed with our own key."""
    assert reason(open_envelope, sign_header(HEADER, key(2)), KEYS) == "foreign-key"
    push = cose.sign(encode_header(HEADER), "trambien-push", key().kid, key().sign)
    assert reason(open_envelope, push, KEYS) == "wrong-type"
    assert reason(read_header, b"\xa0") == "not-sign1"


def test_every_changed_byte_of_an_envelope_is_noticed():
    """No bit of it is free to be anything else."""
    for at in range(len(BLOCK.envelope)):
        changed = bytearray(BLOCK.envelope)
        changed[at] ^= 1
        assert reason(open_envelope, bytes(changed), KEYS)


def header_with(**changes):
    """Sign a header map some keys of which say something else."""
    fields = loads(encode_header(HEADER), "header")
    fields |= {int(name.removeprefix("k").replace("m", "-")): value for name, value in changes.items()}
    return cose.sign(
        dumps({name: value for name, value in fields.items() if value != "gone"}), TYPE, key().kid, key().sign
    )


def test_a_header_key_of_a_later_version_is_skipped():
    """It is covered by the signature, and means nothing to us."""
    assert open_envelope(header_with(k21="later"), KEYS) == HEADER


def test_a_negative_header_key_means_do_not_interpret():
    """A later version may change the meaning of everything else."""
    assert reason(open_envelope, header_with(km1=0), KEYS) == "do-not-interpret"


def test_another_version_is_not_interpreted():
    """It is named, so that a person knows what to do."""
    assert reason(open_envelope, header_with(k0=0), KEYS) == "version"


@pytest.mark.parametrize(
    "changes",
    [
        {"k20": "gone"},
        {"k0": True},
        {"k1": "x" * 64},
        {"k1": b"x"},
        {"k3": b"short"},
        {"k4": -1},
        {"k4": 1 << 40},
        {"k5": b""},
        {"k8": None},
        {"k9": MAX_PAYLOAD + 1},
        {"k10": MAX_RAW + 1},
        {"k12": b""},
        {"k14": None},
        {"k15": []},
        {"k15": ["x" * 33, None, ""]},
        {"k15": ["x", -1, ""]},
        {"k16": [1]},
        {"k16": [1, None]},
        {"k19": [1, 2]},
        {"k19": [1, 2, 1 << 63]},
    ],
)
def test_a_malformed_header_is_refused_though_well_signed(changes):
    """A key that is trusted may still be in the hands of a bug."""
    assert reason(open_envelope, header_with(**changes), KEYS) == "header"


def test_a_header_that_is_no_map_is_refused():
    """Signed bytes can be anything."""
    assert reason(decode_header, b"\x80", b"") == "header"
    assert reason(decode_header, b"", b"") == "header"


@pytest.mark.parametrize("size", [1, 50, 5000])
def test_what_does_not_compress_is_kept_as_it_is(size):
    """Never larger than raw."""
    noise = b"".join(sha256(bytes([at % 256, at // 256])).digest() for at in range(size))[:size]
    codec, stored = compress(noise, [size // 2])
    assert (codec, stored) == (CODEC_NONE, noise)
    assert opened(with_payload(noise, stored, codec)) == noise


def test_a_cut_makes_a_difference_that_readers_need_not_know():
    """One zstd frame in any case."""
    raw = bytes(range(256)) * 4 + bytes(4000)
    codec, stored = compress(raw, [1024])
    assert codec == CODEC_ZSTD
    assert opened(with_payload(raw, stored)) == raw


def test_an_evicted_payload_is_said_to_be_so():
    """It is a signed hole, not damage."""
    assert reason(payload_bytes, Block(BLOCK.envelope, None), HEADER) == "evicted"


def test_a_changed_payload_is_noticed_before_it_is_unpacked():
    """Length, then digest."""
    assert reason(check_payload, Block(BLOCK.envelope, BLOCK.payload + b"\0"), HEADER) == "payload-length"
    assert reason(check_payload, Block(BLOCK.envelope, bytes(len(BLOCK.payload))), HEADER) == "payload-digest"


def test_an_unknown_codec_is_refused():
    """Later versions may have more."""
    assert reason(opened, with_payload(b"x", b"x", codec=7)) == "codec"


@pytest.mark.parametrize("sized", [True, False])
def test_a_payload_that_unpacks_to_more_than_it_says_is_refused(sized):
    """Whether its frame admits it or not."""
    bomb = zstandard.ZstdCompressor(write_content_size=sized).compress(bytes(1 << 20))
    assert reason(opened, with_payload(b"x" * 100, bomb)) == "compressed"


@pytest.mark.parametrize(
    "stored", [b"noise", zstandard.compress(b"a" * 50), zstandard.compress(b"a" * 100) + b"\0", b""]
)
def test_a_payload_that_does_not_unpack_to_what_it_says_is_refused(stored):
    """Noise, too little, or something behind it."""
    assert reason(opened, with_payload(b"a" * 100, stored)) == "compressed"
