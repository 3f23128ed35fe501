"""Batches become chained blocks, whole and in order, whatever their size and whatever is wrong with an entry."""

import random
from dataclasses import replace

import pytest
from chains import METER, SECOND, Station, batch, event, key, moment

from buffer.block import KIND_DATA, KIND_DEFINITIONS, KIND_EVENTS, MAX_PAYLOAD, encode_block, open_envelope, trust
from buffer.columnar import Definitions, Payload
from buffer.frame import Change, Column, Event, Frame, Layout
from buffer.layout import catalogue_digest, decode_layout, layout_id
from buffer.pack import Packer
from buffer.seal import Batch
from buffer.verify import Verifier, payload_of

KEYS = trust([key().public_key])


def contents(sealed, catalogue=(METER,)):
    """Give header and payload of every block of a sealed batch."""
    headers = [open_envelope(block.envelope, KEYS) for block in sealed.blocks]
    pairs = zip(sealed.blocks, headers, strict=True)
    return [(header, payload_of(block, header, catalogue)) for block, header in pairs]


def verdict(*sealed):
    """Prove sealed batches from the beginning."""
    verifier = Verifier([key().public_key])
    for one in sealed:
        for block in one.blocks:
            verifier.feed(block.envelope, block.payload)
    return verifier.report()


def test_the_catalogue_is_signed_before_the_first_block_that_needs_it():
    """The first block holds every layout and the list of them; the second names it."""
    sealed = Station().seal()
    (definitions, first), (data, second) = contents(sealed)
    assert (definitions.kind, data.kind) == (KIND_DEFINITIONS, KIND_DATA)
    assert tuple(map(decode_layout, first.definitions.layouts)) == (METER,)
    assert catalogue_digest(first.definitions.catalogue) == definitions.catalogue == data.catalogue
    assert sealed.definitions == first.definitions
    assert second.count_readings([METER]) == 4


def test_a_known_catalogue_is_not_signed_again():
    """Until it changes."""
    station = Station()
    station.seal()
    again = station.seal()
    other = station.seal(Batch(), catalogue=(METER, replace(METER, device="second")))
    assert [len(one.blocks) for one in (again, other)] == [1, 1]
    assert (again.definitions, other.definitions.layouts) != (None, ())


def test_the_first_block_of_an_epoch_says_what_precedes_it():
    """The predecessor, how it is known, and who seals."""
    station = Station()
    station.seal()
    last = station.heads["main"].digest
    station.epoch = b"F" * 8
    start = dict(contents(station.seal())[0][1].events[0].data)
    assert start["predecessor"] == last
    assert (start["known"], start["software"], start["keys"]) == ("store", "0.1.0", ())
    assert len(contents(station.seal())[0][1].events) == 0


def test_the_first_block_of_a_stream_has_no_predecessor():
    """And says so."""
    header, payload = contents(Station().seal())[0]
    assert header.prev is None
    assert header.seq == 1
    assert dict(payload.events[0].data)["known"] == "none"


def test_a_sealer_without_an_opening_adds_no_event():
    """What seals for a test or a tool need not pose as an agent."""
    assert contents(Station(opening=None).seal())[0][1].events == ()


def test_an_empty_batch_gives_an_empty_block():
    """A quiet stream still shows that it is complete so far."""
    station = Station()
    station.seal()
    ((header, payload),) = contents(station.seal(Batch()))
    assert (header.frames, header.readings, header.interval) == (0, 0, None)
    assert payload.frames == ()
    assert not Batch()


def test_totals_run_on_over_blocks_and_epochs():
    """Readings sealed, ticks missed, readings dropped before sealing."""
    station = Station()
    station.seal()
    station.epoch = b"F" * 8
    gathered = batch(50)
    gathered.ticks_missed, gathered.readings_dropped = 3, 7
    header, _ = contents(station.seal(gathered))[-1]
    assert header.totals == (8, 3, 7)


def test_frames_and_changes_share_a_block_and_events_have_their_own():
    """Readings may be evicted, what explains them may not; each block has the boot times inside."""
    station = Station(opening=None)
    gathered = batch(10)
    gathered.add_changes(METER, [Change(0, None, 5 * SECOND, 7), Change(1, 3, 6 * SECOND, 0.5)])
    gathered.events.append(event(second=90))
    (told, logbook), (header, payload) = contents(station.seal(gathered))[-2:]
    assert (told.kind, told.interval, logbook.events) == (KIND_EVENTS, (90 * SECOND, 90 * SECOND), (event(second=90),))
    assert (header.kind, header.frames, header.readings) == (KIND_DATA, 2, 6)
    assert header.interval == (5 * SECOND, 11 * SECOND)
    assert [change.value for change in payload.changes[0][1]] == [7, 0.5]
    assert payload.events == ()


def test_the_same_batch_gives_the_same_bytes():
    """Nothing is drawn or looked up while sealing."""
    assert Station().seal().blocks == Station().seal().blocks


def noisy(frames, layouts):
    """Give a batch that does not compress."""
    rnd = random.Random(7)
    gathered = Batch()
    for layout in layouts:
        for second in range(frames):
            gathered.add_frame(layout, Frame(second, 0, tuple(rnd.randrange(1 << 16) for _ in layout.columns)))
    return gathered


WIDE = Layout("l", "wide", "m", SECOND, tuple(Column(f"c{at}", "uint16") for at in range(500)))


