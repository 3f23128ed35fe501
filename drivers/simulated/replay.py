"""Recorded plant data, row by row, for the instruments to replay.

A recording is CSV with a header, `,` or `;` between cells, and the time in the first column. What is no number, such
as the text `Bad` or an empty cell, is None; a row missing from an even raster of time is a row of None.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

Row = tuple[float | None, ...]
_LONGEST_GAP = 100


class Recording(NamedTuple):
    """Named channels and their values over time; `row(n)` repeats from the start when the recording ends."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]

    def row(self, number: int) -> Row:
        """Give the n-th row, counting from zero and round again."""
        return self.rows[number % len(self.rows)]


def read_recording(path: Path) -> Recording:
    """Read a recording. Raises OSError, and ValueError where the file is none."""
    with path.open(encoding="utf-8", newline="") as file:
        header = file.readline().rstrip("\r\n")
        separator = ";" if ";" in header else ","
        lines = [line for line in csv.reader(file, delimiter=separator) if line]
    names = tuple(header.split(separator)[1:])
    if not lines:
        raise ValueError(f"no rows in {path.name}")
    return Recording(names, tuple(_without_gaps(lines, len(names))))


def _without_gaps(lines: Sequence[Sequence[str]], width: int) -> Iterator[Row]:
    times = [datetime.fromisoformat(line[0]) for line in lines]
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    step = min(steps, default=timedelta(seconds=1))
    for index, line in enumerate(lines):
        missing = round((times[index] - times[index - 1]) / step) - 1 if index else 0
        yield from ((None,) * width for _ in range(min(missing, _LONGEST_GAP)))
        yield tuple(_number(cell) for cell in line[1:])


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
