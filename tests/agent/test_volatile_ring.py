"""The ring of blocks that could not be written: what goes first, and what is told of it."""

from chains import Station

from agent.kept import Kept
from agent.volatile import Lost, Outage, Ring
from buffer.block import KIND_DATA, read_header
from buffer.intervals import Intervals

S = 10**9


def nobody(_stream: str, _position: int) -> bool:
    """Nothing was delivered."""
    return False


def volatile_blocks(count: int) -> list[Kept]:
    """Seal so many data blocks, with what comes before the first."""
    station = Station()
    return [Kept("main", position, block, b"") for position, block in enumerate(station.blocks(count), start=1)]


def test_the_ring_is_bounded_and_says_what_went():
    """Oldest readings first; what explains them stays."""
    blocks = volatile_blocks(60)
    kinds = [read_header(one.block.envelope).kind for one in blocks]
    size = sum(one.block.size for one in blocks)
    ring = Ring(limit=size // 2)
    for one in blocks:
        ring.add([one], nobody)
        assert ring.size <= ring.limit
    gone = [one.position for one in blocks if ring.get("main", one.position) is None]
    assert len(ring) + len(gone) == len(blocks)
    assert all(kinds[position - 1] == KIND_DATA for position in gone)
    assert ring.get("main", 1) == blocks[0]
    (lost,) = ring.take_lost({}).values()
    assert (lost.first, lost.last, lost.blocks) == (gone[0], gone[-1], len(gone))
    assert lost.readings == sum(read_header(blocks[position - 1].block.envelope).readings for position in gone)
    assert ring.take_lost({}) == {}


def test_what_every_uplink_has_goes_first():
    """The platform has it; the rest nobody has."""
    blocks = volatile_blocks(20)
    ring = Ring(limit=sum(one.block.size for one in blocks) - 1)
    ring.add(blocks, lambda _, position: position > 15)
    assert ring.gone["main"] == Intervals([(16, 16 + ring.gone["main"].count() - 1)])


def test_what_explains_goes_last_and_goes():
    """The bound holds whatever is in the ring."""
    blocks = [one for one in volatile_blocks(3) if read_header(one.block.envelope).kind != KIND_DATA]
    ring = Ring(limit=1)
    ring.add(blocks, nobody)
    assert len(ring) == 0


def test_what_a_commit_in_doubt_brought_into_the_store_is_not_lost():
    """Only what went and is not in the file is told."""
    blocks = volatile_blocks(30)
    for came_through in (True, False):
        ring = Ring(limit=sum(one.block.size for one in blocks))
        ring.add(blocks[:20], nobody)
        ring.tried()
        ring._make_room(0, nobody)
        ring.add(blocks[20:], nobody)
        ring._make_room(0, nobody)
        lost = ring.take_lost({"main": 20 if came_through else 0})["main"]
        assert (lost.first, lost.last, lost.blocks) == ((21, 30, 10) if came_through else (1, 30, 30))


def test_nothing_goes_for_the_sake_of_the_blocks_that_name_what_went():
    """They may stand beyond the bound; where one of them goes in the end, what it named is told again."""
    blocks = volatile_blocks(30)
    size = sum(one.block.size for one in blocks[:-1])
    ring = Ring(limit=size)
    ring.add(blocks[:-1], nobody)
    ring._drop(ring._entries["main", 10])
    lost = ring.take_lost({})
    assert (lost["main"].first, lost["main"].last) == (10, 10)
    ring.size = ring.limit
    ring.add_naming([blocks[-1]], lost)
    assert ring.take_lost({}) == {}
    assert ring.get("main", 30) == blocks[-1]
    ring._make_room(0, nobody)
    again = ring.take_lost({})["main"]
    assert (again.first, again.last, again.blocks) == (1, 30, 30)


def test_the_ring_gives_at_least_one_block_however_few_bytes():
    """As the store does; and says what had no room."""
    blocks = volatile_blocks(10)
    ring = Ring()
    ring.add(blocks, nobody)
    ring._drop(ring._entries["main", 3])
    assert ring.read("main", 2, 10, 1) == ((blocks[1],), (), ((3, 3, "volatile"),))
    assert len(ring.read("main", 1, 99, 1 << 20).blocks) == 9
    assert ring.read("main", 50, 60, 1 << 20) == ((), (), ())


def test_an_outage_is_long_after_some_seconds_and_tried_ever_later():
    """A small fault is over before."""
    outage = Outage()
    assert not outage.lasts(10**18)
    pauses = []
    for _ in range(8):
        outage.failed(0)
        pauses.append(outage.next_ns / S)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert not outage.lasts(int(4.9 * S))
    assert outage.lasts(5 * S)
    outage.over()
    assert not outage.lasts(5 * S)
    outage.failed(7 * S)
    assert outage.next_ns == int(7.5 * S)


def test_two_losses_are_counted_together():
    """From the first to the last."""
    assert Lost(3, 4, 2, 20) | Lost(1, 1, 1, 5) == Lost(1, 4, 3, 25)
