"""Every attack is found and named: edited, dropped, inserted, reordered, replayed, forked, foreign, truncated."""

import random
from dataclasses import replace

import pytest
from chains import Station, key, resigned

from buffer import verify
from buffer.block import Block, Totals, read_header
from buffer.errors import BlockInvalid
from buffer.verify import Verifier, payload_of


def prove(blocks, **options):
    """Feed blocks in this order; give the report."""
    head = options.pop("head", None)
    verifier = Verifier([key().public_key], **options)
    for at, block in enumerate(blocks):
        verifier.feed(block.envelope, block.payload, at=at)
    if head is not None:
        verifier.expect_head(head)
    return verifier.report()


def reasons(report):
    """Give what was found wrong."""
    return [fault.reason for fault in report.faults]


@pytest.fixture
def chain():
    """Give ten blocks of one epoch."""
    return Station().blocks(10)


def changed(block, at=-1):
    """Give a block one byte of whose envelope is another."""
    envelope = bytearray(block.envelope)
    envelope[at] ^= 1
    return Block(bytes(envelope), block.payload)


def test_a_whole_chain_is_complete(chain):
    """Every block, every reading, from the first to the last."""
    report = prove(chain)
    assert (report.verdict, report.blocks, report.readings) == ("complete", 10, 36)
    assert report.heads == {("station-1", "main"): chain[-1].digest}
    (epoch,) = report.epochs
    assert (epoch.first.seq, epoch.last.seq, epoch.blocks) == (1, 10, 10)


def test_several_epochs_are_one_chain():
    """A restart begins an epoch, and goes on with the numbers."""
    station = Station()
    blocks = station.blocks(4)
    station.epoch = b"F" * 8
    report = prove(blocks + station.blocks(3))
    assert report.verdict == "complete"
    assert [(epoch.first.seq, epoch.last.seq) for epoch in report.epochs] == [(1, 4), (5, 7)]


def test_streams_are_chains_of_their_own():
    """What one lacks is not the other's fault."""
    station = Station()
    blocks = station.blocks(3) + station.blocks(3, stream="other")
    assert prove(blocks).verdict == "complete"
    assert [gap.stream for gap in prove(blocks[:1] + blocks[2:]).gaps] == ["main"]


def test_nothing_at_all_is_unreadable():
    """No proof is not a proof of completeness."""
    assert prove([]).verdict == "unreadable"
    assert prove(Station(signer=key(2)).blocks(3)).verdict == "unreadable"


def test_edited_envelopes_are_found_and_leave_a_gap(chain):
    """Wherever the change is."""
    for at in (5, 60, 200, -1):
        report = prove([*chain[:4], changed(chain[4], at), *chain[5:]])
        assert report.verdict == "unexplained"
        assert len(report.faults) == 1
        assert [(gap.first_seq, gap.last_seq) for gap in report.gaps] == [(5, 5)]


def test_edited_payloads_are_found_and_the_chain_still_proven(chain):
    """The envelope says what the payload was."""
    edited = Block(chain[4].envelope, chain[4].payload[:-1] + b"\0")
    report = prove([*chain[:4], edited, *chain[5:]])
    assert (report.verdict, reasons(report), report.gaps) == ("unexplained", ["payload-digest"], ())
    assert report.count("payload-digest") == 1
    assert report.faults[0].seq == 5


def test_an_edit_signed_by_the_device_itself_breaks_the_chain(chain):
    """Whoever stole the key still cannot change the past without changing all that follows."""
    report = prove([*chain[:4], resigned(chain[4], key(), wall_ns=0), *chain[5:]])
    assert (report.verdict, reasons(report)) == ("unexplained", ["broken-link"])


@pytest.mark.parametrize("at", [1, 5, 8])
def test_dropped_blocks_leave_a_gap_that_says_how_much_is_missing(chain, at):
    """The totals on both sides give the readings."""
    report = prove(chain[:at] + chain[at + 1 :])
    (gap,) = report.gaps
    assert (report.verdict, gap.first_seq, gap.last_seq, gap.readings) == ("unexplained", at + 1, at + 1, 4)
    assert gap.before.wall_ns < gap.after.wall_ns


def test_a_dropped_beginning_is_a_gap_where_the_whole_is_asked_for(chain):
    """A reader of the last blocks only does not ask."""
    report = prove(chain[3:])
    assert [(gap.first_seq, gap.last_seq, gap.readings, gap.before) for gap in report.gaps] == [(1, 3, 8, None)]
    assert prove(chain[3:], whole=False).verdict == "complete"


def test_a_truncated_tail_is_found_against_a_known_head(chain):
    """And only against one: from inside it cannot be seen."""
    assert prove(chain[:-2]).verdict == "complete"
    report = prove(chain[:-2], head=chain[-1].digest)
    assert (report.verdict, reasons(report)) == ("unexplained", ["head-missing"])


def test_a_known_head_that_is_there_is_found_whenever_it_is_told(chain):
    """Before, during and after; at the end or passed since."""
    assert prove(chain, head=chain[-1].digest).verdict == "complete"
    assert prove(chain, head=chain[-3].digest).verdict == "complete"
    verifier = Verifier([key().public_key])
    verifier.expect_head(chain[5].digest)
    for block in chain:
        verifier.feed(block.envelope, block.payload)
    assert verifier.report().verdict == "complete"


def test_blocks_inserted_by_another_device_are_found(chain):
    """A foreign key is named, and changes nothing else."""
    report = prove([*chain[:4], *Station(signer=key(2)).blocks(1), *chain[4:]])
    assert (reasons(report), report.blocks, report.gaps) == (["foreign-key", "foreign-key"], 10, ())


