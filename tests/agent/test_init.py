"""`trambien init`: asked at a terminal, told by flags, never over a file; what it writes is sound."""

import codecs
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from agent.cli import app
from agent.clock import SystemClock
from agent.demo.certificates import Authority
from agent.errors import Exit
from agent.reading import read
from agent.starter import Answers, file_text
from agent.words import Words


def init(*arguments: object) -> Result:
    """Type the command where nobody can be asked."""
    return CliRunner().invoke(app, ["init", *map(str, arguments)], env={"LANG": "en_US.UTF-8"})


class Terminal:
    """The command at a pseudo-terminal."""

    def __init__(self, *arguments: str, language: str = "en_US.UTF-8") -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "LANG": language, "LC_ALL": language}
        # As at a terminal: a suite that a shell runs in the background has Ctrl-C ignored, and hands that down.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "agent", "init", *arguments]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.said = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, words: str) -> None:
        """Read until the terminal shows these words."""
        deadline = time.monotonic() + 60
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self._master], [], [], 0.2)[0]:
                self.said += self._decoder.decode(os.read(self._master, 4096))

    def answer(self, question: str, line: str) -> None:
        """Wait for a question, then type a line."""
        self.until(question)
        self.said = self.said.split(question, 1)[1]
        os.write(self._master, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C until it is heard: one that comes between the question and the wait for its answer is not.

        Not again soon: one that comes while Python ends kills it.
        """
        for _ in range(6):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
                break

    def end(self) -> int:
        """Wait for its end."""
        code = self.process.wait(60)
        os.close(self._master)
        return code


def test_questions_at_a_terminal_make_a_sound_file(tmp_path: Path) -> None:
    """In Vietnamese, with an answer that cannot be, defaults taken by the Enter key, and marks in the name."""
    file = tmp_path / "gateway.yaml"
    terminal = Terminal(str(file), language="vi_VN.UTF-8")
    terminal.answer("Mã trạm", "Trạm 12")
    terminal.until("Không hợp lệ")
    terminal.answer("Mã trạm", "qng-12")
    terminal.answer("Tên trạm", 'Trạm "nước thải" Dung Quất')
    terminal.answer("Thiết bị nối bằng gì", "")
    terminal.answer("Cổng nối tiếp", "/dev/ttyS1")
    terminal.answer("Tốc độ", "fast")
    terminal.answer("Tốc độ", "19200")
    terminal.answer("Địa chỉ Modbus", "3")
    terminal.answer("Hồ sơ thiết bị", "cas/continuous")
    terminal.answer("Hồ sơ thiết bị", "eastron/sdm630")
    assert not file.exists()
    terminal.answer("Nền tảng nhận", "")
    terminal.until("Đã ghi")
    assert terminal.end() == 0
    config = read(file, SystemClock()).loaded.config
    assert (config.gateway.id, config.gateway.name) == ("qng-12", 'Trạm "nước thải" Dung Quất')
    assert config.gateway.language == "vi"
    link = config.links["bus-1"]
    assert (link.serial.port, link.serial.baud, link.devices["device-1"].unit) == ("/dev/ttyS1", 19200, 3)  # type: ignore[attr-defined]
    assert "# Mã trạm thành topic" in file.read_text(encoding="utf-8")


def test_breaking_off_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle."""
    terminal = Terminal(str(tmp_path / "g.yaml"))
    terminal.answer("Id of the station", "a-1")
    terminal.until("Name of the station")
    terminal.interrupt()
    assert terminal.end() == 1
    assert not (tmp_path / "g.yaml").exists()


def test_flags_answer_everything_without_a_terminal(tmp_path: Path) -> None:
    """For images and scripts; the certificate that is there is used at once."""
    Authority(tmp_path)
    file = tmp_path / "g.yaml"
    told = init(
        *(file, "--language", "en", "--id", "a-1", "--name", "A: #1", "--wire", "tcp", "--host", "10.0.0.9"),
        *("--unit", "7", "--profile", "", "--url", "mqtts://h:8883", "--ca", "ca.pem"),
    )
    assert told.exit_code == 0, told.output
    config = read(file, SystemClock()).loaded.config
    assert config.gateway.name == "A: #1"
    assert list(config.uplinks) == ["platform"]
    assert config.links["bus-1"].devices["device-1"].unit == 7  # type: ignore[attr-defined]


def test_without_flags_and_terminal_the_defaults_are_taken(tmp_path: Path) -> None:
    """The name of the machine, and an uplink that is commented out until its certificate is there."""
    assert init(tmp_path / "g.yaml", "--url", "mqtts://h:8883").exit_code == 0
    text = (tmp_path / "g.yaml").read_text()
    assert '#    url: "mqtts://h:8883"' in text
    assert not read(tmp_path / "g.yaml", SystemClock()).loaded.config.uplinks


def test_a_file_that_is_there_is_never_touched(tmp_path: Path) -> None:
    """75, before anything is asked; a dangling link is no free place either."""
    file = tmp_path / "g.yaml"
    file.write_text("mine")
    told = init(file, "--yes")
    assert told.exit_code == Exit.BUSY
    assert file.read_text() == "mine"
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    assert init(link, "--yes").exit_code == Exit.BUSY
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--id", "Not An Id"),
        ("--id", "a\n"),
        ("--wire", "rs485"),
        ("--baud", "1e4"),
        ("--unit", "0"),
        ("--profile", "cas/continuous"),
        ("--url", "http://h:1"),
        ("--url", "mqtt://h:99999"),
        ("--name", "a\x07"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(tmp_path: Path, flag: str, value: str) -> None:
    """2, what was asked for, and no file."""
    told = init(tmp_path / "g.yaml", flag, value)
    assert told.exit_code == Exit.UNREADABLE
    assert f"  → {Words('en').say(f'agent.init-ask-{flag[2:]}', {})}" in told.output
    assert not (tmp_path / "g.yaml").exists()


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No traceback."""
    assert init(tmp_path / "none" / "g.yaml", "--yes").exit_code == Exit.BUFFER


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        Answers,
        gateway=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
        name=st.text().filter(str.isprintable),
        wire=st.sampled_from(["serial", "tcp", "none"]),
        port=st.text(min_size=1).filter(str.isprintable),
        baud=st.integers(50, 4_000_000),
        host=st.just("10.0.0.1"),
        unit=st.integers(1, 247),
        profile=st.sampled_from(["", "eastron/sdm630"]),
        url=st.sampled_from(["", "mqtt://h:1883", "mqtts://h:8883"]),
        ca=st.text(min_size=1).filter(str.isprintable),
    ),
    st.sampled_from(["vi", "en"]),
)
def test_whatever_is_answered_the_file_is_sound(tmp_path: Path, answers: Answers, language: str) -> None:
    """Names and ports of any printable text, quoted."""
    file = tmp_path / "g.yaml"
    file.write_text(file_text(answers, Words(language)), encoding="utf-8")
    assert read(file, SystemClock()).loaded.config.gateway.name == answers.name
