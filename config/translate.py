"""From what the judge finds to faults: a code of ours, the fields of its words, the exact place.

What is always true here:

- One place at fault gives one fault. Where several forms of a value were possible, the one that went furthest is
  judged, and where all stop at once and disagree, the fault says that none fits.
- A value the reader had to refuse is not called wrong or missing a second time.
- What a part's own rule calls wrong (`modbus.address-twice`) keeps its name.

`config.load` and `config.profile` enter.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from config.errors import Fault, KeyPath, Place, fault_at
from config.judge import Finding, Unsound
from config.keys import is_part, slots_of
from config.model import NAME_PATTERN, Secret
from config.places import Places

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
_COUNTS = ("too_short", "too_long")


def faults_of(error: Unsound, value: object, places: Places, under: KeyPath, known: object) -> list[Fault]:
    """Turn what is wrong with the value at path `under` into faults. `known` is the part it was judged as."""
    faults = []
    for branches in _by_place(error.findings, value):
        path, details = branches[0]
        code, fields = _say(branches, known)
        if _already_said(code, (*under, *path), places):
            continue
        whole = (*under, *path)
        place = _where(code, details, whole, places)
        faults.append(fault_at(place, code, whole, **fields))
    return faults


def _where(code: str, details: Finding, path: KeyPath, places: Places) -> Place:
    if code in ("config.missing-key", "config.missing-item"):
        return places.key_place(path[:-1])
    if code in ("config.unknown-key", "config.misspelt-key") or details.steps[-1:] == ("[key]",):
        return places.key_place(path)
    return places.place(path) if code in _TYPES.values() else places.spot(path)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that a misspelt one most likely meant."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


Branch = tuple[KeyPath, Finding]


def _by_place(errors: Sequence[Finding], value: object) -> list[list[Branch]]:
    """Group errors by the place they concern, keeping of each union only the forms that went furthest."""
    located = [(*_locate(error, value), error) for error in errors]
    groups: dict[KeyPath, list[Branch]] = {}
    for path, fork, form, error in located:
        depth = _depth_of(fork, form, located)
        if fork is None or depth == max(_depth_of(fork, other, located) for other in _forms(fork, located)):
            groups.setdefault(path, []).append((path, error))
    return list(groups.values())


_Located = tuple[KeyPath, KeyPath | None, str, Finding]


def _forms(fork: KeyPath, located: Sequence[_Located]) -> set[str]:
    return {form for _, other, form, _ in located if other == fork}


def _depth_of(fork: KeyPath | None, form: str, located: Sequence[_Located]) -> int:
    return max((len(path) for path, other, name, _ in located if other == fork and name == form), default=0)


def _locate(error: Finding, value: object) -> tuple[KeyPath, KeyPath | None, str]:
    """Follow an error's location through the tree; what is not in the tree is the name of a union's form."""
    path: list[str | int] = []
    fork: KeyPath | None = None
    form = ""
    steps = error.steps
    for index, step in enumerate(steps):
        inner = _child(value, step)
        if inner is not _NOWHERE:
            path.append(step)
            value = inner
        elif index == len(steps) - 1 and error.kind == "missing":
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
    if first.kind in ("extra_forbidden", "missing", "value_error") or first.value is not None:
        if others and any(other.kind != first.kind for _, other in others):
            return "config.no-form-fits", {}
        return _say_one(path, first, known)
    return "config.empty-value", {}


def _say_one(path: KeyPath, error: Finding, known: object) -> tuple[str, dict[str, object]]:
    kind = error.kind
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), _keys_at(known, path[:-1]))
    if kind == "missing":
        return _missing(path[-1])
    if kind == "literal_error":
        return _one_of(error)
    return _value(error)


def _value(error: Finding) -> tuple[str, dict[str, object]]:
    if error.kind in _BOUNDS:
        code, limit = _BOUNDS[error.kind]
        return code, {"limit": error.fields[limit]}
    if error.kind in _COUNTS:
        return _count(error.fields)
    if "." in error.kind:
        return error.kind, dict(error.fields)
    return _type(error)


def _type(error: Finding) -> tuple[str, dict[str, object]]:
    if error.kind == "string_pattern_mismatch":
        pattern = error.fields["pattern"]
        code = "config.bad-name" if pattern == NAME_PATTERN else "config.bad-pattern"
        return code, {"pattern": pattern, "value": error.value}
    if isinstance(error.value, Secret):
        return "config.secret-not-here", {"name": error.value.name}
    if error.kind in _TYPES:
        return _TYPES[error.kind], {}
    return "config.invalid", {"reason": str(error.fields.get("error", error.text))}


def _missing(step: str | int) -> tuple[str, dict[str, object]]:
    if isinstance(step, int):
        return "config.missing-item", {"number": step + 1}
    return "config.missing-key", {"key": step}


def _count(context: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    if context.get("actual_length") == 0:
        return "config.nothing-in-it", {}
    low, high = context.get("min_length"), context.get("max_length")
    return "config.wrong-count", {"count": high if low is None else low, "actual": context["actual_length"]}


def _one_of(error: Finding) -> tuple[str, dict[str, object]]:
    allowed = error.fields.get("expected", "").replace("'", "").replace(" or ", ", ")
    close = nearest(str(error.value), allowed.split(", "))
    if close:
        return "config.misspelt-value", {"nearest": close, "allowed": allowed}
    return "config.not-one-of", {"allowed": allowed}


def _unknown_key(key: str, known: Sequence[str]) -> tuple[str, dict[str, object]]:
    close = nearest(key, known)
    if close:
        return "config.misspelt-key", {"key": key, "nearest": close}
    return "config.unknown-key", {"key": key, "known": ", ".join(known)}


def _keys_at(part: object, path: KeyPath) -> list[str]:
    """List the keys that are known at a place, following parts, mappings, lists and every form of a union."""
    forms = _forms_of(part)
    for step in path:
        forms = [found for each in forms for inner in _step_into(each, step) for found in _forms_of(inner)]
    return sorted({slot.key for each in forms if is_part(each) for slot in slots_of(each)})


def _forms_of(annotation: object) -> list[Any]:
    """Unfold an annotation into the parts and containers that it may be."""
    if is_part(annotation) or get_origin(annotation) in (dict, tuple, list):
        return [annotation]
    if is_part(origin := get_origin(annotation)):
        return [origin]
    return [found for inner in get_args(annotation) for found in _forms_of(inner)]


def _step_into(form: Any, step: str | int) -> list[object]:
    if is_part(form):
        return [slot.annotation for slot in slots_of(form) if slot.key == step]
    return [get_args(form)[-1 if get_origin(form) is dict else 0]]
