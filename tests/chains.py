"""What tests of several rooms build on: a station that seals, with a fixed key and a clock of its own."""

from dataclasses import dataclass, field, replace

from buffer.block import Block, ClockQuality, Header, read_header, sign_header
from buffer.changes import Aged, Change, Owed, Thinned
from buffer.frame import Column, Event, Frame, Layout
from buffer.keys import DeviceKey
from buffer.seal import Batch, Head, Moment, Opening, Sealed, Sealer
from buffer.store import Store

SECOND = 1_000_000_000
WALL = 1_767_225_600 * SECOND

METER = Layout(
    "bus-1",
    "meter",
    "modbus",
    SECOND,
    (Column("voltage", "uint16", unit="V", scale="0.1", address="input:0"), Column("power", "float32", unit="kW")),
)


def key(number: int = 1) -> DeviceKey:
    """Give a key that is always the same."""
    return DeviceKey.from_seed(bytes([number]) * 32)


def moment(second: int) -> Moment:
    """Give the moment so many seconds after boot."""
    return Moment(b"B" * 16, second * SECOND, WALL + second * SECOND, ClockQuality("synchronised", 2_000_000, "ntp"))


def batch(second: int, frames: int = 2, layout: Layout = METER) -> Batch:
    """Give a batch of frames of the meter."""
    gathered = Batch()
    for at in range(frames):
        gathered.add_frame(layout, Frame((second + at) * SECOND, 3_000_000, (2300 + second + at, 1.5 * at)))
    return gathered


def event(number: int = 1, second: int = 1) -> Event:
    """Give an event."""
    return Event("clock-stepped", second * SECOND, number.to_bytes(8, "big"), (("by_ns", -5),))


def event_batch(*changes: Change, second: int = 1) -> Batch:
    """Give a batch of nothing but the events that tell of changes."""
    gathered = Batch()
    for number, change in enumerate(changes, start=1):
        if not isinstance(change, Thinned | Aged | Owed):
            kind, data = change.told()
            gathered.events.append(Event(kind, second * SECOND, number.to_bytes(8, "big"), data))
    return gathered


@dataclass
class Station:
    """Seals streams of its own, second after second."""

    epoch: bytes = b"E" * 8
    signer: DeviceKey = field(default_factory=key)
    max_block: int = 56_000
    heads: dict[str, Head] = field(default_factory=dict)
    second: int = 0
    opening: Opening | None = field(
        default_factory=lambda: Opening(b"S" * 8, "0.1.0", b"H" * 32, b"C" * 32, predecessor="store")
    )

    @property
    def sealer(self) -> Sealer:
        """Give a sealer of this station's epoch."""
        return Sealer("station-1", self.signer, self.epoch, self.max_block, self.opening)

    def seal(self, what: Batch | None = None, stream: str = "main", catalogue: tuple[Layout, ...] = (METER,)) -> Sealed:
        """Seal a batch as the stream's next block."""
        self.second += 10
        gathered = batch(self.second) if what is None else what
        sealed = self.sealer.seal(stream, self.heads.get(stream), gathered, catalogue, moment(self.second))
        self.heads[stream] = sealed.head
        return sealed

    def blocks(self, count: int, stream: str = "main") -> list[Block]:
        """Give at least so many blocks of a stream."""
        found: list[Block] = []
        while len(found) < count:
            found += self.seal(stream=stream).blocks
        return found


def resigned(block: Block, signer: DeviceKey, **changes: object) -> Block:
    """Give a block whose header says something else, well signed."""
    header: Header = replace(read_header(block.envelope), **changes)
    return Block(sign_header(header, signer), block.payload)


def station_of(store: Store) -> Station:
    """Give a station that seals for a store."""
    return Station(epoch=store.epoch, heads=store.heads())


def fill(store: Store, commits: int = 3, stream: str = "main") -> list[Block]:
    """Append some blocks; give them."""
    station = station_of(store)
    found: list[Block] = []
    for _ in range(commits):
        sealed = station.seal(stream=stream)
        store.append([sealed])
        found += sealed.blocks
    return found
