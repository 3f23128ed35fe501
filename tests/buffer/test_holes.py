"""Every hole has its reason or is a gap: evicted, damaged, lost in memory, pruned, abandoned; the ledger adds up."""

from dataclasses import replace

import pytest
from chains import Station, key, resigned
from holed import NAME, hollow, ledger, prove, shapes, told

from buffer.accounts import Accounts
from buffer.block import KIND_DATA, Block, read_header
from buffer.frame import Event


class Renamed(Station):
    """A station under another label."""

    @property
    def sealer(self):
        """Give a sealer of this station's epoch."""
        return replace(super().sealer, gateway="station-2")


@pytest.fixture
def station():
    """Give a station that has sealed ten blocks, which are `first`."""
    made = Station()
    made.first = made.blocks(10)
    return made


def test_evicted_payloads_have_the_reason_that_an_event_gives(station):
    """By stretches; what no event speaks of is unstated, and its header is the signature."""
    after = told(
        station,
        "evicted",
        {"first": 2, "last": 4, "reason": "delivered"},
        {"first": 5, "last": 6, "reason": "oldest"},
    )
    blocks = station.first
    report = prove([blocks[0], *map(hollow, blocks[1:7]), *blocks[7:], *after])
    assert report.verdict == "complete"
    assert shapes(report.holes) == [(2, 4, "delivered"), (5, 6, "oldest"), (7, 7, "unstated")]
    assert ledger(report) == (11, 5, {"delivered": 3, "oldest": 2, "unstated": 1}, 0, 0, 0, 0)


def test_a_single_hole_knows_its_readings_and_its_ends(station):
    """Which blocks it lies between, and when they were sealed."""
    after = told(station, "evicted", {"first": 3, "last": 5, "reason": "newest"})
    blocks = station.first
    (hole,) = prove([*blocks[:2], *map(hollow, blocks[2:5]), *blocks[5:], *after]).holes
    assert (hole.readings, hole.since.seq, hole.until.seq) == (12, 3, 5)
    assert hole.since.wall_ns < hole.until.wall_ns


@pytest.mark.parametrize("kind", ["damaged", "lost", "pruned"])
def test_missing_blocks_are_a_hole_where_an_event_says_so(station, kind):
    """Signed: complete, and in the ledger under its name."""
    after = told(station, kind, {"first": 4, "last": 6, "reason": "payload-digest"})
    report = prove([*station.first[:3], *station.first[6:], *after])
    assert (report.verdict, shapes(report.holes), report.gaps) == ("complete", [(4, 6, kind)], ())
    assert report.holes[0].readings == 12
    assert sum(ledger(report)[3:6]) == 3
    assert getattr(report.ledgers[NAME], kind) == 3


def test_what_an_event_does_not_cover_stays_a_gap(station):
    """And which of the missing readings are whose cannot be told."""
    after = told(station, "damaged", {"first": 4, "last": 5, "reason": "header"})
    report = prove([*station.first[:3], *station.first[6:], *after])
    assert (report.verdict, shapes(report.holes)) == ("unexplained", [(4, 5, "damaged")])
    assert [(gap.first_seq, gap.last_seq, gap.readings) for gap in report.gaps] == [(6, 6, None)]
    assert ledger(report) == (11, 8, {}, 2, 0, 0, 1)


def test_a_pruned_beginning_is_a_hole(station):
    """The stream begins behind it."""
    last = station.first[5]
    after = told(station, "pruned", {"first": 1, "last": 6, "digest": last.digest})
    report = prove([*station.first[6:], *after])
    assert (report.verdict, shapes(report.holes)) == ("complete", [(1, 6, "pruned")])
    assert report.holes[0].since is None
    assert ledger(report) == (11, 5, {}, 0, 0, 6, 0)


def test_a_pruning_must_end_in_the_block_that_the_next_one_names(station):
    """Else the chain was cut and sewn."""
    after = told(station, "pruned", {"first": 2, "last": 6, "digest": b"x" * 32})
    report = prove([station.first[0], *station.first[6:], *after])
    assert [(fault.reason, fault.seq) for fault in report.faults] == [("broken-link", 7)]


