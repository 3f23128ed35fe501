"""The bench in its smallest form, so that it never rots: every part runs, finds figures, and writes what it says."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from speed import history, start
from speed.bench import PARTS
from speed.figures import BEGIN, END, Figure, rewrite, table
from speed.loads import percentile
from speed.machine import TESTS, python, spent, stop
from speed.plot import svg, use_of_budget


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_part_of_the_bench_runs(tmp_path: Path) -> None:
    """With a real broker, real servers and real processes; the figures mean nothing here, but none is missing."""
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    command = [sys.executable, "-m", "speed.bench", "--quick", "--out", str(tmp_path), "--docs", str(document)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert all(figure["runs"] for figure in figures)
    assert len({figure["group"] for figure in figures}) >= len(PARTS)
    named = {figure["name"]: figure for figure in figures}
    assert named["blocks, 1s seal"]["median"] < 4
    assert named["readings a second"]["naive"]
    assert named["24 h at 1,000 readings/s"]["median"] > 0
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| on the wire, both ways, TLS |" in text


def test_a_figure_says_whether_its_budget_is_met_whichever_way_it_counts() -> None:
    """The median counts, not the best run."""
    less = Figure("group", "name", "us", (1.0, 2.0, 9.0), 2.0)
    more = Figure("group", "name", "/s", (1.0, 2.0, 9.0), 3.0, "more", naive=(1.0,))
    assert (less.met, more.met, Figure("group", "name", "us", (1.0,)).met) == (True, False, None)
    assert (less.ratio, more.ratio) == (None, 2.0)
    assert use_of_budget(more) == 1.5
    assert "missed" in table([less, more])
    assert "#b3402a" in svg([more], "title")


def test_a_document_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    """Rather than written over."""
    document = tmp_path / "other.md"
    document.write_text("words\n")
    with pytest.raises(ValueError, match="no place"):
        rewrite(document, "table")
    assert document.read_text() == "words\n"


def test_a_kept_past_is_made_again_once_other_code_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a table that has changed since goes unnoticed for as long as the buffer of an earlier day is there."""
    monkeypatch.setattr(start, "KEPT_FROM", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[Path] = []
    monkeypatch.setattr(history, "padded", lambda folder, _load, _blocks: made.append(folder))
    first = start.past(tmp_path / "unused", 5)
    assert start.past(tmp_path / "unused", 5) == first
    assert made == [first]
    (first / "made").write_text("")
    start.past(tmp_path / "unused", 5)
    assert made == [first, first]


def test_percentiles_are_of_what_was_seen() -> None:
    """Nearest rank; nothing seen gives nothing."""
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0
    assert percentile([], 0.5) == 0.0


def test_cpu_is_counted_finer_than_a_tick() -> None:
    """Half a percent of a core over twenty seconds is ten ticks: too coarse."""
    process = python("-c", "import time; sum(range(10**6)); time.sleep(60)")
    try:
        while not (found := spent(process.pid).cpu_s) % 0.01 > 0:
            pass
        assert found < 60
    finally:
        stop(process)
