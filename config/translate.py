"""From pydantic's errors to faults: a code of ours, the fields of its words, the exact place.

What is always true here:

- One place at fault gives one fault. Where several forms of a value were possible, the one that went furthest is
  judged, and where all stop at once and disagree, the fault says that none fits.
- A value the reader had to refuse is not called wrong or missing a second time.
- An error that a driver's own model names (`modbus.two_addresses`) keeps its name, with dashes.

`config.load` and `config.profile` enter.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import Fault, KeyPath, Place, fault_at
from config.model import NAME_PATTERN, Secret

_TYPES = {
    "int_type": "config.not-integer",
    "int_from_float": "config.not-integer",
    "float_type": "config.not-number",
    "decimal_type": "config.not-number",
    "finite_number": "config.not-number",
    "string_type": "config.not-text",
    "bool_type": "config.not-yes-no",
    "dict_type": "config.not-mapping",
    "mapping_type": "config.not-mapping",
    "model_type": "config.not-mapping",
    "model_attributes_type": "config.not-mapping",
    "tuple_type": "config.not-list",
    "list_type": "config.not-list",
    "set_type": "config.not-list",
    "frozen_set_type": "config.not-list",
    "dataclass_type": "config.not-secret",
    "dataclass_exact_type": "config.not-secret",
}
_BOUNDS = {
    "greater_than": ("config.too-small", "gt"),
    "greater_than_equal": ("config.too-small", "ge"),
    "less_than": ("config.too-big", "lt"),
    "less_than_equal": ("config.too-big", "le"),
    "string_too_short": ("config.too-short", "min_length"),
    "string_too_long": ("config.too-long", "max_length"),
}
_OWN = {
    "bad_duration": "config.bad-duration",
    "bad_size": "config.bad-size",
    "bad_number": "config.bad-number",
    "bad_rate": "config.bad-rate",
    "bad_percent": "config.bad-percent",
    "bad_start": "config.bad-start",
    "not_positive": "config.not-positive",
}
_COUNTS = ("too_short", "too_long")


class Places(Protocol):
    """Where things stand: a document, or a device and its profile laid over each other."""

    broken: set[KeyPath]
    incomplete: set[KeyPath]

    def place(self, path: KeyPath) -> Place:
        """Find where a value stands."""
        ...

    def key_place(self, path: KeyPath) -> Place:
        """Find where its key stands."""
        ...

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look: a single value, or the key of a whole part."""
        ...


def faults_of(error: ValidationError, value: object, places: Places, under: KeyPath, known: object) -> list[Fault]:
    """Turn a validation error of the value at path `under` into faults. `known` is the model it was judged by."""
    faults = []
    for branches in _by_place(error.errors(include_url=False), value):
        path, details = branches[0]
        code, fields = _say(branches, known)
        if _already_said(code, (*under, *path), places):
            continue
        whole = (*under, *path)
        place = _where(code, details, whole, places)
        faults.append(fault_at(place, code, whole, **fields))
    return faults


def _where(code: str, details: ErrorDetails, path: KeyPath, places: Places) -> Place:
    if code in ("config.missing-key", "config.missing-item"):
        return places.key_place(path[:-1])
    if code in ("config.unknown-key", "config.misspelt-key") or details["loc"][-1:] == ("[key]",):
        return places.key_place(path)
    return places.place(path) if code in _TYPES.values() else places.spot(path)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that a misspelt one most likely meant."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


Branch = tuple[KeyPath, ErrorDetails]


def _by_place(errors: Sequence[ErrorDetails], value: object) -> list[list[Branch]]:
    """Group errors by the place they concern, keeping of each union only the forms that went furthest."""
    located = [(*_locate(error, value), error) for error in errors]
    groups: dict[KeyPath, list[Branch]] = {}
    for path, fork, form, error in located:
        depth = _depth_of(fork, form, located)
        if fork is None or depth == max(_depth_of(fork, other, located) for other in _forms(fork, located)):
            groups.setdefault(path, []).append((path, error))
    return list(groups.values())


_Located = tuple[KeyPath, KeyPath | None, str, ErrorDetails]


def _forms(fork: KeyPath, located: Sequence[_Located]) -> set[str]:
    return {form for _, other, form, _ in located if other == fork}


def _depth_of(fork: KeyPath | None, form: str, located: Sequence[_Located]) -> int:
    return max((len(path) for path, other, name, _ in located if other == fork and name == form), default=0)


