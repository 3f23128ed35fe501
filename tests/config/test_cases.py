"""The technician's screen, word for word: each folder of tests/cases is a file and what `trambien check` says of it.

With `TRAMBIEN_REGOLD=1` the expected texts are written anew; read the difference before it is committed.
"""

import os
from pathlib import Path

import pytest

from agent.cli.check import check

CASES = Path(__file__).parents[1] / "cases"
FOLDERS = sorted(folder.name for folder in CASES.iterdir())
SOUND = ("sound", "warnings", "links-d-sound")


@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize("case", FOLDERS)
def test_a_file_draws_exactly_these_words(case, language, monkeypatch, capsys):
    """Text, places, carets, hints and order of all faults are as they were agreed."""
    folder = CASES / case
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    code = check(Path("gateway.yaml"), as_json=False, language=language)
    said = capsys.readouterr().out.replace(str(folder), "/etc/trambien")
    assert code == (0 if case in SOUND else 78)
    golden = folder / f"expected.{language}.txt"
    if os.environ.get("TRAMBIEN_REGOLD"):
        golden.write_text(said, encoding="utf-8")
    assert said == golden.read_text(encoding="utf-8")


def test_there_are_enough_cases():
    """Cases cannot silently vanish."""
    assert len(FOLDERS) >= 40
