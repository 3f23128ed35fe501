"""The ways to ask how good the clock is: what each answer is worth, and that none of them ever raises."""

import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from agent import clock_sources
from agent.clock import boot_id
from agent.clock_sources import Evidence, _Timex, chrony, chrony_told, joined, judged, kernel, ntp, thorough, timesyncd
from buffer.block import ClockQuality

SECOND = 10**9
WALL = 1_800_000_000 * SECOND
GOOD = ClockQuality("synchronised", 7_000_000, "kernel")
BAD = ClockQuality("unsynchronised", None, "kernel")
TRACKING = (
    "A29FC87B,192.0.2.1,4,1799999990.500000000,-0.000020390,0.1,0.2,-19.4,0.003,0.09,0.020000000,0.001500000,64.2,"
)
NTP = struct.Struct("!BBbbIIIQQQQ")


def test_this_machine_answers_or_says_that_nobody_knows():
    """Whatever the sandbox of the test."""
    assert kernel().quality in {"synchronised", "unsynchronised", "unknown"}
    assert clock_sources.quick(WALL, Path("/nonexistent")).clock == kernel()


@pytest.mark.parametrize(
    ("state", "fields", "expected"),
    [
        (0, {"maxerror": 5000, "tick": 10_000}, ClockQuality("synchronised", 5_000_000, "kernel")),
        (0, {"maxerror": 5000, "tick": 10_001, "offset": -300}, ClockQuality("synchronised", 5_300_000, "kernel")),
        (
            0,
            {"maxerror": 5, "tick": 10_000, "offset": 9, "status": 0x2001},
            ClockQuality("synchronised", 5009, "kernel"),
        ),
        (5, {"maxerror": 5000, "tick": 10_000}, BAD),
        (0, {"maxerror": 5000, "tick": 10_000, "status": 0x40}, BAD),
        (0, {"maxerror": 5000, "tick": 10_833}, BAD),
    ],
)
def test_the_kernels_answer(state, fields, expected):
    """The error counts what is still to be slewed; what is slewed fast is not there yet."""
    assert judged(state, _Timex(**fields)) == expected


def test_timesyncds_file_is_believed_while_it_is_touched(tmp_path):
    """It is touched at every poll, at most 2,048 s apart; older, or of the future, it says nothing."""
    marker = tmp_path / "synchronized"
    assert timesyncd(WALL, marker) is None
    marker.touch()
    os.utime(marker, ns=(WALL, WALL))
    told = timesyncd(WALL + 1000 * SECOND, marker)
    assert told == Evidence(ClockQuality("synchronised", 5_500_000_000, "timesyncd"), WALL)
    assert timesyncd(WALL - 1, marker) is None
    assert timesyncd(WALL + 3 * 2048 * SECOND + 1, marker) is None
    assert clock_sources.quick(WALL, marker).clock.quality == {"unknown": "synchronised"}.get(
        kernel().quality, kernel().quality
    )


def test_the_kernel_is_asked_first_and_timesyncd_makes_it_honest():
    """What timesyncd tells the kernel is an error of nothing; the distance of its server is added."""
    marker = Evidence(ClockQuality("synchronised", 5_400_000_000, "timesyncd"), WALL)
    assert joined(GOOD, None) == Evidence(GOOD)
    assert joined(GOOD, marker) == Evidence(ClockQuality("synchronised", 5_007_000_000, "timesyncd"))
    assert joined(BAD, marker) == Evidence(BAD)
    assert joined(clock_sources.UNKNOWN, marker) == marker


def test_what_chrony_tells():
    """Half the delay, the dispersion, and what it still slews. Its own clock is no reference."""
    told = chrony_told(TRACKING + "Normal")
    assert told == Evidence(ClockQuality("synchronised", 11_520_390, "chrony"), 1_799_999_990_500_000_000)
    for line in (TRACKING + "Not synchronised", "7F7F0101" + TRACKING[8:] + "Normal"):
        assert chrony_told(line) == Evidence(ClockQuality("unsynchronised", None, "chrony"))
    for line in ("", "506 Cannot talk to daemon", "x" + TRACKING + "Normal", TRACKING.replace("0.020", "x") + "Normal"):
        assert chrony_told(line) is None


