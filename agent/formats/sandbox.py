"""Jinja templates that cannot take the house down: the only importer of jinja2.

What is always true here:

- jinja2's ImmutableSandboxedEnvironment, and less than it allows: no calls, no macros, no imports, no joining of text;
  loops, conditions, assignments, arithmetic of numbers, the filters of `FILTERS` and jinja's own tests. What is not
  listed is refused when the template is read.
- A rendering is bounded by counting: each turn of a loop costs what the template is large, and a budget is kept for the
  rendering and for all renderings of a block. So it is the same on every machine, and needs no clock.
- Its output is at most `MAX_OUTPUT` bytes.
- A value prints as JSON would have it: `true`, `null`, all digits of a number; text prints as it is.
- An unknown variable is an error, never empty text.
- Whatever goes wrong comes out as `TemplateFault`.

The format `template` enters.
"""

import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agent.formats.numbers import dumps, number_text

MAX_OUTPUT = 256 * 1024
RENDER_BUDGET = 500_000
BLOCK_BUDGET = 20_000_000
"""Of units: about a tenth of a microsecond each."""
MOST_DECIMALS = 12
_LARGEST = 1 << 128
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.If, nodes.For, nodes.Assign),
    *(nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos),
)
_KEPT_FILTERS = ("upper", "lower", "default", "length", "first", "last", "abs")
FILTERS = ("iso", "json", "exact", "fixed", *_KEPT_FILTERS)
_FAILURES = (TemplateError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What a template may raise while it is rendered."""
_UNREADABLE = (*_FAILURES, SyntaxError, MemoryError)
"""What reading one may: the compiler has bounds of its own."""


class TemplateFault(Exception):
    """A template that cannot be read or rendered; `line` is counted within it, 0 where it is not known."""

    def __init__(self, reason: str, line: int = 0) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason, line)


class Budget:
    """What may still be spent on a block."""

    def __init__(self, units: int = BLOCK_BUDGET) -> None:
        self.units = units


class Sandbox:
    """Reads templates; `timezone` is what `iso` assumes."""

    def __init__(self, timezone: str) -> None:
        self._left = self._turn = 0
        self._timezone = timezone
        self._environment = _Environment(undefined=StrictUndefined, finalize=_printed, keep_trailing_newline=False)
        kept = {name: self._environment.filters[name] for name in _KEPT_FILTERS}
        # A filter of the context is never evaluated while a template is read.
        ours = {
            "iso": self._iso,
            "json": self._json,
            "exact": _exact,
            "fixed": _fixed,
            _TURNS: pass_context(lambda _context, members: self._turns(members)),
        }
        self._environment.filters = {**kept, **ours}
        self._environment.globals = {}

    def read(self, source: str) -> "Template":
        """Read a template. Raises TemplateFault."""
        try:
            tree = self._environment.parse(source)
            names = frozenset(meta.find_undeclared_variables(tree))
            size = sum(1 for _ in tree.find_all(nodes.Node))
            return Template(self, self._environment.from_string(source), names, size)
        except TemplateSyntaxError as error:
            raise TemplateFault(error.message or "", error.lineno) from error
        except _UNREADABLE as error:
            raise TemplateFault(_said(error)) from error

    def render(self, template: "Template", variables: Mapping[str, object], budget: Budget) -> str:
        """Render a template that this sandbox read. Raises TemplateFault."""
        self._left = allowed = min(RENDER_BUDGET, budget.units)
        self._turn = template.size
        try:
            self._spend(template.size)
            return "".join(self._bounded(template.compiled.generate(variables)))
        except _FAILURES as error:
            raise TemplateFault(_said(error)) from error
        finally:
            budget.units -= allowed - self._left

    def _bounded(self, parts: Iterable[str]) -> Iterator[str]:
        size = 0
        for part in parts:
            size += len(part.encode())
            if size > MAX_OUTPUT:
                raise SecurityError(f"more than {MAX_OUTPUT} bytes")
            yield part

    def _spend(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise SecurityError("too many steps")

    def _turns(self, members: Iterable[object]) -> Iterator[object]:
        """Count the turns of a loop."""
        for member in members:
            self._spend(self._turn)
            yield member

    def _json(self, value: object) -> str:
        text = dumps(value)
        self._spend(len(text))
        return text

    def _iso(self, utc_us: int | None, zone: str = "") -> str | None:
        """Write microseconds since 1970 as ISO 8601, with the offset of the zone."""
        if utc_us is None:
            return None
        there = _EPOCH + timedelta(microseconds=utc_us)
        return there.astimezone(zoneinfo.ZoneInfo(zone or self._timezone)).isoformat(timespec="milliseconds")


class Template:
    """A template that was read: the names it uses, and how large it is."""

    __slots__ = ("_sandbox", "compiled", "names", "size")

    def __init__(self, sandbox: Sandbox, compiled: Any, names: frozenset[str], size: int) -> None:
        self._sandbox = sandbox
        self.compiled = compiled
        self.names = names
        self.size = size

    def render(self, variables: Mapping[str, object], budget: Budget) -> str:
        """Render. Raises TemplateFault."""
        return self._sandbox.render(self, variables, budget)


_TURNS = "_turns"


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%"))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(nodes.Node):
            if not isinstance(node, _ALLOWED) or getattr(node, "recursive", False):
                raise TemplateSyntaxError(f"`{type(node).__name__.lower()}` is not used here", node.lineno)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, _TURNS, [], [], None, None, lineno=loop.lineno)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate with numbers of a sane size, and with nothing else."""
        return super().call_binop(context, operator, _operand(operator, left), _operand(operator, right))


def _operand(operator: str, value: Any) -> int | Decimal:
    """Give a number to calculate with. Whole numbers become Decimal where a division would make floats of them."""
    number: int | Decimal
    if isinstance(value, float):
        number = Decimal(repr(value))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value) if operator == "/" else value
    else:
        raise SecurityError(f"`{operator}` is for numbers")
    if not -_LARGEST <= number <= _LARGEST:
        raise SecurityError("a number is too large")
    return number


def _printed(value: object) -> object:
    """Print what is no text as JSON would have it."""
    if isinstance(value, float):
        return repr(value)
    return dumps(value) if value is None or isinstance(value, bool | int | Decimal) else value


def _exact(value: object) -> object:
    """Write a number with all its digits, as text."""
    return number_text(value) if isinstance(value, Decimal) else value


def _fixed(value: object, decimals: int = 2) -> object:
    """Round a number to so many decimals, half to even; what is no number stays what it is."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    if not 0 <= decimals <= MOST_DECIMALS:
        raise ValueError(f"at most {MOST_DECIMALS} decimals")
    return Decimal(str(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN)


def _said(error: BaseException) -> str:
    """Give what a library said, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
