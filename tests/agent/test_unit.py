"""The systemd unit: systemd itself finds nothing wrong with it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.clock import BOOT_ID_VARIABLE
from agent.errors import Exit

UNIT = Path(__file__).parents[2] / "systemd" / "trambien.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """No unknown directive, no bad value; the program and the user are those of this machine."""
    text = UNIT.read_text().replace("/opt/trambien/bin/trambien", "/bin/true")
    copy = tmp_path / "trambien.service"
    copy.write_text(text.replace("User=trambien", "User=root").replace("Group=trambien", "Group=root"))
    judged = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    assert "trambien.service" not in judged.stderr


def test_what_a_person_must_mend_is_not_restarted() -> None:
    """Faults of the configuration and a refused key."""
    line = next(line for line in UNIT.read_text().splitlines() if line.startswith("RestartPreventExitStatus="))
    assert {int(code) for code in line.split("=")[1].split()} == {Exit.CONFIG, Exit.PERMISSION}


def test_the_unit_hands_over_the_boot_id() -> None:
    """Under ProcSubset=pid the kernel's is hidden; systemd fills in its own (systemd.unit(5), specifiers)."""
    assert f"Environment={BOOT_ID_VARIABLE}=%b" in UNIT.read_text().splitlines()


def test_the_unit_lets_the_clock_be_asked() -> None:
    """By each system call that a C library may take for adjtimex(3), by its age and the width of a word."""
    line = next(line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter="))
    assert {"adjtimex", "clock_adjtime", "clock_adjtime64"} <= set(line.split())