def test_chronys_tool_may_be_missing_fail_or_hang(monkeypatch):
    """Then it says nothing."""
    monkeypatch.setattr("agent.clock_sources.TIMEOUT_S", 0.1)
    for command in (("/nonexistent/chronyc",), ("false",), ("sleep", "10")):
        assert chrony(command) is None
    assert chrony(("echo", TRACKING + "Normal")).clock.source == "chrony"


def answer(cookie: int, first: int = 0x24, stratum: int = 2, reference: int = 0x0A000001, era: int = 0) -> bytes:
    """Give a server's answer: 20 ms of delay, 5 ms of dispersion."""
    taken = ((1_800_000_000 + 2_208_988_800) << 32) % (1 << 64) if not era else 5 << 32
    return NTP.pack(first, stratum, 6, -20, 1311, 328, reference, taken, cookie, 0, 0)


def server(reply) -> int:
    """Answer one question at a port of this machine; give the port."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    listening.settimeout(60)

    def serve() -> None:
        with listening:
            question, whence = listening.recvfrom(100)
            assert question[0] & 7 == 3
            listening.sendto(reply(int.from_bytes(question[40:48], "big")), whence)

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1]


def test_an_ntp_server_of_this_machine_is_asked():
    """Half the root delay and the root dispersion; the time of its reference, in either era."""
    told = ntp(("127.0.0.1", server(answer)))
    assert told.clock.quality == "synchronised"
    assert 15_000_000 <= told.clock.max_error_ns <= 15_100_000
    assert told.taken_wall_ns == WALL
    later = ntp(("127.0.0.1", server(lambda cookie: answer(cookie, era=1))))
    assert later.taken_wall_ns == ((1 << 32) - 2_208_988_800 + 5) * SECOND


@pytest.mark.parametrize("wrong", [{"first": 0xE4}, {"stratum": 0}, {"stratum": 16}, {"reference": 0x7F7F0101}])
def test_an_ntp_server_that_has_no_time_is_not_believed(wrong):
    """An alarm, no stratum, or its own clock as reference."""
    assert ntp(("127.0.0.1", server(lambda cookie: answer(cookie, **wrong)))) == Evidence(
        ClockQuality("unsynchronised", None, "ntp")
    )


def test_what_is_no_answer_to_our_question_says_nothing(monkeypatch):
    """Another's cookie, a broadcast, half an answer, nobody there, silence."""
    monkeypatch.setattr("agent.clock_sources.TIMEOUT_S", 0.1)
    assert ntp(("127.0.0.1", server(lambda cookie: answer(cookie ^ 1)))) is None
    assert ntp(("127.0.0.1", server(lambda cookie: answer(cookie, first=0x25)))) is None
    assert ntp(("127.0.0.1", server(lambda cookie: answer(cookie)[:40]))) is None
    assert ntp(("127.0.0.1", 1)) is None
    assert ntp(("::1", 1)) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert ntp(silent.getsockname()) is None


def test_of_several_daemons_the_one_that_is_synchronised_is_believed():
    """Else any that answers; else nobody."""
    unsound = ("echo", TRACKING + "Not synchronised")
    assert thorough((), ("false",)) is None
    assert thorough((), unsound).clock.quality == "unsynchronised"
    assert thorough((("127.0.0.1", server(answer)),), unsound).clock.source == "ntp"


def test_the_boot_id_is_systemds_else_the_kernels_else_random(tmp_path):
    """Handed over by the unit, with or without dashes; what is none is passed over."""
    kernels = tmp_path / "boot_id"
    kernels.write_text("00112233-4455-6677-8899-aabbccddeeff\n")
    theirs = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert boot_id({"TRAMBIEN_BOOT_ID": "ab" * 16}, kernels) == b"\xab" * 16
    for useless in ({}, {"TRAMBIEN_BOOT_ID": ""}, {"TRAMBIEN_BOOT_ID": "%b"}, {"TRAMBIEN_BOOT_ID": "ab"}):
        assert boot_id(useless, kernels) == theirs
    hidden = tmp_path / "hidden"
    assert len({boot_id({}, hidden), boot_id({}, hidden)}) == 2
    hidden.write_bytes(b"\xff")
    assert len(boot_id({}, hidden)) == 16
