"""Makes chains whose frames have a place in UTC, for `vectors/times.json`: boots, anchors, and what is none.

What is always true here: anchors of one boot lie so far from each other that a reader who keeps few of them leaves none
out; fixed keys, times and values. `times.json` says of each frame what the timeline says.
"""

from dataclasses import dataclass, field

from chains import METER, SECOND, WALL, Station, batch

from buffer.block import ClockQuality, encode_block, read_header
from buffer.frame import Event
from buffer.seal import Moment
from buffer.timeline import Placed, Timeline
from buffer.verify import payload_of

MINUTE = 60 * SECOND
NEVER = ClockQuality("unsynchronised", None, "kernel")


def good(error_ns=2_000_000):
    """Give the word of a clock that is synchronised."""
    return ClockQuality("synchronised", error_ns, "kernel")


def anchor(boot_ns, wall_ns, error_ns=1_000_000, kind="clock-synchronised"):
    """Give an event about the clock."""
    data = (("source", "kernel"), ("boot_ns", boot_ns), ("wall_ns", wall_ns), ("max_error_ns", error_ns))
    return Event(kind, boot_ns if type(boot_ns) is int else 0, b"K" * 8, data)


@dataclass
class Schedule:
    """A chain in the making: what is sealed when, by which clock."""

    station: Station = field(default_factory=Station)
    blocks: list = field(default_factory=list)

    def seal(self, boot, minute, offset_ns=WALL, clock=NEVER, events=()):
        """Seal two frames so many minutes after the boot began, and these events."""
        what = batch(60 * minute - 2)
        what.events += events
        boot_ns = minute * MINUTE
        now = Moment(bytes([boot]) * 16, boot_ns, boot_ns + offset_ns, clock)
        sealed = self.station.sealer.seal("main", self.station.heads.get("main"), what, (METER,), now)
        self.station.heads["main"] = sealed.head
        self.blocks += sealed.blocks
        return self


def one_boot():
    """Before the first anchor, between two, behind the last; what is no anchor."""
    made = Schedule().seal(1, 1).seal(1, 31, WALL + 1_000_003, good())
    made.seal(1, 47, events=(anchor(47 * MINUTE, None), anchor(48 * MINUTE, WALL, -1), anchor(1, 2, 3, "clock-lost")))
    made.seal(1, 71, WALL + 4_000_001, good(3_000_001)).seal(1, 99, clock=ClockQuality("synchronised", None, "kernel"))
    made.seal(1, 120, events=(anchor(110 * MINUTE, WALL + 110 * MINUTE, True), anchor(True, 2, 3)))
    return made.seal(1, 240, WALL + 5, ClockQuality("holdover", 5, "ntp"), (anchor(200 * MINUTE, WALL + 200 * MINUTE),))


def a_liar():
    """For a while a time server says an hour too much: all of the boot is disputed."""
    made = Schedule()
    for hour in range(1, 9):
        made.seal(1, 60 * hour - 25).seal(1, 60 * hour, WALL + (3600 * SECOND if hour in (3, 4) else hour), good())
    return made


def at_one_moment():
    """Two anchors of one moment: the header of the block, and its event, that agree; then that do not."""
    made = Schedule().seal(1, 20, WALL, good())
    made.seal(1, 40, WALL + 9, good(), (anchor(40 * MINUTE, WALL + 40 * MINUTE + 700_000, 500_000),)).seal(1, 50)
    made.seal(2, 20, WALL + 90 * MINUTE, good(50))
    return made.seal(2, 40, WALL, good(50), (anchor(40 * MINUTE, WALL + 130 * MINUTE),)).seal(2, 55)


def boots():
    """Boots that never knew the time, at the beginning, between others, two in a row, and at the end."""
    made = Schedule().seal(1, 5).seal(1, 35)
    made.seal(2, 10, WALL, good()).seal(2, 30)
    made.seal(3, 15).seal(3, 55).seal(4, 17).seal(4, 77)
    made.seal(5, 40, WALL + 10**6 * SECOND, good()).seal(5, 90, WALL + 10**6 * SECOND + 77, good())
    return made.seal(6, 3).seal(6, 33)


def boots_out_of_order():
    """A boot that says it was ten years after the next one."""
    decade = 315_360_000 * SECOND
    made = Schedule().seal(1, 10, WALL, good()).seal(2, 10, WALL + decade, good()).seal(2, 30)
    return made.seal(3, 20).seal(4, 10, WALL + 7200 * SECOND, good()).seal(4, 50)


def nothing_known():
    """No anchor anywhere."""
    return Schedule().seal(1, 5).seal(2, 9)


SCHEDULES = {
    "one boot": one_boot,
    "a liar": a_liar,
    "two anchors of one moment": at_one_moment,
    "boots that never knew": boots,
    "boots that contradict their order": boots_out_of_order,
    "nothing known": nothing_known,
}


def line_of(blocks):
    """Give the timeline of a chain, whose blocks are all there, and the payloads by block."""
    line, payloads = Timeline(), []
    for block in blocks:
        header = read_header(block.envelope)
        payload = payload_of(block, header, [METER])
        line.note(header)
        for event in payload.events:
            line.note_event(event)
        payloads.append((header, payload))
    return line, payloads


def places(blocks):
    """Give what the timeline says of every frame of a chain."""
    line, payloads = line_of(blocks)
    return [
        [header.seq, header.boot_id.hex(), frame.t_boot_ns, *shaped(line.place(header.boot_id, frame.t_boot_ns))]
        for header, payload in payloads
        for _, frames in payload.frames
        for frame in frames
    ]


def shaped(found):
    """Give UTC, bound and whether that is disputed, and the ends of the bracket; null for what is not known."""
    if isinstance(found, Placed):
        return [found.utc_ns, found.bound_ns, found.disputed, None, None]
    return [None, None, False, *(found or (None, None))]


def times():
    """Give the chains and the places of their frames."""
    found = []
    for name, make in SCHEDULES.items():
        blocks = make().blocks
        placed = [
            [str(one) if type(one) is int and abs(one) >= 1 << 53 else one for one in row] for row in places(blocks)
        ]
        found.append({"name": name, "blocks": [encode_block(block).hex() for block in blocks], "times": placed})
    return found
