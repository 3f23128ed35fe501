"""The README says what is so."""

import re
from pathlib import Path

from agent.cli import app
from agent.clock import SystemClock
from agent.errors import Exit
from agent.reading import read

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_exit_codes_is_the_one_of_the_program() -> None:
    """Every code, and no other."""
    table = README.split("### Exit codes")[1].split("## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == sorted(Exit)


def test_every_command_stands_in_the_table() -> None:
    """Those that are registered, and no other."""
    table = README.split("## The command")[1].split("### ")[0]
    written = set(re.findall(r"^\| `trambien (\w+)", table, re.MULTILINE))
    groups = {group.name for group in app.registered_groups}
    assert written == {command.name for command in app.registered_commands} | groups


def test_the_sample_file_is_sound(tmp_path: Path) -> None:
    """What a technician copies must work; the uplink's certificates aside, which are made elsewhere."""
    sample = README.split("```yaml\n")[1].split("```")[0]
    file = tmp_path / "gateway.yaml"
    file.write_text(re.sub(r"^uplinks:.*?(?=^buffer:)", "", sample, flags=re.MULTILINE | re.DOTALL), encoding="utf-8")
    settings = read(file, SystemClock())
    assert set(settings.instruments) == {"bus-1", "plc"}
    assert {group.stream for driver in settings.drivers.values() for group in driver.groups} == {"environment", "main"}
