"""The key ring: which keys are believed when, and what a retired one signed is named."""

from chains import SECOND, Station, key, resigned

from buffer.accounts import events_of
from buffer.frame import Event
from buffer.rotation import sign_statement
from buffer.seal import Batch
from buffer.trust import KeyRing, statements_of
from buffer.verify import MAX_FAULTS, Verifier


def rotation(old, new, counter=1):
    """Give a batch with the event of a rotation."""
    data = (("key", new.kid), ("statement", sign_statement("station-1", old, new, counter)))
    return Batch(events=[Event("key-rotated", SECOND, b"R" * 8, data)])


def rotations(count):
    """Give a chain with so many rotations, each key signing one block of readings, and the station behind it."""
    station = Station()
    blocks = station.blocks(2)
    for number in range(1, count + 1):
        blocks += station.seal(rotation(key(number), key(number + 1), number)).blocks
        station.signer = key(number + 1)
        blocks += station.blocks(1)
    return blocks, station


def verified(blocks, *trusted):
    """Give the report on blocks."""
    verifier = Verifier([one.public_key for one in trusted])
    for block in blocks:
        verifier.feed(block.envelope, block.payload)
    return verifier.report()


def reasons(report):
    """Give the faults as reason and number."""
    return [(fault.reason, fault.seq) for fault in report.faults]


def test_from_the_enrolled_key_the_whole_chain_is_proven():
    """Through as many rotations as there were."""
    blocks, _ = rotations(5)
    assert verified(blocks, key(1)).verdict == "complete"
    assert verified(blocks, key(1), key(6)).verdict == "complete"


def test_a_later_key_proves_what_came_after_it():
    """Statements lead forward only: the earlier blocks stay foreign."""
    blocks, _ = rotations(2)
    report = verified(blocks, key(3))
    assert report.blocks == 1
    assert report.count("foreign-key") == len(blocks) - 1


def test_a_statement_of_a_key_that_nobody_named_is_passed_over():
    """Who enrolled the present key does not care how it came to be; nor does it bring another key in."""
    station = Station()
    blocks = [*station.blocks(2), *station.seal(rotation(key(8), key(9))).blocks]
    assert verified(blocks, key(1)).verdict == "complete"
    station.signer = key(9)
    assert reasons(verified(blocks + station.blocks(1), key(1))) == [("foreign-key", 0)]


def test_what_a_retired_key_signs_is_a_fault_in_any_order():
    """The statement may come before or after."""
    blocks, station = rotations(2)
    thief = Station(epoch=b"X" * 8, heads=dict(station.heads), signer=key(1), opening=None)
    stolen = thief.blocks(2)
    wanted = [("retired-key", 7), ("retired-key", 8)]
    assert reasons(verified(blocks + stolen, key(1))) == wanted
    assert reasons(verified(stolen + blocks, key(1))) == wanted


def test_a_key_retires_in_each_stream_by_itself():
    """A stream whose statement is not here yet is not judged by another's."""
    station = Station()
    blocks = station.blocks(2) + station.blocks(2, "side")
    blocks += station.seal(rotation(key(1), key(2))).blocks
    assert verified(blocks + station.blocks(1, "side"), key(1)).verdict == "complete"
    assert reasons(verified(blocks + station.blocks(1), key(1))) == [("retired-key", 4)]


def test_a_new_label_does_not_bring_a_retired_key_back():
    """The stream is the same, whatever the gateway is called."""
    blocks, station = rotations(1)
    (block,) = station.seal(Batch()).blocks
    report = verified([*blocks, resigned(block, key(1), gateway="renamed")], key(1))
    assert ("retired-key", 5) in reasons(report)


def test_many_faults_are_counted_and_not_all_described():
    """A stolen key can sign without end."""
    ring = KeyRing([key(1).public_key])
    blocks, _ = rotations(1)
    verifier = Verifier([key(1).public_key])
    headers = [verifier.feed(block.envelope, block.payload) for block in blocks]
    for header, block in zip(headers, blocks, strict=True):
        ring.note(header)
        ring.learn(header, events_of(block, header))
    verifier._ring._signed["station-1", "main", key(1).kid, b""].add_range(10, 10 + 2 * MAX_FAULTS)
    report = verifier.report()
    assert report.count("retired-key") == MAX_FAULTS
    assert report.fault_count == 2 * MAX_FAULTS + 1
    assert ring.count_faults() == 0


def test_a_second_successor_is_a_fault_and_not_believed():
    """The first that was learnt stays."""
    blocks, station = rotations(1)
    blocks += station.seal(rotation(key(1), key(7))).blocks
    station.signer = key(7)
    assert reasons(verified(blocks + station.blocks(1), key(1))) == [("foreign-key", 0), ("key-statement", 5)]


def test_a_repeat_teaches_the_same_and_is_no_second_fault():
    """At-least-once delivery brings a bad statement twice."""
    station = Station()
    bad = Batch(events=[Event("key-rotated", SECOND, b"R" * 8, (("statement", b"bad"),))])
    blocks = [*station.blocks(2), *station.seal(bad).blocks]
    assert reasons(verified(blocks + blocks[2:], key(1))) == [("key-statement", 3)]


def test_statements_are_read_where_they_may_stand():
    """One in `key-rotated`, an array in `start`; elsewhere they are data."""
    events = [
        Event("key-rotated", 0, bytes(8), (("statement", (b"a", b"b")),)),
        Event("start", 0, bytes(8), (("keys", ((b"c", b"d"), (b"e", b"f"))),)),
        Event("start", 0, bytes(8), (("keys", b"g"),)),
        Event("start", 0, bytes(8), ()),
        Event("key-rotated", 0, bytes(8), ()),
        Event("stop", 0, bytes(8), (("statement", (b"h", b"i")),)),
    ]
    assert list(statements_of(events)) == [(b"a", b"b"), (b"c", b"d"), (b"e", b"f"), b"g", None]


def test_an_unknown_kind_teaches_nothing():
    """It is hashed and counted, and need not be understood."""
    blocks, station = rotations(1)
    unknown = resigned(blocks[2], key(1), kind=9)
    report = verified([*blocks[:2], unknown, *station.blocks(1)], key(1))
    assert report.count("foreign-key") == 1


def test_an_abandoned_branch_of_the_retired_key_is_no_fault():
    """It was sealed in memory and sent before the power went; what came after the rotation is another matter."""
    station = Station()
    blocks = station.blocks(2)
    branch = Station(epoch=b"V" * 8, heads=dict(station.heads))
    lost = [resigned(block, key(1), flags=1) for block in branch.blocks(1)]
    for _ in range(3):
        again = resigned(lost[-1], key(1), seq=len(lost) + 3, prev=lost[-1].digest)
        lost.append(again)
    blocks += station.seal(rotation(key(1), key(2))).blocks
    station.signer = key(2)
    report = verified([*blocks, *station.blocks(4), *lost], key(1))
    assert len(report.abandoned) == 1
    assert report.count("retired-key") == 0
    joined = [resigned(station.blocks(1)[0], key(1), flags=1, epoch=b"W" * 8)]
    assert reasons(verified([*blocks, *joined], key(1)))[-1][0] == "retired-key"