def _locate(error: ErrorDetails, value: object) -> tuple[KeyPath, KeyPath | None, str]:
    """Follow an error's location through the tree; what is not in the tree is the name of a union's form."""
    path: list[str | int] = []
    fork: KeyPath | None = None
    form = ""
    steps = error["loc"]
    for index, step in enumerate(steps):
        inner = _child(value, step)
        if inner is not _NOWHERE:
            path.append(step)
            value = inner
        elif index == len(steps) - 1 and error["type"] == "missing":
            path.append(step)
        elif step != "[key]":
            fork, form = (tuple(path), str(step)) if fork is None else (fork, form)
    return tuple(path), fork, form


_NOWHERE = object()


def _child(value: object, step: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(step, _NOWHERE)
    if isinstance(value, tuple | list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOWHERE


def _already_said(code: str, path: KeyPath, places: Places) -> bool:
    if code != "config.missing-key":
        return path in places.broken
    return path[:-1] in places.broken or any(path[:end] in places.incomplete for end in range(len(path)))


def _say(branches: Sequence[Branch], known: object) -> tuple[str, dict[str, object]]:
    (path, first), others = branches[0], branches[1:]
    if first["type"] in ("extra_forbidden", "missing", "value_error") or first["input"] is not None:
        if others and any(other["type"] != first["type"] for _, other in others):
            return "config.no-form-fits", {}
        return _say_one(path, first, known)
    return "config.empty-value", {}


def _say_one(path: KeyPath, error: ErrorDetails, known: object) -> tuple[str, dict[str, object]]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), _keys_at(known, path[:-1]))
    if kind == "missing":
        return _missing(path[-1])
    if kind == "literal_error":
        return _one_of(error)
    return _value(kind, error, context)


def _value(kind: str, error: ErrorDetails, context: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    if kind in _BOUNDS:
        code, limit = _BOUNDS[kind]
        return code, {"limit": context[limit]}
    if kind in _OWN:
        return _OWN[kind], dict(context)
    if kind in _COUNTS:
        return _count(context)
    return _type(kind, error, context)


def _type(kind: str, error: ErrorDetails, context: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    if kind == "string_pattern_mismatch":
        code = "config.bad-name" if context["pattern"] == NAME_PATTERN else "config.bad-pattern"
        return code, {"pattern": context["pattern"], "value": error["input"]}
    if "." in kind:
        return kind.replace("_", "-"), dict(context)
    if isinstance(error["input"], Secret):
        return "config.secret-not-here", {"name": error["input"].name}
    if kind in _TYPES:
        return _TYPES[kind], {}
    return "config.invalid", {"reason": str(context.get("error", error["msg"]))}


def _missing(step: str | int) -> tuple[str, dict[str, object]]:
    if isinstance(step, int):
        return "config.missing-item", {"number": step + 1}
    return "config.missing-key", {"key": step}


def _count(context: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    if context.get("actual_length") == 0:
        return "config.nothing-in-it", {}
    low, high = context.get("min_length"), context.get("max_length")
    return "config.wrong-count", {"count": high if low is None else low, "actual": context["actual_length"]}


def _one_of(error: ErrorDetails) -> tuple[str, dict[str, object]]:
    allowed = error.get("ctx", {}).get("expected", "").replace("'", "").replace(" or ", ", ")
    close = nearest(str(error["input"]), allowed.split(", "))
    if close:
        return "config.misspelt-value", {"nearest": close, "allowed": allowed}
    return "config.not-one-of", {"allowed": allowed}


def _unknown_key(key: str, known: Sequence[str]) -> tuple[str, dict[str, object]]:
    close = nearest(key, known)
    if close:
        return "config.misspelt-key", {"key": key, "nearest": close}
    return "config.unknown-key", {"key": key, "known": ", ".join(known)}


def _keys_at(model: object, path: KeyPath) -> list[str]:
    """List the keys that the model of a place knows, following fields, mappings, lists and every form of a union."""
    models = _models(model)
    for step in path:
        inner: list[object] = []
        for each in models:
            inner.extend(_step_into(each, step))
        models = [found for annotation in inner for found in _models(annotation)]
    fields = (each.model_fields.items() for each in models if hasattr(each, "model_fields"))
    return sorted({info.alias or name for items in fields for name, info in items})


def _models(annotation: object) -> list[Any]:
    """Unfold an annotation into the models and containers that it may be."""
    if hasattr(annotation, "model_fields") or getattr(annotation, "__origin__", None) in (dict, tuple, list):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    bound = getattr(annotation, "__bound__", None)
    return [found for inner in (*arguments, *filter(None, [bound])) for found in _models(inner)]


def _step_into(model: Any, step: str | int) -> list[object]:
    if hasattr(model, "model_fields"):
        named = {info.alias or name: info for name, info in model.model_fields.items()}
        info = named.get(str(step)) or model.model_fields.get(str(step))
        return [] if info is None else [info.annotation]
    return [model.__args__[-1] if model.__origin__ is dict else model.__args__[0]]