@pytest.mark.parametrize(
    "data",
    [
        {"first": 4, "last": 99},
        {"first": 0, "last": 6},
        {"first": 6, "last": 4},
        {"first": "4", "last": 6},
        {"first": True, "last": 6},
        {"last": 6},
        {},
    ],
)
def test_an_account_that_is_none_explains_nothing(station, data):
    """Whoever signs it: blocks to come, no numbers, the wrong order."""
    report = prove([*station.first[:3], *station.first[6:], *told(station, "damaged", data)])
    assert (report.verdict, shapes(report.gaps)) == ("unexplained", [(4, 6, None)])


def test_an_eviction_without_a_reason_stays_unstated(station):
    """A number is no reason."""
    after = told(station, "evicted", {"first": 2, "last": 2, "reason": 5})
    report = prove([station.first[0], hollow(station.first[1]), *station.first[2:], *after])
    assert shapes(report.holes) == [(2, 2, "unstated")]


def test_a_pruning_without_a_digest_is_still_one(station):
    """Only the check of its end is lost."""
    report = prove([station.first[0], *station.first[6:], *told(station, "pruned", {"first": 2, "last": 6})])
    assert report.verdict == "complete"


def test_events_that_cannot_be_read_explain_nothing(station):
    """A payload that is signed nonsense is no fault, and no excuse."""
    told_block = told(station, "damaged", {"first": 4, "last": 6})[0]
    nonsense = resigned(told_block, key(), codec=9)
    assert prove([*station.first[:3], *station.first[6:], nonsense]).verdict == "unexplained"


def test_events_and_layouts_do_not_lose_their_payload(station):
    """They explain the rest, so whoever takes them away is told; damage that the station named is excused."""
    spoken = told(station, "clock-stepped", {})
    report = prove([hollow(station.first[0]), *station.first[1:], *map(hollow, spoken)])
    assert [(fault.reason, fault.seq) for fault in report.faults] == [("withheld", 1), ("withheld", 11)]
    excuse = told(station, "damaged", {"first": 11, "last": 11, "reason": "payload-digest"})
    report = prove([*station.first, *map(hollow, spoken), *excuse])
    assert (report.verdict, report.faults) == ("complete", ())


def test_a_payload_that_comes_later_fills_the_hole(station):
    """Whatever the order of arrival; a second time it is a repeat and nothing more."""
    blocks = station.first
    report = prove([hollow(blocks[0]), *map(hollow, blocks[1:4]), *blocks, blocks[2]])
    assert (report.verdict, report.evicted, report.holes, report.repeats) == ("complete", 0, (), 5)
    report = prove([blocks[0], *map(hollow, blocks[1:4]), blocks[2], *blocks[4:]])
    assert shapes(report.holes) == [(2, 2, "unstated"), (4, 4, "unstated")]
    assert report.holes[0].readings is None


def test_holes_are_told_alike_in_any_order(station):
    """Stretches grow at both ends and join."""
    after = told(station, "evicted", {"first": 2, "last": 9, "reason": "delivered"})
    blocks = [station.first[0], *map(hollow, station.first[1:9]), station.first[9], *after]
    scattered = blocks[1::2] + blocks[::-2]
    assert sorted(block.digest for block in scattered) == sorted(block.digest for block in blocks)
    reports = [prove(order) for order in (blocks, blocks[::-1], scattered)]
    assert {shapes(report.holes)[0] for report in reports} == {(2, 9, "delivered")}
    assert {report.holes[0].readings for report in reports} == {32}
    assert {report.verdict for report in reports} == {"complete"}


def test_a_chain_goes_on_under_a_new_label(station):
    """The gateway was renamed: the key and the links are what counts."""
    later = Renamed(epoch=b"F" * 8, heads=station.heads, second=station.second)
    report = prove([*station.first, *later.blocks(3)])
    assert (report.verdict, report.renamed) == ("complete", (("main", "station-1", "station-2"),))
    assert list(report.heads) == [("station-2", "main")]
    assert report.blocks == 13


def test_another_gateway_is_not_a_renamed_one(station):
    """Whose first block names nobody's."""
    other = Station(epoch=b"F" * 8)
    blocks = [Block(block.envelope, block.payload) for block in other.blocks(2)]
    assert read_header(blocks[1].envelope).kind == KIND_DATA
    assert prove([*station.first, *blocks]).verdict == "unexplained"


