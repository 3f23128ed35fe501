"""The keys of a part: what each is called in the file, which type it has, and what stands there when it is left out.

What is always true here:

- Keys come in the order of the record's fields, those of its bases first.
- No type variable is left: `Device[ModbusPoint]` says what `points` holds in every record below it, and a variable that
  nobody fixed is what bounds it.

`config.judge`, `config.schema` and `config.translate` enter.
"""

import dataclasses
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from config.shape import Key, Strict


class Slot(NamedTuple):
    """One key of a part. `annotation` has its marks beside it; `field` is the record's own."""

    key: str
    annotation: Any
    field: dataclasses.Field[Any]


def slots_of(part: type[Strict]) -> tuple[Slot, ...]:
    """Give the keys of a part."""
    kind: Any = part  # mypy takes the class of a dataclass for unhashable
    return _slots_of(kind)


@cache
def _slots_of(part: Any) -> tuple[Slot, ...]:
    types, fixed = get_type_hints(part, include_extras=True), _fixed(part)
    return tuple(_slot(_resolved(types[one.name], fixed), one) for one in dataclasses.fields(part))


def is_part(annotation: Any) -> TypeGuard[type[Strict]]:
    """Say whether an annotation is a part of the file."""
    return isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Strict)


def _slot(annotation: Any, field: dataclasses.Field[Any]) -> Slot:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    key = next((mark.name for mark in marks if isinstance(mark, Key)), field.name)
    return Slot(key, annotation, field)


def _fixed(part: type[Strict]) -> dict[Any, Any]:
    """Find what the type variables of a part's bases stand for."""
    fixed: dict[Any, Any] = {}
    for one in part.__mro__:
        for base in one.__dict__.get("__orig_bases__", ()):
            pairs = zip(getattr(get_origin(base), "__parameters__", ()), get_args(base), strict=False)
            fixed |= {variable: given for variable, given in pairs if variable is not given}
    return fixed


def _resolved(annotation: Any, fixed: dict[Any, Any]) -> Any:
    """Put in place of each type variable what it stands for."""
    while isinstance(annotation, TypeVar):
        annotation = fixed.get(annotation, annotation.__bound__ or Any)
    if variables := getattr(annotation, "__parameters__", ()):
        if isinstance(annotation, type) and get_origin(annotation) is None:
            return annotation  # a generic record that nobody fixed
        return annotation[tuple(_resolved(variable, fixed) for variable in variables)]
    return annotation
