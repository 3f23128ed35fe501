"""Chains with holes, accounts, volatile branches, renames and rotations, damaged: both verifiers say the same.

Each damage is judged by both, whatever the order of the blocks, and both must agree on everything that FORMAT.md says a
verifier reports.
"""

import random
from dataclasses import replace
from hashlib import sha256
from itertools import chain as chained

import pytest
from chains import Station, key, resigned
from contracts.make_chains import KEY, account, rotated, sealed_in_memory
from contracts.tampering import HARMLESS, UNSIGNED, delete, edit_and_sign, evict
from contracts.test_independent_verifier import judge

from buffer.accounts import events_of
from buffer.block import KIND_DATA, KIND_EVENTS, Block, decode_block, encode_block, payload_bytes, read_header
from buffer.cbor import dumps, loads
from buffer.errors import BlockInvalid

SEED = 9679
DAMAGES = 120


def is_data(block):
    """Say whether a block may lose its payload."""
    return read_header(block.envelope).kind == KIND_DATA


def without(blocks, *seqs):
    """Give the blocks, the payloads of some taken away."""
    return [Block(b.envelope, None) if read_header(b.envelope).seq in seqs and is_data(b) else b for b in blocks]


def missing(blocks, *seqs):
    """Give the blocks but for some."""
    return [block for block in blocks if read_header(block.envelope).seq not in seqs]


def with_accounts():
    """Evicted for two reasons that overlap, damaged, lost and pruned, some of it twice over."""
    station = Station()
    good = station.blocks(14)
    accounts = [
        *account(station, "evicted", first=3, last=6, blocks=2, readings=8, reason="thin"),
        *account(station, "evicted", first=2, last=8, blocks=4, readings=16, reason="oldest"),
        *account(station, "damaged", first=9, last=10, blocks=2, readings=None, reason="header"),
        *account(station, "lost", first=10, last=12, blocks=3, readings=12, reason="volatile"),
        *account(station, "damaged", first=5, last=5, blocks=1, readings=4, reason="payload-digest"),
        *account(station, "damaged", first=8, last=8, blocks=1, readings=4, reason="payload-digest"),
    ]
    return missing(without([*good, *station.blocks(2), *accounts], 3, 4, 5, 7, 8), 9, 10, 11)


def with_pruned():
    """The headers of the beginning taken away, some of them damaged before; what was said of it is said again."""
    station = Station()
    good = station.blocks(12)
    told = {"root": b"R" * 32, "blocks": 4, "readings": 16, "lost": 1}
    accounts = [
        *account(station, "damaged", first=3, last=4, reason="header"),
        *account(station, "pruned", first=2, last=5, digest=good[4].digest, **told),
        *account(station, "pruned", first=6, last=7, digest=good[6].digest, **told),
        *account(station, "pruned", first=2, last=7, blocks=6, readings=None, again=True),
        *account(station, "evicted", first=8, last=10, blocks=3, readings=None, reason="oldest", again=True),
    ]
    return missing(without([*good, *accounts, *station.blocks(2)], 8, 10), 2, 3, 4, 5, 6, 7)


def with_branches():
    """Sealed in memory and written, sealed in memory and abandoned twice, and once more at the end."""
    station = Station()
    found = station.blocks(3)
    memory = replace(station, epoch=b"V" * 8, heads=dict(station.heads))
    found += chained.from_iterable(sealed_in_memory(memory) for _ in range(3))
    station = replace(memory, epoch=b"F" * 8, heads=dict(memory.heads))
    found += station.blocks(3)
    for epoch, count in ((b"W" * 8, 2), (b"X" * 8, 4)):
        memory = replace(station, epoch=epoch, heads=dict(station.heads))
        found += chained.from_iterable(sealed_in_memory(memory) for _ in range(count))
    station = replace(station, epoch=b"G" * 8, heads=dict(station.heads))
    found += station.blocks(3)
    memory = replace(station, epoch=b"Y" * 8, heads=dict(station.heads))
    return [*found, *chained.from_iterable(sealed_in_memory(memory) for _ in range(2))]