def test_an_account_counts_though_its_payload_comes_later(station):
    """First without, then with it: as if it had come at once."""
    account = told(station, "lost", {"first": 4, "last": 5})
    blocks = [*station.first[:3], *station.first[5:], *map(hollow, account), *account]
    report = prove(blocks)
    assert (report.verdict, shapes(report.holes)) == ("complete", [(4, 5, "lost")])


def test_of_two_reasons_the_same_is_told_in_every_order(station):
    """The first by its code points."""
    blocks = [*told(station, "evicted", {"first": 2, "last": 4, "reason": "thin"})]
    blocks += told(station, "evicted", {"first": 3, "last": 3, "reason": "oldest"})
    found = [station.first[0], *map(hollow, station.first[1:4]), *station.first[4:], *blocks]
    for order in (found, found[::-1]):
        assert shapes(prove(order).holes) == [(2, 2, "thin"), (3, 3, "oldest"), (4, 4, "thin")]


def test_two_prunings_that_contradict_are_a_broken_link(station):
    """Whichever comes last."""
    accounts = [{"first": 2, "last": 5, "digest": digest} for digest in (b"x" * 32, station.first[4].digest)]
    blocks = [station.first[0], *station.first[5:]]
    for both in (accounts, accounts[::-1]):
        again = replace(station, heads=dict(station.heads))
        report = prove([*blocks, *told(again, "pruned", *both)])
        assert [(fault.reason, fault.seq) for fault in report.faults] == [("broken-link", 6)]


def test_an_unknown_kind_tells_nothing_and_withholds_nothing(station):
    """Its payload is not read, there or not."""
    (*before, last) = told(station, "lost", {"first": 4, "last": 5})
    unknown = resigned(last, key(), kind=9)
    blocks = [*station.first[:3], *station.first[5:], *before]
    assert shapes(prove([*blocks, unknown]).gaps) == [(4, 5, None)]
    assert prove([*station.first, *before, hollow(unknown)]).verdict == "complete"


@pytest.mark.parametrize("name", ["readings", "ticks_missed", "readings_dropped"])
def test_totals_that_shrink_over_a_signed_hole_are_told(station, name):
    """What is missing cannot have held less than nothing."""
    account = told(station, "lost", {"first": 4, "last": 5})
    totals = read_header(station.first[2].envelope).totals
    grown = resigned(station.first[2], key(), totals=totals._replace(**{name: 10**6}))
    report = prove([*station.first[:2], grown, *station.first[5:], *account])
    assert ("totals", 6) in [(fault.reason, fault.seq) for fault in report.faults]


def relabelled(blocks, *labels):
    """Give a chain whose label changes every three blocks."""
    found = []
    for at, block in enumerate(blocks):
        prev = found[-1].digest if found else None
        found.append(resigned(block, key(), gateway=labels[at // 3 % len(labels)], prev=prev))
    return found


@pytest.mark.parametrize("step", [1, -1, 3, 7])
def test_a_renamed_chain_is_one_in_whatever_order_it_comes(step):
    """There and back, and so are forks and repeats under every label."""
    blocks = relabelled(Station().blocks(10), "a", "b")
    order = [blocks[at * step % 10] for at in range(10)]
    report = prove([*order, blocks[4]])
    assert (report.verdict, report.blocks, report.repeats) == ("complete", 10, 1)
    assert {one[1:] for one in report.renamed} <= {("a", "b"), ("b", "a")}
    other = resigned(blocks[4], key(), wall_ns=1)
    assert [(fault.reason, fault.seq) for fault in prove([*order, other]).faults] == [("fork", 5)]


def test_a_chain_of_another_label_that_has_its_numbers_is_not_joined():
    """A clone that went on under the old label."""
    blocks = relabelled(Station().blocks(6), "a", "b")
    clone = [resigned(block, key(), gateway="a") for block in blocks[3:]]
    assert prove([*blocks[4:], *clone, *blocks[:4]]).verdict == "unexplained"


def test_accounts_that_join_keep_the_ends_of_prunings():
    """Of both."""
    mine, other = Accounts(), Accounts()
    for accounts, digest in ((mine, b"a"), (other, b"b")):
        accounts.note(Event("pruned", 0, b"P" * 8, (("first", 1), ("last", 2), ("digest", digest))), 5)
    mine.add(other)
    assert mine.ends == {2: {b"a", b"b"}}