def test_blocks_inserted_with_the_device_key_are_found(chain):
    """A block that nobody follows, under a number that is taken."""
    inserted = resigned(chain[4], key(), wall_ns=0)
    assert reasons(prove([*chain[:5], inserted, *chain[5:]])) == ["fork"]


def test_reordered_blocks_are_put_in_order(chain):
    """Delivery is at-least-once and mixed; the chain itself says what the order is."""
    shuffled = chain[:]
    for seed in range(20):
        random.Random(seed).shuffle(shuffled)
        assert prove(shuffled).verdict == "complete"


def test_a_reordered_chain_that_was_renumbered_is_found(chain):
    """Numbers follow predecessors, not wishes."""
    report = prove([*chain[:9], resigned(chain[9], key(), seq=99)])
    assert report.verdict == "unexplained"
    assert "misnumbered" in reasons(report)


def test_replayed_blocks_are_repeats_with_identical_bytes(chain):
    """Which at-least-once delivery allows."""
    report = prove(chain + chain[3:6])
    assert (report.verdict, report.repeats, report.readings) == ("complete", 3, 36)


def test_a_replay_with_a_damaged_payload_is_no_repeat(chain):
    """Its bytes are not identical."""
    report = prove([*chain, Block(chain[4].envelope, b"")])
    assert (report.repeats, reasons(report)) == (0, ["payload-length"])


def test_an_old_replay_is_known_only_where_all_is_remembered(chain, monkeypatch):
    """In constant memory it is `again`, and unexplained."""
    monkeypatch.setattr(verify, "RECENT", 3)
    assert reasons(prove(chain + chain[:1])) == ["again"]
    assert prove(chain + chain[:1], remember=True).repeats == 1


def test_a_fork_of_one_identity_is_found(chain):
    """Two blocks with the same key, stream, epoch and number."""
    assert reasons(prove([*chain, resigned(chain[9], key(), wall_ns=1)])) == ["fork"]


def test_a_fork_by_predecessor_is_found():
    """A cloned card: two epochs go on from one block."""
    station = Station()
    common = station.blocks(3)
    clone = Station(epoch=b"F" * 8, heads=dict(station.heads))
    report = prove(common + station.blocks(2) + clone.blocks(2))
    assert (report.verdict, report.count("fork")) == ("unexplained", 2)


def test_two_runs_that_wait_for_one_predecessor_are_a_fork(chain):
    """Also where it has not arrived."""
    twin = resigned(chain[5], key(), seq=50)
    assert "fork" in reasons(prove([chain[5], twin]))


def test_totals_that_do_not_add_up_are_found(chain):
    """Even a signed header must not lose readings."""
    wrong = resigned(chain[9], key(), totals=Totals(999, 0, 0))
    assert "totals" in reasons(prove([*chain[:9], wrong]))
    lost = resigned(chain[9], key(), totals=replace_totals(chain[9], ticks_missed=7))
    assert prove([*chain[:9], lost]).verdict == "complete"


def replace_totals(block, **changes):
    """Give a block's totals with changes."""
    return read_header(block.envelope).totals._replace(**changes)


def test_totals_that_shrink_are_found():
    """Ticks missed and readings dropped only grow."""
    station = Station()
    blocks = station.blocks(2)
    missed = resigned(blocks[1], key(), totals=replace_totals(blocks[1], ticks_missed=5))
    next_one = resigned(station.blocks(1)[0], key(), prev=missed.digest)
    assert reasons(prove([blocks[0], missed, next_one])) == ["totals"]


def test_a_beginning_that_is_none_is_found(chain):
    """Number one has no predecessor, and no readings before it."""
    first = read_header(chain[0].envelope)
    assert reasons(prove([resigned(chain[0], key(), prev=bytes(32))])) == ["misnumbered"]
    assert reasons(prove([resigned(chain[0], key(), totals=Totals(5, 0, 0))])) == ["misnumbered"]
    assert first.prev is None


def test_evicted_payloads_are_signed_holes(chain):
    """Counted, and complete."""
    report = prove([chain[0], *(Block(block.envelope, None) for block in chain[1:])])
    assert (report.verdict, report.evicted, report.epochs[0].evicted) == ("complete", 9, 9)
    hollow = prove([*chain, Block(chain[3].envelope, None)])
    assert (hollow.verdict, hollow.repeats) == ("complete", 1)


def test_faults_without_end_do_not_fill_the_memory(chain, monkeypatch):
    """They are counted; the first are described."""
    monkeypatch.setattr(verify, "MAX_FAULTS", 3)
    report = prove([changed(block) for block in chain])
    assert (len(report.faults), report.fault_count) == (3, 10)


def test_memory_grows_with_gaps_and_not_with_blocks(chain):
    """One run for a whole chain, whatever the order of arrival."""
    verifier = Verifier([key().public_key])
    for block in reversed(chain):
        verifier.feed(block.envelope, block.payload)
    (found,) = verifier._chains.values()
    runs = found.main.runs
    assert (len(runs._tails), len(runs._fronts)) == (1, 1)


def test_a_proven_block_gives_what_it_holds(chain):
    """Given the layouts of its catalogue."""
    header = read_header(chain[1].envelope)
    with pytest.raises(BlockInvalid):
        payload_of(chain[1], header, [])
    with pytest.raises(BlockInvalid):
        payload_of(chain[1], replace(header, payload_digest=bytes(32)), [])
