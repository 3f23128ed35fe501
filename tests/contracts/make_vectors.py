"""Makes the test vectors of the block format: `python tests/contracts/make_vectors.py` writes `vectors/*.json`.

What is always true here: fixed keys, times and values; the same vectors byte for byte whenever it runs with the pinned
compressor. Whoever writes a reader in another language checks it against these files alone. What JSON would bend stands
as text: integers beyond 2^53 in decimal, floats as the 16 hex digits of their 64 bits, bytes as hex.
"""

import json
import struct
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chains import METER, SECOND, Station, batch, event, key, resigned
from contracts.make_chains import KEY, chains
from contracts.make_times import times

from buffer import cose
from buffer.block import (
    TYPE,
    Block,
    encode_block,
    encode_header,
    open_envelope,
    read_header,
    sign_header,
    trust,
)
from buffer.cbor import dumps, loads
from buffer.columnar import encode_payload
from buffer.frame import Change, Column, Frame, Layout, fault_frame
from buffer.layout import KINDS, catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.seal import Batch
from buffer.verify import payload_of

FOLDER = Path(__file__).parent / "vectors"
EVERY_KIND = Layout("link", "every-kind", "simulated", None, tuple(Column(f"a-{kind}", kind) for kind in KINDS))
ROWS = (
    (True, -128, 255, -32768, 65535, -(2**31), 2**32 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e300, "nước", b"\0\xff"),
    (False, 127, 0, 32767, 0, 2**31 - 1, 0, 2**63 - 1, 0, float("inf"), 1.5, float("-inf"), "", b""),
    (None, -1, None, 1, None, 1, None, 1, None, 2.0, None, 3.0, None, None),
)


def example():
    """Give the parts of the worked example of FORMAT.md, in the order in which they stand there."""
    station = Station(opening=None)
    definitions = station.seal(Batch())
    (block,) = station.seal(batch(20)).blocks
    header = read_header(block.envelope)
    catalogue = encode_catalogue((layout_id(METER),))
    protected = cose.protected_header(KEY.kid, TYPE)
    return {
        "private key seed": bytes([1]) * 32,
        "public key": KEY.public_key,
        "kid": KEY.kid,
        "layout": encode_layout(METER),
        "layout id": layout_id(METER),
        "catalogue": catalogue,
        "catalogue digest": catalogue_digest(catalogue),
        "predecessor envelope": definitions.blocks[0].envelope,
        "payload": encode_payload(payload_of(block, header, [METER]), [METER]),
        "payload as stored": block.payload,
        "header": encode_header(header),
        "protected header": protected,
        "to be signed": cose.to_be_signed(protected, encode_header(header)),
        "envelope": block.envelope,
        "digest": block.digest,
        "block on the wire": encode_block(block),
    }


def plain(value):
    """Give a value as JSON can carry it."""
    if isinstance(value, float):
        return {"float64": struct.pack(">d", value).hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple | list):
        return [plain(member) for member in value]
    return str(value) if type(value) is int and abs(value) >= 1 << 53 else value


def decoded(block, layouts):
    """Give header and contents of a block as JSON."""
    header = open_envelope(block.envelope, trust([KEY.public_key]))
    fields = {name: plain(getattr(header, name)) for name in type(header).__slots__}
    if block.payload is None:
        return {"header": fields, "payload": None}
    payload = payload_of(block, header, layouts)
    definitions = payload.definitions and {
        "layouts": plain(payload.definitions.layouts),
        "catalogue": plain(payload.definitions.catalogue),
    }
    return {
        "header": fields,
        "payload": {
            "frames": [[index, plain(members)] for index, members in payload.frames],
            "changes": [[index, plain(members)] for index, members in payload.changes],
            "events": [plain([e.type, e.t_boot_ns, e.id, e.data]) for e in payload.events],
            "definitions": definitions,
        },
    }


