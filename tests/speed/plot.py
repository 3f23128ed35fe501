"""The plot: how much of its budget each figure uses, as an SVG written by hand; no library is worth its weight."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from speed.figures import Figure, short

ROW, LEFT, WIDE, FULL = 22, 330, 860, 300
"""Heights and widths in pixels; `FULL` is the length of a bar that uses exactly its budget."""
COLOURS = {True: "#2a7f62", False: "#b3402a"}


def use_of_budget(figure: Figure) -> float:
    """Give the part of the budget that is used: above one, it is missed, whichever way it counts."""
    assert figure.budget is not None
    return figure.median / figure.budget if figure.better == "less" else figure.budget / max(figure.median, 1e-9)


def svg(figures: Sequence[Figure], title: str) -> str:
    """Draw the figures that have a budget."""
    judged = [figure for figure in figures if figure.budget is not None]
    high = ROW * (len(judged) + 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{high}" font-family="sans-serif">',
        f'<rect width="{WIDE}" height="{high}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, figure in enumerate(judged):
        parts += _bar(figure, ROW * (number + 2))
    line = LEFT + FULL
    parts.append(f'<line x1="{line}" y1="{ROW}" x2="{line}" y2="{high - ROW}" stroke="black" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{line}" y="{high - 6}" font-size="12" text-anchor="middle">the budget</text></svg>')
    return "\n".join(parts)


def _bar(figure: Figure, top: int) -> list[str]:
    length = min(FULL * use_of_budget(figure), WIDE - LEFT - 130)
    name = escape(f"{figure.group}: {figure.name}")
    told = f"{short(figure.median)} of {short(figure.budget)} {figure.unit}"
    return [
        f'<text x="{LEFT - 8}" y="{top + 13}" font-size="12" text-anchor="end">{name}</text>',
        f'<rect x="{LEFT}" y="{top + 3}" width="{length:.1f}" height="{ROW - 8}" fill="{COLOURS[bool(figure.met)]}"/>',
        f'<text x="{LEFT + length + 6:.1f}" y="{top + 13}" font-size="12">{escape(told)}</text>',
    ]
