"""A frozen record as JSON, and back: for small files that only this station writes and reads.

What is always true here: whatever the bytes are, reading gives a record whose every field has its type, or raises
ValueError. A member that no field is named after is passed over, and a field without a member keeps its default, so
that an older file and a newer one can both be read.
"""

import dataclasses
import json
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

R = TypeVar("R")


def written(record: Any) -> bytes:
    """Write a record."""
    return json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False).encode()


def read(kind: type[R], data: bytes) -> R:
    """Read a record of this kind. Raises ValueError."""
    try:
        found: R = _read(kind, json.loads(data))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return found


def _read(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _record(kind, value)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read(next(one for one in inner if one is not NoneType), value)
    if origin is tuple and type(value) is list:
        return tuple(_read(inner[0], one) for one in value)
    if (origin is Literal and value in inner) or type(value) is kind:
        return value
    raise ValueError(f"not {kind}: {value!r}")


def _record(kind: Any, value: Any) -> Any:
    if type(value) is not dict:
        raise ValueError(f"not {kind}: {value!r}")
    types = get_type_hints(kind)
    return kind(**{name: _read(types[name], member) for name, member in value.items() if name in types})
