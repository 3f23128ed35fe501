"""A push ends in the last good or in the confirmed new configuration, wherever the process is killed.

`TRAMBIEN_KILLS=20 pytest tests/agent/test_ota_kills.py` kills twenty times at every point.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from operators import AFTER, BEFORE, GATEWAY, LAN, MINH, NOW_S, push, trust_bytes

from agent.journal import MOST_STARTS

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("TRAMBIEN_KILLS", "1"))
GOOD_POINTS = (
    "before verified",
    "verified",
    "before staged",
    "staged",
    "before validated",
    "validated",
    "before applied",
    "announced",
    "applied",
    "before confirmed",
    "confirmed",
)
BAD_POINTS = ("before rolling-back", "rolling-back", "put back", "before rolled-back", "rolled-back")
DEAD = AFTER + b"# dead\n"


def station(directory: Path, configuration: bytes) -> Path:
    """Set a station up and give its directory."""
    directory.mkdir()
    (directory / "gateway.yaml").write_bytes(BEFORE)
    (directory / "trust.json").write_bytes(trust_bytes())
    (directory / "envelope").write_bytes(push(LAN, MINH, configuration=configuration, probation_s=10))
    return directory


def run(directory: Path, point: str, boot: str = "one", wall_s: int = NOW_S) -> subprocess.CompletedProcess[str]:
    """Let it run until its flight is over or it is killed."""
    command = [sys.executable, str(TESTS / "ota_process.py"), str(directory), point, boot, str(wall_s)]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)


def journal(directory: Path) -> dict:
    """Read the journal."""
    return json.loads((directory / "gateway.yaml.push" / "journal.json").read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", GOOD_POINTS)
def test_killed_on_the_way_of_a_good_push(tmp_path, point):
    """The file is the old one or the new one at every moment, and the next start brings the push to its good end."""
    for number in range(KILLS):
        directory = station(tmp_path / str(number), AFTER)
        killed = run(directory, point)
        assert killed.returncode == -9, (point, killed.stdout, killed.stderr)
        assert (directory / "gateway.yaml").read_bytes() in (BEFORE, AFTER)
        ended = run(directory, "", boot=f"boot-{number % 2}", wall_s=0)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.split() == ["confirmed"], ended.stdout
        assert (directory / "gateway.yaml").read_bytes() == AFTER


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", BAD_POINTS)
def test_killed_on_the_way_back(tmp_path, point):
    """The last good configuration stands there in the end, whatever the wall clock says."""
    for number in range(KILLS):
        directory = station(tmp_path / str(number), DEAD)
        killed = run(directory, point)
        assert killed.returncode == -9, (point, killed.stdout, killed.stderr)
        assert (directory / "gateway.yaml").read_bytes() in (BEFORE, DEAD)
        ended = run(directory, "", boot=f"boot-{number % 2}", wall_s=0)
        assert ended.returncode == 0, ended.stderr
        state, reason = ended.stdout.split()
        assert state == "rolled-back"
        # Killed before it was noted why, it may find at the next start that its time was over.
        late = {"push.not-confirmed"} if point == "before rolling-back" else set()
        assert reason in {"push.device-dead", *late}
        assert (directory / "gateway.yaml").read_bytes() == BEFORE


def test_killed_again_and_again(tmp_path):
    """A configuration under which nothing stays up is undone after so many starts, though no probation ever ends."""
    directory = station(tmp_path / "station", DEAD)
    assert run(directory, "applied").returncode == -9
    for start in range(MOST_STARTS):
        if journal(directory)["flight"]["state"] != "applied":
            break
        run(directory, "before rolling-back", boot=f"boot-{start}")
    run(directory, "")
    assert journal(directory)["flight"]["state"] == "rolled-back"
    assert (directory / "gateway.yaml").read_bytes() == BEFORE


def test_the_gateway_of_these_tests_is_the_one_addressed():
    """Else every kill would be of a push that was refused."""
    assert GATEWAY.encode() in BEFORE
