"""What the format forbids is refused, however well it is signed."""

import pytest
from chains import METER, Station, key, resigned

from buffer.block import open_envelope, read_header, trust
from buffer.cbor import dumps
from buffer.columnar import MAX_READINGS, Payload, decode_payload, encode_payload
from buffer.errors import BlockInvalid
from buffer.frame import Change, Column, Event, Frame, Layout
from buffer.verify import payload_of

TRUSTED = trust([key().public_key])
LAYOUT = Layout("l", "d", "m", None, (Column("n", "uint16"),))


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 0},
        {"readings": MAX_READINGS + 1},
        {"frames": MAX_READINGS + 1},
        {"wall_ns": 1 << 63},
        {"wall_ns": -(1 << 63) - 1},
        {"interval": (0, 1 << 63)},
    ],
)
def test_a_signed_header_out_of_bounds_is_refused(changes):
    """A device that signs nonsense is not believed."""
    block = resigned(Station().blocks(1)[0], key(), **changes)
    with pytest.raises(BlockInvalid, match="header"):
        open_envelope(block.envelope, TRUSTED)


@pytest.mark.parametrize("changes", [{"readings": 1000}, {"frames": 7}])
def test_a_header_that_counts_otherwise_than_its_payload_is_told_when_decoded(changes):
    """Whoever decodes compares them."""
    station = Station()
    block = station.blocks(3)[-1]
    header = read_header(block.envelope)
    layouts = (METER,)
    payload_of(block, header, layouts)
    wrong = resigned(block, key(), **changes)
    with pytest.raises(BlockInvalid, match="counts"):
        payload_of(wrong, open_envelope(wrong.envelope, TRUSTED), layouts)


def test_frames_and_changes_share_one_bound_of_readings(monkeypatch):
    """Half of the bound in each is more than the bound."""
    frames = tuple(Frame(number, 0, (number,)) for number in range(3))
    changes = tuple(Change(0, None, number, number) for number in range(3))
    data = encode_payload(Payload(((0, frames),), ((0, changes),)), [LAYOUT])
    monkeypatch.setattr("buffer.columnar.MAX_READINGS", 5)
    with pytest.raises(BlockInvalid, match="too-many-readings"):
        decode_payload(data, [LAYOUT])


def test_a_tick_of_zero_and_a_time_beyond_64_bits_are_refused():
    """Ticks begin at 1; every time is an i64."""
    body = {0: b"", 3: [["e", 1 << 63, bytes(8), []]]}
    with pytest.raises(BlockInvalid, match="events"):
        decode_payload(dumps(body), [])
    with pytest.raises(BlockInvalid, match="tick"):
        decode_payload(dumps({0: b"", 1: [0, [], 0, {}, {}]}), [LAYOUT])
    assert decode_payload(encode_payload(Payload(events=(Event("e", -1, bytes(8)),)), []), []).events[0].t_boot_ns == -1
