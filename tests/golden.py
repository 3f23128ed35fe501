"""The block that every format's golden vectors are made from: fixed key, fixed clocks, one of everything."""

import struct
from collections.abc import Sequence
from dataclasses import replace

from chains import SECOND, WALL, key

from agent.broker import Message
from agent.formats.api import Conversation, Hold, Opened, Placer, Skip, Station
from agent.formats.opening import Opener, Points
from agent.kept import Definition, Kept
from buffer.block import ClockQuality, read_header
from buffer.frame import Change, Column, Event, Frame, Layout
from buffer.layout import catalogue_digest, encode_catalogue, encode_layout, layout_id
from buffer.seal import Batch, Moment, Opening, Sealer
from buffer.status import BAD_OUT_OF_RANGE, BAD_TIMEOUT, UNCERTAIN_SENSOR_NOT_ACCURATE

BOOT = b"B" * 16
SYNCHRONISED = ClockQuality("synchronised", 2_000_000, "ntp")
UNSYNCHRONISED = ClockQuality("unsynchronised", None, "none")
TENTH = struct.unpack("<f", struct.pack("<f", 0.1))[0]

METER = Layout(
    "bus-1",
    "meter",
    "modbus",
    SECOND,
    (
        Column("voltage", "uint16", unit="V", scale="0.1", address="input:0", order="AB"),
        Column("flow", "float32", unit="m³/h", address="input:2"),
        Column("energy", "uint64", unit="kWh", scale="0.001", offset="-12.5", address="holding:40"),
    ),
)
EVERY_KIND = Layout(
    "bus-1",
    "panel",
    "modbus",
    None,
    tuple(
        Column(kind, kind)
        for kind in (
            *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
            *("float16", "float32", "float64", "text", "bytes"),
        )
    ),
)
PRESS = Layout("plc", "press", "opcua", None, (Column("speed", "float64", unit="rpm"), Column("batch", "text")))
CATALOGUE = (METER, EVERY_KIND, PRESS)


def batch() -> Batch:
    """Give one of everything."""
    gathered = Batch()
    gathered.add_frame(METER, Frame(101 * SECOND + 250_000, 3_000_000, (2301, TENTH, 12_500)))
    gathered.add_frame(METER, Frame(102 * SECOND, 2_000_000, (2299, float("nan"), 2**64 - 1)))
    gathered.add_frame(
        METER,
        Frame(
            103 * SECOND, 1_000_000, (9999, 2.5, None), (BAD_OUT_OF_RANGE, UNCERTAIN_SENSOR_NOT_ACCURATE, BAD_TIMEOUT)
        ),
    )
    least = (
        False,
        -128,
        0,
        -32768,
        0,
        -(2**31),
        0,
        -(2**63),
        0,
        -65504.0,
        float("-inf"),
        -1.7976931348623157e308,
        "",
        b"",
    )
    most = (True, 127, 255, 32767, 65535, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 65504.0, float("inf"), 5e-324)
    gathered.add_frame(EVERY_KIND, Frame(102 * SECOND, 0, least))
    gathered.add_frame(EVERY_KIND, Frame(103 * SECOND, 0, (*most, 'Nước "sạch"\n', b"\x00\xff")))
    gathered.add_changes(
        PRESS,
        [
            Change(0, WALL + 102 * SECOND + 7_000_000, 102 * SECOND + 9_000_000, 1480.5),
            Change(1, None, 103 * SECOND, "lô 7"),
            Change(0, WALL + 90 * SECOND, 103 * SECOND, 1479.0, UNCERTAIN_SENSOR_NOT_ACCURATE, historical=True),
            Change(0, None, 104 * SECOND, None, BAD_TIMEOUT),
        ],
    )
    gathered.events.append(
        Event("device-lost", 103 * SECOND, b"\x01" * 8, (("device", "meter"), ("after_ns", 5), ("x", 0.5)))
    )
    return gathered


def sealed(
    clock: ClockQuality = SYNCHRONISED,
    boot_id: bytes = BOOT,
    what: Batch | None = None,
    layouts: tuple[Layout, ...] = CATALOGUE,
) -> list[Kept]:
    """Seal the batch: definitions, events, data."""
    moment = Moment(boot_id, 105 * SECOND, WALL + 105 * SECOND, clock)
    sealer = Sealer("station-1", key(), b"E" * 8, 56_000, Opening(b"S" * 8, "0.1.0", b"H" * 32, b"C" * 32))
    done = sealer.seal("main", None, batch() if what is None else what, layouts, moment)
    return [Kept("main", at, block, done.head.catalogue) for at, block in enumerate(done.blocks, start=1)]


def data_block(
    clock: ClockQuality = SYNCHRONISED,
    boot_id: bytes = BOOT,
    what: Batch | None = None,
    layouts: tuple[Layout, ...] = CATALOGUE,
) -> Kept:
    """Give the block with the readings."""
    return next(kept for kept in sealed(clock, boot_id, what, layouts) if read_header(kept.block.envelope).readings)


def events_block() -> Kept:
    """Give the block with the event."""
    return next(kept for kept in sealed() if read_header(kept.block.envelope).kind == 2)


class Nowhen:
    """Knows no time; `ended` boots are final."""

    def __init__(self, *ended: bytes, known: dict[bytes, int] | None = None) -> None:
        self._ended = ended
        self.known = known or {}

    def place(self, boot_id: bytes, boot_ns: int) -> tuple[int, int] | None:
        """Give wall time where it is known, within a second."""
        return (self.known[boot_id] + boot_ns, SECOND) if boot_id in self.known else None

    def final(self, boot_id: bytes) -> bool:
        """Say whether a boot has ended."""
        return boot_id in self._ended


def opener(
    points: Sequence[str] | None = None, placer: Placer | None = None, layouts: Sequence[Layout] = CATALOGUE
) -> Opener:
    """Give an opener that knows the catalogue."""
    opened = Opener(Points(points), placer or Nowhen())
    known = {layout_id(layout): encode_layout(layout) for layout in layouts}
    encoded = encode_catalogue(tuple(known))
    opened.learn(catalogue_digest(encoded), Definition(encoded, known))
    return opened


def station(**changes: object) -> Station:
    """Give the station of the vectors."""
    profiles = {"meter": "maker/model", "panel": None}
    plain = Station("station-1", "trambien/v1/station-1", "Asia/Ho_Chi_Minh", key, profiles)
    return replace(plain, **changes)  # type: ignore[arg-type]


def told(
    conversation: Conversation,
    kept: Kept,
    points: Sequence[str] | None = None,
    placer: Placer | None = None,
    layouts: Sequence[Layout] = CATALOGUE,
) -> list[Message]:
    """Give the messages that a conversation makes of a block."""
    opened = opener(points, placer, layouts).open(kept)
    assert isinstance(opened, Opened)
    answer = conversation.messages(opened)
    assert not isinstance(answer, Hold | Skip)
    return list(answer)


def said(messages: Sequence[Message]) -> str:
    """Write messages as the golden files hold them: topic, content type, payload."""
    lines = [f"{one.topic} [{one.content_type or ''}]\n{one.payload.decode()}\n" for one in messages]
    return "\n".join(lines)
