"""The independent verifier places frames in UTC where the timeline places them (FORMAT.md, section 8)."""

import json
import random

import pytest
from chains import WALL
from contracts.make_times import MINUTE, NEVER, Schedule, anchor, good, places
from contracts.make_vectors import FOLDER
from contracts.test_independent_verifier import theirs

from buffer.block import ClockQuality, encode_block

SEED = 3339
CHAINS = 40
VECTORS = json.loads((FOLDER / "times.json").read_text("utf-8"))


def numbers(row):
    """Give UTC, bound and the ends of the bracket as integers."""
    utc_ns, bound_ns, _, early_ns, late_ns = row[-5:]
    return [None if one is None else int(one) for one in (utc_ns, bound_ns, early_ns, late_ns)]


def assert_the_same(name, mine, other, boots):
    """Frame by frame: UTC to the nanosecond, a bound to one for each length that went into it."""
    assert [(*row[:3], row[5]) for row in mine] == [(*row[1:4], row[6]) for row in other], name
    for one, two in zip(mine, other, strict=True):
        utc, bound, early, late = zip(numbers(one), numbers(two), strict=True)
        assert utc[0] == utc[1], (name, one, two)
        for a, b in (bound, early, late):
            assert (a is None) == (b is None), (name, one, two)
            assert a is None or abs(a - b) <= boots + 3, (name, one, two)


def wandering(chance):
    """Give a chain of boots with a clock that is set, lost, held and lied about."""
    made = Schedule()
    offset = WALL
    for boot in range(1, chance.randrange(2, 7)):
        known, minute = chance.random() < 0.6, chance.randrange(1, 30)
        for _ in range(chance.randrange(1, 7)):
            minute += chance.randrange(10, 90)
            drift = chance.randrange(-5_000_000, 5_000_000)
            lie = chance.choice((0, 0, 0, 0, 10**12))
            word = chance.choice((good(chance.randrange(10**7)), NEVER, ClockQuality("holdover", 5, "ntp")))
            event = anchor(minute * MINUTE, minute * MINUTE + offset + drift, chance.randrange(10**7))
            told = [event] if known and chance.random() < 0.3 else []
            made.seal(boot, minute, offset + drift + lie, word if known else NEVER, told)
        offset += minute * MINUTE + chance.choice((0, 1, 1, -1)) * chance.randrange(10**15)
    return made.blocks


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Give the vectors and more chains: name, blocks, what ours says, what theirs says."""
    chance = random.Random(SEED)
    drawn = [wandering(chance) for _ in range(CHAINS)]
    manifest = tmp_path_factory.mktemp("times") / "drawn.json"
    entries = [{"name": str(at), "blocks": [encode_block(b).hex() for b in blocks]} for at, blocks in enumerate(drawn)]
    manifest.write_text(json.dumps(entries), "utf-8")
    told = theirs(FOLDER / "times.json", manifest, options=["--time"])
    mine = [case["times"] for case in VECTORS] + [places(blocks) for blocks in drawn]
    names = [case["name"] for case in VECTORS + entries]
    return list(zip(names, mine, told, strict=True))


def test_every_frame_is_placed_alike(chains):
    """Beside, between and among anchors that lie, and between boots."""
    for name, mine, told in chains:
        assert_the_same(name, mine, told["times"], boots=len({row[1] for row in mine}))


def test_all_there_is_was_met(chains):
    """Placed and not, disputed and not, brackets of two sides, of either, and of none."""
    rows = [row for _, mine, _ in chains for row in mine]
    assert len(rows) > 500
    met = {(row[3] is None, row[5], row[6] is None, row[7] is None) for row in rows}
    sides = {(True, False, early, late) for early in (True, False) for late in (True, False)}
    assert met == sides | {(False, disputed, True, True) for disputed in (True, False)}