def valid():
    """Give blocks that must be read, with what is in them."""
    found = []

    def add(name, block, *layouts):
        ids = [encode_layout(layout).hex() for layout in layouts]
        found.append({"name": name, "block": encode_block(block).hex(), "layouts": ids, **decoded(block, layouts)})

    station = Station()
    for name, block in zip(("definitions and start", "two frames"), station.seal().blocks, strict=True):
        add(name, block, METER)
    (many,) = station.seal(batch(1, frames=60)).blocks
    add("sixty frames, compressed", many, METER)
    add("evicted", Block(many.envelope, None), METER)
    add("empty", station.seal(Batch()).blocks[0], METER)

    kinds = Batch()
    for at, row in enumerate(ROWS):
        kinds.add_frame(EVERY_KIND, Frame(at * 1_000_001, 17, row))
    kinds.add_frame(EVERY_KIND, Frame(5, 6, ROWS[0], (0, 0x40940000, *[0x80000000] * 12)))
    for at in range(3):
        kinds.add_frame(EVERY_KIND, fault_frame(EVERY_KIND, at * SECOND, 0x800A0000))
    add("every kind, absent values, statuses", station.seal(kinds, catalogue=(EVERY_KIND,)).blocks[-1], EVERY_KIND)

    pushed = Batch()
    pushed.add_frame(METER, Frame(7 * SECOND, 0, (1, 2.0)))
    changes = [
        Change(4, 1_700_000_000_123_456_789, 2 * SECOND, 7),
        Change(12, None, 2 * SECOND + 1, "Đóng", 0, True),
        Change(4, 1_700_000_000_223_456_789, 3 * SECOND, 5, 0x40940000),
        Change(4, None, 3 * SECOND, None, 0x80000000),
        Change(0, -1, 4 * SECOND, True),
    ]
    pushed.add_changes(EVERY_KIND, changes)
    pushed.events = [event(), replace(event(2), type="x", data=(("list", (1, 2.5, "ă", b"b", None, True, ())),))]
    both = (METER, EVERY_KIND)
    *_, told, read = station.seal(pushed, catalogue=both).blocks
    add("events", told, *both)
    add("changes and a frame", read, *both)
    return found


def invalid():
    """Give blocks that must be refused, with the reason."""
    station = Station()
    block = station.blocks(2)[1]
    fields = dict(enumerate(decode_fields(block)))

    def signed(entries):
        return Block(cose.sign(dumps(entries), TYPE, KEY.kid, KEY.sign), block.payload)

    other = key(2)
    push = cose.sign(encode_header(read_header(block.envelope)), "trambien-push", KEY.kid, KEY.sign)
    cases = {
        "bad-signature": Block(block.envelope[:-1] + bytes([block.envelope[-1] ^ 1]), block.payload),
        "foreign-key": Block(sign_header(read_header(block.envelope), other), block.payload),
        "wrong-type": Block(push, block.payload),
        "not-sign1": Block(block.envelope + b"\0", block.payload),
        "envelope-size": Block(bytes(1025), block.payload),
        "version": signed(fields | {0: 2}),
        "do-not-interpret": signed({-1: 0} | fields),
        "header": signed({name: value for name, value in fields.items() if name != 20}),
        "payload-digest": Block(block.envelope, block.payload[:-1] + bytes([block.payload[-1] ^ 1])),
        "payload-length": Block(block.envelope, block.payload + b"\0"),
        "codec": resigned(block, KEY, codec=9),
        "compressed": with_payload(block, b"noise", codec=1),
        "evicted": Block(block.envelope, None),
        "lanes": with_payload(block, dumps({0: b"", 1: [1, [0], 1, {}, {}]})),
        "unknown-layout": with_payload(block, dumps({0: b"", 1: [1, [1], 1, {}, {}]})),
        "too-many-readings": with_payload(block, dumps({0: b"", 1: [1, [0], 1 << 20, {}, {}]})),
        "payload": with_payload(block, b"\xa1\x00"),
    }
    layouts = [encode_layout(METER).hex()]
    return [
        {"name": reason, "block": encode_block(case).hex(), "layouts": layouts, "reason": reason}
        for reason, case in cases.items()
    ]


def decode_fields(block):
    """Give the values of a block's header, in the order of their keys."""
    return loads(encode_header(read_header(block.envelope)), "header").values()


def with_payload(block, raw, codec=0):
    """Give a block that holds these bytes as they are, well signed."""
    digest = sha256(raw).digest()
    changed = resigned(block, KEY, payload_digest=digest, payload_length=len(raw), raw_length=len(raw), codec=codec)
    return Block(changed.envelope, raw)


def vectors():
    """Give every file's content by its name."""
    made = {
        "key.json": {"seed": "01" * 32, "public_key": KEY.public_key.hex(), "kid": KEY.kid.hex()},
        "valid.json": valid(),
        "invalid.json": invalid(),
        "chains.json": chains(),
        "times.json": times(),
    }
    return {name: json.dumps(content, ensure_ascii=False, indent=1) + "\n" for name, content in made.items()}


def main():
    """Write the vectors."""
    for name, text in vectors().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
