"""How the parts of the technician's file are described: plain frozen records, and beside each field what it may hold.

What is always true here:

- A part is a frozen, slotted, keyword-only dataclass under `Strict`. Whoever only uses parts needs nothing else: the
  service holds and compares them, and never loads what judges them.
- What stands in `Annotated` beside a type are neutral marks; `config.judge` reads them, in the order they are written.
- A function of a mark gets the value and gives back the value that is kept, or raises `Wrong`. What fields mean
  together stands in `__post_init__`, and is asked once all of them are sound.
- Parts cross from the process that judges them to the one that runs by pickle, so their fields hold plain values.

Anyone may enter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # it has nothing to compare
class Strict:
    """What every part of the file is: every key known, every type exact."""


class Wrong(ValueError):
    """A value that cannot be. Carries a code, a key into config/locale, and the fields of its words."""

    def __init__(self, code: str, **fields: object) -> None:
        self.code = code
        self.fields = fields
        super().__init__(code, fields)


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `ge` to `le`, both included."""

    ge: int | None = None
    le: int | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """So many characters, items or entries."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that this regular expression finds something in. It has no look-around."""

    text: str


@dataclass(frozen=True, slots=True)
class Before:
    """Give what was written to a function before its type is judged. `written` is the type of what may be written."""

    function: Callable[[Any], object]
    written: Any = None


@dataclass(frozen=True, slots=True)
class After:
    """Give the value to a function once its type is right."""

    function: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Given:
    """Give the value to a function together with the sound fields that the part declares before this one."""

    function: Callable[[Any, Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True)
class InFolder:
    """Give the value to a function together with the folder of the file; a value that is in no file stays as it is."""

    function: Callable[[Any, Path], object]


@dataclass(frozen=True, slots=True, eq=False)  # a mark is hashed with its type, and a mapping cannot be
class Written:
    """What an editor is told of the value, as JSON Schema."""

    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """The key in the file, where it is not the name of the field."""

    name: str
