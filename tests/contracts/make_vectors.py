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

from chains import METER, SECOND, Station, batch, event, key, moment, resigned
from contracts.make_times import times

from buffer import cose
from buffer.block import (
    TYPE,
    Block,
    Totals,
    encode_block,
    encode_header,
    open_envelope,
    read_header,
    sign_header,
    trust,
)
from buffer.cbor import dumps, loads
from buffer.columnar import encode_payload
from buffer.frame import Change, Column, Event, Frame, Layout, fault_frame
from buffer.layout import KINDS, catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.rotation import TYPE as STATEMENT
from buffer.rotation import sign_statement
from buffer.seal import Batch
from buffer.verify import Verifier, payload_of

FOLDER = Path(__file__).parent / "vectors"
KEY = key()
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


def chains():
    """Give sequences of blocks, with what a verifier must say of them."""
    station = Station()
    good = station.blocks(5)
    clone = Station(epoch=b"F" * 8, heads=dict(station.heads))
    after, forked = station.blocks(2), clone.blocks(1)
    late = resigned(good[4], KEY, totals=Totals(999, 0, 0))
    cases = {
        "complete": good,
        "over two epochs": good + forked,
        "in another order": [good[3], good[1], good[0], good[4], good[2]],
        "repeated": good + good[1:3],
        "withheld": [Block(block.envelope, None) for block in good],
        "dropped": good[:2] + good[3:],
        "dropped at the beginning": good[1:],
        "edited payload": [*good[:2], Block(good[2].envelope, b"x"), *good[3:]],
        "edited and signed again": [*good[:2], resigned(good[2], KEY, wall_ns=0), *good[3:]],
        "forked": good + after + forked,
        "totals": [*good[:4], late],
        "nothing": [],
        **holes(),
        **branches(),
    }
    return [chain_case(name, blocks) for name, blocks in (cases | key_chains()).items()]


def rotation_event(statement, second=1):
    """Give the event of a rotation to the second key."""
    data = (("key", key(2).kid), ("statement", statement))
    return Event("key-rotated", second * SECOND, b"R" * 8, data)


def rotated(statement=None, *, told=None):
    """Give three stretches of a chain: by the first key, the rotation, and by the second key in an epoch of its own."""
    statement = sign_statement("station-1", KEY, key(2), 1) if statement is None else statement
    station = Station()
    before = station.blocks(3)
    between = list(station.seal(Batch(events=[rotation_event(statement)])).blocks)
    opening = station.opening._replace(event_id=b"T" * 8, keys=(statement,) if told is None else told)
    successor = replace(station, epoch=b"G" * 8, signer=key(2), opening=opening)
    return before, between, successor.blocks(3), successor


def key_chains():
    """Give sequences of blocks over a rotation, sound and not."""
    before, between, after, successor = rotated()
    stolen = Station(epoch=b"X" * 8, heads=dict(successor.heads)).blocks(1)
    heads = dict(successor.heads)
    stranger = key(9)
    good = sign_statement("station-1", KEY, key(2), 1)
    other = sign_statement("station-1", KEY, stranger, 1)
    content = cose.unverified(good[0]).payload
    as_block = (cose.sign(content, TYPE, KEY.kid, KEY.sign), good[1])
    by_one = (cose.sign(content, STATEMENT, key(2).kid, key(2).sign), good[1])
    two = (good[0], sign_statement("station-2", KEY, key(2), 1)[1])
    flipped = (good[0], good[1][:-1] + bytes([good[1][-1] ^ 1]))
    second = successor.blocks(3, "second")
    wrong = Station(epoch=b"Y" * 8, heads=dict(successor.heads))
    forged = {
        "by the new key twice": by_one,
        "of another type": as_block,
        "of two contents": two,
        "with a bad signature": flipped,
        "of one signature": (good[0],),
        "that is none": b"none",
    }
    return {
        "rotated": before + between + after,
        "rotated, the statement comes late": before + after[:1] + between + after[1:],
        "rotated, and a stream that began after it": before + between + after + second,
        "a stream that began after a rotation, alone": second,
        "the retired key in a stream that began after it": before
        + between
        + after
        + second
        + wrong.blocks(1, "second"),
        "rotated, in another order behind the statement": before + between + after[::-1],
        "rotated, another label": joined(rotated(sign_statement("another", KEY, key(2), 7))),
        "rotated from a key that nobody named": joined(rotated(sign_statement("station-1", stranger, key(2), 1))),
        "the retired key signs again": before + between + after + stolen,
        "the retired key came first": [*before, resigned(after[0], KEY), *between, *after[1:]],
        "the retired key signs a repeat": before + between + after + [resigned(after[1], KEY)],
        "a second successor": before + between + after + again(replace(successor, heads=dict(heads)), other),
        "the same statement again": before + between + after + again(replace(successor, heads=dict(heads)), good),
        "a key that nobody named": before + between + after + [resigned(after[2], stranger, seq=99)],
        **{f"a statement {name}": joined(rotated(one, told=(good,))) for name, one in forged.items()},
        **{f"start tells a statement {name}": joined(rotated(told=(one,))) for name, one in forged.items()},
        "a forged statement, and the key it names": joined(rotated(by_one, told=())),
    }


