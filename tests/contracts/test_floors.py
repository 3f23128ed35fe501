"""The floors hold, and each contract goes red when a violation is planted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLANTED = {
    "floors": ("config/model.py", "import buffer.status"),
    "driver-wall": ("drivers/modbus/plan.py", "from buffer.store import Store"),
    "agent-rooms": ("agent/schedule.py", "from agent.recorder import Recorder"),
    "buffer-rooms": ("buffer/frame.py", "from buffer.store import Store"),
    "thin-service": ("agent/poller.py", "import rich"),
    "one-importer": ("agent/uplink.py", "import paho.mqtt.client"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the four packages and of the contracts."""
    copy = tmp_path_factory.mktemp("house")
    for package in ("agent", "buffer", "config", "drivers"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(house: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a copy."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", *options]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def test_every_contract_is_kept(house: Path) -> None:
    """As the house stands, and no contract is without its planted violation below."""
    checked = lint(house)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(PLANTED)} kept" in checked.stdout


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_violation_turns_its_contract_red(house: Path, contract: str) -> None:
    """A contract that cannot fail would be worth nothing."""
    name, line = PLANTED[contract]
    file = house / name
    sound = file.read_text()
    file.write_text(f"{sound}\n{line}\n")
    try:
        checked = lint(house, "--contract", contract)
    finally:
        file.write_text(sound)
    assert checked.returncode == 1, checked.stdout
    assert "1 broken" in checked.stdout


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("config/push.py", "import buffer.keys"),
        ("config/envelope.py", "import buffer.cbor"),
        ("config/trust.py", "import buffer.cose"),
        ("config/trust.py", "import buffer.cbor_item"),
    ],
)
def test_pushes_are_judged_with_cose_and_its_codec_and_nothing_else_of_the_buffer(
    house: Path, name: str, line: str
) -> None:
    """The exceptions between the two foundations are exact on both sides."""
    file = house / name
    sound = file.read_text()
    file.write_text(f"{sound}\n{line}\n")
    try:
        assert lint(house, "--contract", "floors").returncode == 1
    finally:
        file.write_text(sound)


def test_a_new_file_without_a_floor_turns_its_room_red(house: Path) -> None:
    """Exhaustive: whoever adds a file says where it stands."""
    stray = house / "agent" / "stray.py"
    stray.write_text('"""A file without a floor."""\n')
    try:
        assert lint(house, "--contract", "agent-rooms").returncode == 1
    finally:
        stray.unlink()
