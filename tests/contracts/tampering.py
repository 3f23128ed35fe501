"""What somebody may do to a chain of blocks: each changes a list of encoded blocks at a place, by chance."""

from dataclasses import replace

from chains import key, resigned
from contracts.make_chains import KEY

from buffer import cose
from buffer.block import (
    TYPE,
    Block,
    Totals,
    decode_block,
    encode_block,
    encode_header,
    read_header,
)
from buffer.errors import BlockInvalid


def flip(blocks, at, chance):
    """Change one bit, anywhere in the file."""
    data = bytearray(blocks[at])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    blocks[at] = bytes(data)


def flip_in_envelope(blocks, at, chance):
    """Change one bit of the envelope: most of a file is payload."""
    data = bytearray(blocks[at])
    data[chance.randrange(min(360, len(data)))] ^= 1 << chance.randrange(8)
    blocks[at] = bytes(data)


def truncate(blocks, at, chance):
    """Cut a file off."""
    blocks[at] = blocks[at][: chance.randrange(len(blocks[at]))]


def lengthen(blocks, at, chance):
    """Add bytes behind the end."""
    blocks[at] += chance.randbytes(chance.randrange(1, 9))


def delete(blocks, at, chance):
    """Take up to three blocks away."""
    del blocks[at : at + chance.randrange(1, 4)]


def swap(blocks, at, chance):
    """Give one block the payload of another."""
    other = (at + chance.randrange(1, 4)) % len(blocks)
    try:
        payload = decode_block(blocks[other]).payload
    except BlockInvalid:
        payload = b""
    blocks[at] = encode_block(Block(decode_block(blocks[at]).envelope, payload))


def reorder(blocks, at, chance):
    """Put two blocks in each other's place: no damage."""
    other = chance.randrange(len(blocks))
    blocks[at], blocks[other] = blocks[other], blocks[at]


def duplicate(blocks, at, chance):
    """Repeat a block elsewhere: no damage."""
    blocks.insert(chance.randrange(len(blocks) + 1), blocks[at])


def duplicate_damaged(blocks, at, chance):
    """Repeat a block with one bit changed."""
    blocks.insert(chance.randrange(at, len(blocks)) + 1, blocks[at])
    flip(blocks, at, chance)


def evict(blocks, at, chance):
    """Take the payload away: no damage."""
    blocks[at] = encode_block(Block(decode_block(blocks[at]).envelope, None))


def edits(header, chance):
    """Give a change of one field of a header."""
    number = chance.randrange(1, 1 << 20)
    return chance.choice(
        (
            {"seq": header.seq + chance.choice((-1, 1, 7)) or 1},
            {"prev": chance.choice((None, chance.randbytes(32)))},
            {"epoch": chance.randbytes(8)},
            {"gateway": "station-2"},
            {"stream": "third"},
            {"wall_ns": header.wall_ns + number},
            {"readings": number},
            {"totals": header.totals._replace(readings=number)},
            {"totals": Totals(header.totals.readings, 0, 0)},
            {"payload_length": number},
            {"payload_digest": chance.randbytes(32)},
            {"catalogue": chance.randbytes(32)},
            {"flags": number},
            {"kind": number},
        )
    )


def edit(blocks, at, chance):
    """Change a field of a header and leave the signature."""
    block = decode_block(blocks[at])
    header = read_header(block.envelope)
    changed = encode_header(replace(header, **edits(header, chance)))
    envelope = cose.assemble(cose.protected_header(KEY.kid, TYPE), {}, changed, block.envelope[-64:])
    blocks[at] = encode_block(Block(envelope, block.payload))


def edit_and_sign(blocks, at, chance):
    """Change a field of a header with the stolen key."""
    block = decode_block(blocks[at])
    blocks[at] = encode_block(resigned(block, KEY, **edits(read_header(block.envelope), chance)))


def sign_with_another_key(blocks, at, chance):
    """Sign a block with a key that nobody trusts."""
    blocks[at] = encode_block(resigned(decode_block(blocks[at]), key(2)))


HARMLESS = (reorder, duplicate, evict)
UNSIGNED = (flip, flip_in_envelope, truncate, lengthen, delete, swap, edit, duplicate_damaged, sign_with_another_key)
