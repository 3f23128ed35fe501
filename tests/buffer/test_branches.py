"""Blocks that were sealed in memory: a branch of the chain, its end, or abandoned."""

import pytest
from chains import METER, Station, batch, key, moment, resigned
from holed import NAME, hollow, ledger, prove, shapes, told

from buffer.accounts import Accounts
from buffer.block import read_header
from buffer.frame import Event


@pytest.fixture
def station():
    """Give a station that has sealed ten blocks, which are `first`."""
    made = Station()
    made.first = made.blocks(10)
    return made


def volatile(station, epoch, count, heads=None):
    """Seal so many blocks in memory; give them. `heads` are left as they were, unless the station's own are meant."""
    branch = Station(epoch=epoch, heads=dict(station.heads) if heads is None else heads, second=station.second)
    found = []
    while len(found) < count:
        branch.second += 10
        gathered = batch(branch.second)
        sealed = branch.sealer.seal(
            "main", branch.heads.get("main"), gathered, (METER,), moment(branch.second), volatile=True
        )
        branch.heads["main"] = sealed.head
        found += sealed.blocks
    return found, branch


def test_a_volatile_branch_that_was_written_is_part_of_the_chain(station):
    """The new epoch names its last block: nothing is missing, in any order of arrival."""
    branch, after = volatile(station, b"V" * 8, 3)
    goes_on = Station(epoch=b"F" * 8, heads=after.heads, second=after.second)
    blocks = [*station.first, *branch, *goes_on.blocks(2)]
    for order in (blocks, blocks[::-1], [*blocks[11:], *blocks[:11]], blocks + branch):
        report = prove(order)
        assert (report.verdict, report.blocks, report.abandoned) == ("complete", 15, ()), order
    assert ledger(report) == (15, 15, {}, 0, 0, 0, 0)


def test_a_volatile_branch_at_the_end_is_the_end(station):
    """The store has not come back yet."""
    branch, _ = volatile(station, b"V" * 8, 3)
    report = prove([*station.first, *branch])
    assert (report.verdict, report.blocks, report.heads) == ("complete", 13, {NAME: branch[-1].digest})
    assert prove([*station.first, *branch[1:]]).verdict == "unexplained"


def test_what_memory_could_not_hold_is_lost_with_a_word(station):
    """The branch goes out, its oldest blocks were sent to nobody; the new epoch says so."""
    branch, after = volatile(station, b"V" * 8, 4)
    goes_on = Station(epoch=b"F" * 8, heads=after.heads, second=after.second)
    word = told(goes_on, "lost", {"first": 11, "last": 12, "blocks": 2, "readings": 8, "reason": "volatile"})
    report = prove([*station.first, *branch[2:], *word])
    assert (report.verdict, shapes(report.holes)) == ("complete", [(11, 12, "lost")])
    tail_gone = prove([*station.first, branch[2], *word])
    assert [(gap.first_seq, gap.last_seq) for gap in tail_gone.gaps] == [(14, 14)]


def test_an_abandoned_branch_is_no_fork(station):
    """The power went before it was written: the store goes on from what it has."""
    branch, _ = volatile(station, b"V" * 8, 3)
    station.epoch = b"F" * 8
    blocks = [*station.first, *branch, *station.blocks(2)]
    for order in (blocks, blocks[::-1], blocks + branch):
        report = prove(order)
        assert (report.verdict, report.blocks, report.faults) == ("complete", 12, ())
        (abandoned,) = report.abandoned
        assert (abandoned.blocks, abandoned.readings, abandoned.first.seq, abandoned.last.seq) == (3, 8, 11, 13)


def test_two_branches_of_one_head_are_one_end_and_one_abandoned(station):
    """Two outages, both with a power cut at the end."""
    one, _ = volatile(station, b"V" * 8, 3)
    other, _ = volatile(station, b"W" * 8, 2)
    report = prove([*station.first, *one, *other])
    assert (report.verdict, len(report.abandoned), report.blocks) == ("complete", 1, 13)


def test_a_fork_inside_a_volatile_epoch_is_one(station):
    """Two blocks of one identity are an alarm wherever they are."""
    one, _ = volatile(station, b"V" * 8, 2)
    station.second += 7
    other, _ = volatile(station, b"V" * 8, 2)
    report = prove([*station.first, *one, *other])
    assert {fault.reason for fault in report.faults} == {"fork"}


def test_a_branch_that_is_confirmed_against_the_chain_is_a_fork(station):
    """A successor of the branch beside blocks that stand in the branch's place."""
    branch, after = volatile(station, b"V" * 8, 3)
    goes_on = Station(epoch=b"F" * 8, heads=after.heads, second=after.second)
    station.epoch = b"G" * 8
    report = prove([*station.first, *station.blocks(2), *branch, *goes_on.blocks(1)])
    assert "fork" in {fault.reason for fault in report.faults}


def test_holes_and_accounts_of_a_branch_come_with_it(station):
    """What it says, and what it lacks."""
    branch, after = volatile(station, b"V" * 8, 3)
    goes_on = Station(epoch=b"F" * 8, heads=after.heads, second=after.second)
    report = prove([*station.first, branch[0], hollow(branch[1]), branch[2], *goes_on.blocks(1)])
    assert shapes(report.holes) == [(12, 12, "unstated")]
    mine, theirs = Accounts(), Accounts()
    theirs.note(Event("evicted", 0, bytes(8), (("first", 1), ("last", 2), ("reason", "thin"))), 9)
    mine.add(theirs)
    assert [span.reason for span in mine.of_hole(1, 3)] == ["thin", "unstated"]


def test_what_is_wrong_in_a_branch_is_told_only_if_it_is_of_the_chain(station):
    """An abandoned one takes no part in links and totals."""
    memory, branch = volatile(station, b"V" * 8, 2)
    header = read_header(memory[1].envelope)
    wrong = [memory[0], resigned(memory[1], key(), totals=header.totals._replace(readings=10**6))]
    instead = Station(epoch=b"F" * 8, heads=dict(station.heads), second=500).blocks(2)
    assert prove([*station.first, *wrong, *instead]).verdict == "complete"
    at_the_end = prove([*station.first, *wrong])
    assert [(fault.reason, fault.seq) for fault in at_the_end.faults] == [("totals", header.seq)]
    named = resigned(branch.blocks(1)[0], key(), prev=wrong[1].digest)
    faults = [(fault.reason, fault.seq) for fault in prove([*station.first, *wrong, named]).faults]
    assert ("totals", header.seq) in faults