def test_a_batch_too_large_for_one_block_is_split_in_order():
    """No block on the wire is larger than it may be, and nothing is lost."""
    station = Station(max_block=8_000)
    gathered = noisy(40, [WIDE])
    gathered.events += [event(number) for number in range(5)]
    sealed = station.seal(gathered, catalogue=(WIDE,))
    found = contents(sealed, (WIDE,))
    frames = [frame for _, payload in found for _, members in payload.frames for frame in members]
    assert frames == gathered.frames[WIDE]
    assert [e for _, payload in found for e in payload.events][1:] == gathered.events
    assert all(len(encode_block(block)) <= 8_000 for block in sealed.blocks)
    assert verdict(sealed).verdict == "complete"


def test_a_batch_of_single_frames_is_split_by_group():
    """Where there is one frame of each of many devices."""
    layouts = tuple(replace(WIDE, device=f"d{at}") for at in range(9))
    station = Station(max_block=4_000)
    gathered = noisy(1, layouts)
    gathered.add_changes(layouts[0], [Change(0, None, 1, 5)])
    gathered.events.append(event())
    sealed = station.seal(gathered, catalogue=layouts)
    found = contents(sealed, layouts)
    assert [frame for _, p in found for _, (frame,) in p.frames] == [gathered.frames[one][0] for one in layouts]
    assert sum(len(payload.changes) for _, payload in found) == 1
    assert verdict(sealed).verdict == "complete"


def test_an_entry_larger_than_a_block_may_be_stands_alone():
    """It cannot be divided, and is within the bounds of the format."""
    station = Station(max_block=2_000)
    sealed = station.seal(
        noisy(1, [replace(WIDE, columns=WIDE.columns * 4)]), catalogue=(replace(WIDE, columns=WIDE.columns * 4),)
    )
    assert max(len(block.payload) for block in sealed.blocks) > 2_000
    assert sealed.refused == 0


def test_definitions_too_large_for_one_block_are_spread():
    """The catalogue stands in the last of them; the layouts are all there."""
    layouts = tuple(replace(WIDE, device=f"d{at}") for at in range(6))
    sealed = Station(max_block=10_000).seal(Batch(), catalogue=layouts)
    parts = [payload.definitions for _, payload in contents(sealed, layouts)]
    assert len(parts) > 2
    assert [bool(part.catalogue) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [layout_id(decode_layout(one)) for part in parts for one in part.layouts] == list(map(layout_id, layouts))


def test_a_value_that_does_not_fit_costs_its_own_frame_only():
    """It is counted as dropped and named; every other frame of the batch is sealed."""
    station = Station()
    gathered = batch(10, frames=9)
    gathered.add_frame(METER, Frame(1, 1, (70_000, 1.0)))
    sealed = station.seal(gathered)
    found = contents(sealed)
    assert sealed.refused == 2
    assert found[0][0].totals.readings_dropped == 2
    assert found[-1][0].totals.readings == 18
    (refused,) = found[-1][1].events
    assert (refused.type, dict(refused.data)["device"]) == ("refused", "meter")
    assert verdict(sealed).verdict == "complete"


def test_an_event_that_does_not_fit_is_named_by_another():
    """Even then something of it is told."""
    gathered = Batch()
    gathered.events = [Event("huge", 1, bytes(8), (("n", 1 << 99),))]
    found = contents(Station(opening=None).seal(gathered))
    assert [dict(e.data).get("event") for _, payload in found for e in payload.events] == ["huge"]


def test_a_refused_event_leaves_the_definitions_beside_it():
    """A start event that cannot be encoded must not cost the catalogue."""
    station = Station()
    station.opening = station.opening._replace(software="x" * (MAX_PAYLOAD * 9))
    found = contents(station.seal(Batch()))
    assert found[0][1].definitions.catalogue
    assert [e.type for _, payload in found for e in payload.events] == ["refused"]


def test_an_entry_beyond_the_bounds_of_the_format_is_refused():
    """A text of megabytes that does not compress."""
    layout = Layout("l", "d", "m", None, (Column("blob", "bytes"),))
    gathered = Batch()
    gathered.add_frame(layout, Frame(1, 1, (random.Random(1).randbytes(MAX_PAYLOAD + 1),)))
    sealed = Station().seal(gathered, catalogue=(layout,))
    assert sealed.refused == 1
    assert verdict(sealed).verdict == "complete"


def test_definitions_that_cannot_be_encoded_are_a_bug_of_ours():
    """There is no entry to leave out."""
    with pytest.raises(ValueError, match="characters"):
        Station().seal(Batch(), catalogue=(replace(METER, device="x" * 2000),))


def test_definitions_beyond_the_bounds_are_a_bug_of_ours():
    """There is no entry to leave out here either."""
    with pytest.raises(ValueError, match="too large"):
        Packer([], 1000, 0, b"").pack(Payload(definitions=Definitions((random.Random(1).randbytes(MAX_PAYLOAD + 1),))))


def test_a_volatile_block_says_so():
    """It was sealed while the store could not commit."""
    sealed = Station().sealer.seal("main", None, batch(1), (METER,), moment(1), volatile=True)
    assert all(header.volatile for header, _ in contents(sealed))


def test_a_start_after_a_loss_names_what_was_set_aside():
    """And the highest seq noted of the stream, in a stream that has no block left too."""
    station = Station()
    station.opening = station.opening._replace(predecessor="lost", aside="buffer.db.broken-1", highest={"main": 9})
    for stream, highest in (("main", 9), ("side", None)):
        (_, payload), *_ = contents(station.seal(stream=stream))
        said = dict(payload.events[0].data)
        assert (said["known"], said["aside"], said["highest"]) == ("lost", "buffer.db.broken-1", highest)