def joined(stretches):
    """Give the blocks of a rotation in order."""
    before, between, after, _ = stretches
    return before + between + after


def again(station, statement):
    """Give what follows: another rotation event."""
    return list(station.seal(Batch(events=[rotation_event(statement, 90)])).blocks)


def account(station, kind, **data):
    """Seal an event of account; give its blocks."""
    told = Batch()
    told.events.append(Event(kind, station.second * SECOND, b"A" * 8, tuple(data.items())))
    return list(station.seal(told).blocks)


def holes():
    """Give chains whose holes are signed, or not quite."""
    station = Station()
    good = station.blocks(9)
    gone = [good[0], *(Block(block.envelope, None) for block in good[1:6]), *good[6:]]
    evicted = account(station, "evicted", first=2, last=4, blocks=3, readings=12, reason="oldest")
    damaged = account(station, "damaged", first=3, last=4, reason="header")
    pruned = account(station, "pruned", first=2, last=5, digest=good[4].digest, root=b"R" * 32, blocks=4, readings=16)
    chain = [*good, *evicted, *damaged, *pruned]
    wrong = account(station, "pruned", first=2, last=5, digest=b"x" * 32)
    return {
        "evicted, and why": [*gone, *chain[9:]],
        "damaged and set aside": [*good[:2], *chain[4:]],
        "damaged, and one more missing": [*good[:2], *good[5:], *evicted, *damaged],
        "pruned": [good[0], *chain[5:]],
        "pruned, and sewn to another end": [good[0], *chain[5:], *wrong],
        "an account of what is to come": [*good[:2], *good[4:], *account(good_again(9), "damaged", first=3, last=99)],
    }


def good_again(count):
    """Give a station that has sealed so many blocks, always the same."""
    station = Station()
    station.blocks(count)
    return station


def branches():
    """Give chains with blocks that were sealed in memory, and one whose gateway was renamed."""
    station = good_again(3)
    good = Station().blocks(3)
    heads = dict(station.heads)
    branch = Station(epoch=b"V" * 8, heads=dict(heads), second=90)
    spoken = [block for _ in range(2) for block in sealed_in_memory(branch)]
    written = Station(epoch=b"F" * 8, heads=dict(branch.heads), second=190).blocks(2)
    instead = Station(epoch=b"F" * 8, heads=dict(heads), second=190).blocks(2)
    return {
        "volatile, then written": [*good, *spoken, *written],
        "volatile, at the end": [*good, *spoken],
        "volatile, abandoned": [*good, *spoken, *instead],
        "volatile, abandoned, in another order": [*instead, *spoken, *good],
        "renamed": [*good, *(resigned(block, KEY, gateway="station-2") for block in instead[:1])],
    }


def sealed_in_memory(station):
    """Seal a batch while the store cannot commit; give its blocks."""
    station.second += 10
    read, now = batch(station.second), moment(station.second)
    sealed = station.sealer.seal("main", station.heads.get("main"), read, (METER,), now, volatile=True)
    station.heads["main"] = sealed.head
    return sealed.blocks


def chain_case(name, blocks):
    """Give one sequence and its report."""
    verifier = Verifier([KEY.public_key])
    for block in blocks:
        verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    return {
        "name": name,
        "blocks": [encode_block(block).hex() for block in blocks],
        "verdict": report.verdict,
        "proven": report.blocks,
        "readings": report.readings,
        "evicted": report.evicted,
        "repeats": report.repeats,
        "faults": [[fault.reason, fault.seq] for fault in report.faults],
        "gaps": [[gap.first_seq, gap.last_seq, gap.readings] for gap in report.gaps],
        "holes": [[hole.first_seq, hole.last_seq, hole.reason] for hole in report.holes],
        "abandoned": [[branch.first.seq, branch.last.seq] for branch in report.abandoned],
    }


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
