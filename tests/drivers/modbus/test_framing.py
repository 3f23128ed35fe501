"""The framers: whatever comes in whatever pieces, the answer is found where it is and nothing else is taken for it."""

import itertools
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.modbus.framing import FRAMERS, crc16
from drivers.simulated.scripted_slave import ScriptedSlave

FRAMINGS = ("tcp", "rtu", "ascii")
UNIT = 17
QUESTION = bytes.fromhex("03006b0003")
ANSWER = bytes.fromhex("0306022b00000064")


def framer(framing, question=QUESTION, size=8):
    """Make a framer that awaits the answer to a question."""
    made = FRAMERS[framing](Counter())
    made.ask(UNIT, question, size)
    return made


def wrapped(framing, pdu=ANSWER, unit=UNIT, number=1):
    """Frame a PDU by the slave's own framing."""
    return ScriptedSlave().conversation(framing)._wrap(unit, pdu, number)


def fed(made, pieces):
    """Feed pieces until there is an answer."""
    for piece in pieces:
        if (answer := made.feed(piece)) is not None:
            return answer
    return None


def cut(data, places):
    """Cut bytes in pieces."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


PDUS = (ANSWER, ANSWER[:-2], b"\x83\x02", b"\x84\x02", QUESTION, b"\x04" + ANSWER[1:], b"\x03")
PLACES = st.lists(st.integers(0, 600), max_size=8)


def test_questions_are_framed_as_the_standards_say():
    """The examples of the standards: unit 17, three holding registers from 107."""
    assert framer("tcp")._question.hex() == "0001000000061103006b0003"
    assert framer("rtu")._question.hex() == "1103006b00037687"
    assert framer("ascii")._question == b":1103006B00037E\r\n"


def test_the_crc_is_the_one_of_the_standard():
    """Serial Line 6.2.2: 02 07 has the CRC 41 12; over a frame with its CRC it is zero."""
    assert crc16(b"\x02\x07").to_bytes(2, "little").hex() == "4112"
    assert crc16(b"\x02\x07\x41\x12") == 0


@pytest.mark.parametrize("framing", FRAMINGS)
@given(places=PLACES, registers=st.binary(min_size=6, max_size=6), before=st.sampled_from(["", "foreign", "echo"]))
def test_an_answer_is_found_in_whatever_pieces_it_comes(framing, places, registers, before):
    """Alone, behind a frame of another, or behind the echo of the question."""
    answer = ANSWER[:2] + registers
    made = framer(framing)
    stream = {"": b"", "foreign": wrapped(framing, unit=18, number=99), "echo": made._question}[before]
    if framing == "tcp" and before == "echo":
        stream = b""
    assert fed(made, cut(stream + wrapped(framing, answer), places)) == answer


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@given(noise=st.binary(max_size=30), places=PLACES)
@example(noise=bytes.fromhex("1103"), places=[])
@example(noise=bytes.fromhex("110306"), places=[])
@example(noise=bytes.fromhex("1183"), places=[])
@example(noise=bytes.fromhex("1103006b0003"), places=[3])
@example(noise=b":11", places=[])
def test_noise_before_an_answer_never_hides_it(framing, noise, places):
    """Also noise that begins like the answer: what it seems to announce never ends, or has a wrong checksum."""
    made = framer(framing)
    answer = fed(made, cut(noise + wrapped(framing), places)) or made.finish()
    assert answer == ANSWER


@pytest.mark.parametrize("framing", FRAMINGS)
@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.builds(
                lambda unit, pdu, number: (unit, pdu, number),
                st.sampled_from([UNIT, UNIT, 18, 0]),
                st.sampled_from(PDUS),
                st.sampled_from([1, 1, 2, 0, 65535]),
            ),
        ),
        max_size=6,
    ),
    places=PLACES,
    flip=st.none() | st.tuples(st.integers(0, 500), st.integers(0, 7)),
    owing=st.booleans(),
)
def test_whatever_comes_only_a_proven_frame_is_taken(framing, parts, places, flip, owing):
    """Anything in any pieces: nothing raises, and what is given stood in the stream as a whole frame of its unit."""
    stream = b"".join(
        part if isinstance(part, bytes) else wrapped(framing, part[1], part[0], part[2]) for part in parts
    )
    if flip is not None and stream:
        at = flip[0] % len(stream)
        stream = stream[:at] + bytes((stream[at] ^ 1 << flip[1],)) + stream[at + 1 :]
    made = FRAMERS[framing](Counter())
    made.owing = owing
    made.ask(UNIT, QUESTION, len(ANSWER))
    answer = fed(made, cut(stream, places)) or made.finish()
    if answer is not None:
        assert framing == "tcp" or answer[0] in (3, 0x83)
        frame = wrapped(framing, answer)
        assert (frame.lower() in stream.lower()) if framing == "ascii" else (frame in stream)
        assert not owing or framing == "tcp" or answer[0] == 0x83 or len(answer) == len(ANSWER)


@pytest.mark.parametrize("framing", FRAMINGS)
@given(
    data=st.binary(max_size=400), places=PLACES, question=st.binary(min_size=5, max_size=30), size=st.integers(2, 253)
)
def test_arbitrary_bytes_neither_raise_nor_pile_up(framing, data, places, question, size):
    """Before a question, during, and after; for any question."""
    made = FRAMERS[framing](Counter())
    fed(made, cut(data, places))
    made.ask(UNIT, question, size)
    fed(made, cut(data, places))
    made.finish()
    fed(made, cut(data, places))
    made.finish()


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_babbling_line_is_bounded_in_memory_and_still_heard_through(framing):
    """A unit gone mad sends without end; the answer behind it counts."""
    made = framer(framing)
    for _ in range(200):
        assert made.feed(b"\x11\x03\x55:" * 40) is None
    assert made.pending <= 4096
    assert made.feed(wrapped(framing)) == ANSWER
    assert made.skipped["noise"] > 20_000


def test_a_frame_inside_the_answer_is_data():
    """Registers that hold a whole exception of this unit, checksum and all."""
    inner = wrapped("rtu", b"\x83\x02")
    answer = b"\x03\x06" + inner + b"\x00"
    made = framer("rtu")
    stream = wrapped("rtu", answer)
    assert fed(made, [bytes((byte,)) for byte in stream]) == answer


def test_a_false_start_of_the_right_length_is_given_up_when_time_is_up():
    """Three bytes that begin like the answer hold an exception back, but only till then."""
    made = framer("rtu")
    assert made.feed(b"\x11\x03\x06" + wrapped("rtu", b"\x83\x02")) is None
    assert made.finish() == b"\x83\x02"
    assert not made.half


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_damaged_answer_is_spoilt_and_a_right_one_behind_it_taken(framing):
    """The first copy is damaged, the second is not."""
    made = framer(framing)
    whole = wrapped(framing)
    at = len(whole) - 3 if framing == "ascii" else len(whole) - 1
    spoilt = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
    assert made.feed(spoilt) is None
    assert made.spoilt
    assert made.feed(whole) == ANSWER
    assert (made.spoilt, made.skipped["crc"]) == (False, 1)


def test_what_mbap_cannot_be_breaks_the_stream():
    """Another protocol, and lengths that no frame has."""
    for head in ("000100010006", "000100000001", "0001000000ff", "485454502f31"):
        made = framer("tcp")
        assert made.feed(bytes.fromhex(head) + bytes(3)) is None
        assert made.broken, head


def test_tcp_tells_late_from_foreign_and_a_missing_number():
    """A number asked before is late; one never asked is foreign; none at all spoils the wait."""
    made = FRAMERS["tcp"](Counter())
    for _ in range(3):
        made.ask(UNIT, QUESTION, len(ANSWER))
    assert made.feed(wrapped("tcp", number=1) + wrapped("tcp", number=900)) is None
    assert (made.late, made.skipped) == ([1], {"late": 1, "foreign": 1})
    assert made.feed(wrapped("tcp", number=0)) is None
    assert made.spoilt
    assert made.feed(wrapped("tcp", number=3)) == ANSWER
    assert made.feed(wrapped("tcp", number=3)) is None


def test_numbers_come_round_without_zero():
    """After 65535 comes 1."""
    made = FRAMERS["tcp"](Counter())
    made.number = 65534
    asked = [int.from_bytes(made.ask(UNIT, QUESTION, 8)[:2], "big") for _ in range(3)]
    assert asked == [65535, 1, 2]


def test_half_an_answer_is_known_as_such():
    """And nothing at all, or somebody else's, is not."""
    for framing in FRAMINGS:
        for data, half in ((wrapped(framing)[:-3], True), (b"", False)):
            made = framer(framing)
            made.feed(data)
            made.finish()
            assert (made.half, made.skipped["half"]) == (half, half), framing
    made = framer("rtu")
    made.feed(wrapped("rtu", unit=18)[:-1])
    made.finish()
    assert (made.half, made.skipped["noise"]) == (False, 10)


def test_the_first_echo_of_a_write_is_no_answer_where_reads_are_echoed():
    """Without an echo the answer of function 6 is its question; with one, the second copy is the answer."""
    for framing in ("rtu", "ascii"):
        made = FRAMERS[framing](Counter())
        write = bytes.fromhex("0600090102")
        copy = made.ask(UNIT, write, 5)
        assert made.feed(copy) == write
        made.feed(made.ask(UNIT, QUESTION, 8))
        assert made.feed(wrapped(framing)) == ANSWER
        copy = made.ask(UNIT, write, 5)
        assert made.feed(copy) is None
        assert made.feed(copy) == write
