"""Sequences of blocks for the test vectors, with what a verifier must say of each.

What is always true here: fixed keys, times and values, as in `make_vectors`, which writes them.
"""

from dataclasses import replace

from chains import METER, SECOND, Station, batch, key, moment, resigned

from buffer import cose
from buffer.block import (
    TYPE,
    Block,
    Totals,
    encode_block,
)
from buffer.frame import Event
from buffer.rotation import TYPE as STATEMENT
from buffer.rotation import sign_statement
from buffer.seal import Batch
from buffer.verify import Verifier

KEY = key()


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
