"""Figures: what was measured over several runs, against a budget and beside the naive script of the same run.

What is always true here:

- A figure keeps all its runs; what is shown is the median and the spread (least and greatest).
- A ratio to the naive script is of medians taken in the same run of the bench, or it is not given.
- Whether a budget is met is said, never asserted: the machine may be busy.
"""

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity. `naive` are the runs of the naive script; `calibration_ms` stood beside the runs."""

    group: str
    name: str
    unit: str
    runs: tuple[float, ...]
    budget: float | None = None
    better: Literal["less", "more"] = "less"
    naive: tuple[float, ...] = ()
    calibration_ms: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """How many times the naive script's figure."""
        beside = statistics.median(self.naive) if self.naive else 0.0
        return self.median / beside if beside else None

    @property
    def met(self) -> bool | None:
        """Say whether the budget is met; None where there is none."""
        if self.budget is None:
            return None
        return self.median <= self.budget if self.better == "less" else self.median >= self.budget


def short(number: float | None) -> str:
    """Write a number with three digits that mean something."""
    if number is None:
        return ""
    if abs(number) >= 999.5:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def _row(figure: Figure) -> tuple[str, ...]:
    spread = f"{short(min(figure.runs))} to {short(max(figure.runs))}" if len(figure.runs) > 1 else ""
    sign = "≤" if figure.better == "less" else "≥"
    budget = "" if figure.budget is None else f"{sign} {short(figure.budget)}"
    verdict = {None: "", True: "met", False: "missed"}[figure.met]
    naive = short(statistics.median(figure.naive)) if figure.naive else ""
    ratio = "" if figure.ratio is None else f"{short(figure.ratio)} x"
    beside = short(statistics.median(figure.calibration_ms)) if figure.calibration_ms else ""
    middle = short(figure.median)
    return figure.name, middle, figure.unit, spread, budget, verdict, naive, ratio, beside


HEADS = ("", "median", "unit", "spread", "budget", "", "naive", "ratio", "loop ms")


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out for a terminal, a group after the other."""
    rows = [(figure.group, _row(figure)) for figure in figures]
    widths = [max(len(row[at]) for row in (HEADS, *(row for _, row in rows))) for at in range(len(HEADS))]
    lines = ["  ".join(head.ljust(width) for head, width in zip(HEADS, widths, strict=True)).rstrip()]
    group = ""
    for named, row in rows:
        if named != group:
            lines += ["", named]
            group = named
        cells = [row[0].ljust(widths[0]), row[1].rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(figures: Sequence[Figure]) -> str:
    """Lay figures out for the document."""
    lines: list[str] = []
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines += ["", f"**{group}**", "", "| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
        lines.append("| " + " | ".join(_row(figure)) + " |")
    return "\n".join(lines).strip()


def as_json(figures: Sequence[Figure], about: dict[str, object]) -> str:
    """Give everything, each run included, for a machine to read."""
    rows = [{**asdict(figure), "median": figure.median, "ratio": figure.ratio, "met": figure.met} for figure in figures]
    return json.dumps({"about": about, "figures": rows}, indent=1, ensure_ascii=False)


def rewrite(document: Path, content: str) -> None:
    """Put new content between the marks of a document. Raises ValueError where it has none."""
    text = document.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{document} has no place for the table")
    document.write_text(pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", text))