def with_names():
    """Renamed, renamed to what it was before, and renamed again."""
    station = Station()
    blocks = [block for _ in range(12) for block in station.seal().blocks]
    found = []
    for at, block in enumerate(blocks):
        label = ("station-1", "station-2", "station-1", "station-3")[at // 4] if at < 16 else "station-3"
        prev = found[-1].digest if found else None
        found.append(resigned(block, KEY, gateway=label, prev=prev))
    return found


def with_everything():
    """A rotation, then holes, their accounts, and a branch that was abandoned over it."""
    before, between, after, station = rotated()
    branch = replace(station, epoch=b"V" * 8, heads=dict(station.heads))
    memory = [block for _ in range(2) for block in sealed_in_memory(branch)]
    more = [*station.blocks(4), *account(station, "evicted", first=2, last=3, blocks=2, readings=8, reason="delivered")]
    lost = account(station, "lost", first=8, last=9, blocks=2, readings=8, reason="volatile")
    return missing(without([*before, *between, *after], 2, 3), 99) + memory + missing([*more, *lost], 9)


def take_away_payloads(blocks, at, chance):
    """Evict a stretch, whatever its kinds."""
    for place in range(at, min(len(blocks), at + chance.randrange(1, 5))):
        try:
            blocks[place] = encode_block(Block(decode_block(blocks[place]).envelope, None))
        except BlockInvalid:
            continue


def come_later(blocks, at, chance):
    """Let a block come without payload first and with it at the end: no damage."""
    blocks.append(blocks[at])
    blocks[at] = encode_block(Block(decode_block(blocks[at]).envelope, None))


def shuffle(blocks, at, chance):
    """Let all come in another order: no damage, but where a key is learnt."""
    chance.shuffle(blocks)


def sign_again(blocks, at, chance):
    """Sign a block with the other key."""
    block = decode_block(blocks[at])
    signer = chance.choice((KEY, key(2)))
    blocks[at] = encode_block(resigned(block, signer))


def tell_otherwise(blocks, at, chance):
    """Let the device itself tell another story in an event of account, well signed."""
    told = [place for place, data in enumerate(blocks) if has_account(data)]
    if not told:
        return
    place = chance.choice(told)
    block = decode_block(blocks[place])
    header = read_header(block.envelope)
    content = loads(payload_bytes(block, header), "payload")
    content[3] = [
        [retold(kind, chance), time, name, retold_data(data, chance)] for kind, time, name, data in content[3]
    ]
    raw = dumps(content)
    facts = {"payload_digest": sha256(raw).digest(), "payload_length": len(raw), "raw_length": len(raw), "codec": 0}
    blocks[place] = encode_block(Block(resigned(block, KEY, **facts).envelope, raw))


def has_account(data):
    """Say whether a block that can be read tells of holes."""
    try:
        block = decode_block(data)
        header = read_header(block.envelope)
        return header.kind == KIND_EVENTS and any(event.type in ACCOUNTS for event in events_of(block, header))
    except BlockInvalid:
        return False


def retold(kind, chance):
    """Give a kind of event: mostly the same."""
    return kind if kind not in ACCOUNTS or chance.random() < 0.6 else chance.choice((*ACCOUNTS, "another"))


def retold_data(data, chance):
    """Change one field, leave one out, or say one twice."""
    pairs = [list(data[at : at + 2]) for at in range(0, len(data), 2)]
    pair = chance.choice(pairs)
    match chance.randrange(3):
        case 0:
            pair[1] = chance.choice((None, True, 0, -1, 1, 2, 5, 9, 1 << 40, 1 << 63, "thin", "ă", b"x" * 32, [1]))
        case 1:
            pairs.remove(pair)
        case 2:
            pairs.append([pair[0], chance.choice((3, 6, 12, "again", b"y" * 32))])
    return [member for one in pairs for member in one]


def cut_the_end(blocks, at, chance):
    """Take the end away."""
    del blocks[max(1, at) :]


ACCOUNTS = ("evicted", "damaged", "lost", "pruned")
WAYS = (*UNSIGNED, *HARMLESS, take_away_payloads, come_later, shuffle, sign_again, cut_the_end)


def damaged(blocks, seed, ways, count=DAMAGES):
    """Give damages of a chain, with the names of what was done: one, two or three at once."""
    chance = random.Random(seed)
    encoded = [encode_block(block) for block in blocks]
    yield "untouched", encoded
    for number in range(count):
        found = encoded[:]
        done = [ways[number % len(ways)], *chance.sample(ways, chance.randrange(3))]
        for way in done:
            places = [at for at, data in enumerate(found) if data in encoded]
            if places:
                way(found, chance.choice(places), chance)
        yield f"{number}: {', '.join(way.__name__ for way in done)}", found


CHAINS = (with_accounts, with_pruned, with_branches, with_names, with_everything)


@pytest.mark.parametrize("make", CHAINS, ids=lambda make: make.__name__)
def test_every_damage_gets_the_same_report(make, tmp_path):
    """Verdict, counts, faults, gaps, holes and abandoned branches; what is untouched is complete."""
    judged = judge(list(damaged(make(), SEED, WAYS)), tmp_path)
    assert [(name, mine) for name, mine, _ in judged] == [(name, other) for name, _, other in judged]
    assert judged[0][1]["verdict"] == "complete"
    assert {report["verdict"] for _, report, _ in judged} >= {"complete", "unexplained"}


@pytest.mark.parametrize("make", [with_accounts, with_pruned, with_everything], ids=lambda make: make.__name__)
def test_every_other_story_gets_the_same_report(make, tmp_path):
    """Accounts whose ranges, reasons and digests are other ones, of other types, or none."""
    judged = judge(list(damaged(make(), SEED, (tell_otherwise, evict, delete, shuffle))), tmp_path)
    assert [(name, mine) for name, mine, _ in judged] == [(name, other) for name, _, other in judged]
    assert {report["verdict"] for _, report, _ in judged} >= {"complete", "unexplained"}


@pytest.mark.parametrize("make", CHAINS, ids=lambda make: make.__name__)
def test_every_damage_by_who_has_the_key_gets_the_same_verdict(make, tmp_path):
    """Faults may have other names, where one damage breaks several rules."""
    judged = judge(list(damaged(make(), SEED, (edit_and_sign, *HARMLESS), 40)), tmp_path)
    verdicts = [(name, mine["verdict"], other["verdict"]) for name, mine, other in judged]
    assert [(name, mine) for name, mine, _ in verdicts] == [(name, other) for name, _, other in verdicts]
