"""JSON Schema of the technician's file, for editors: which keys there are, what they mean, in which form.

What is always true here:

- It is made from the very records that the file is judged as, in the dialect of the file: durations and sizes with
  their units, defaults as one would write them, numbers as text or number. It says less than `check` (what keys mean
  together is not in it) and refuses nothing that `check` accepts.
- A link is judged by the driver that it names, among those that are installed.
- What a profile may give is not missing in a device that names one.
- One schema serves the main file and the files of `links.d`, which hold `links` and nothing else.

Draft 2020-12, without `$ref` beyond `$defs`. `trambien schema` enters.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_origin

from config.judge import json_schema
from config.keys import is_part, slots_of
from config.model import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    Config,
    Device,
    Link,
    written_duration,
    written_size,
)
from config.shape import Strict

Schema = dict[str, Any]

_WRITTEN: tuple[tuple[str, Callable[[int], str]], ...] = (
    (DURATION_PATTERN, written_duration),
    (SIZE_PATTERN, written_size),
    (PERCENT_PATTERN, lambda part: f"{part}%"),
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(links: Mapping[str, type[Link[Any]]], profiles: Iterable[str]) -> Schema:
    """Give the schema for these drivers' links, with the names of the profiles that are known."""
    parts: list[type[Strict]] = [Config, *links.values()]
    known = json_schema(parts)
    for part in _reached(parts):
        if (described := known.get(part.__name__)) is not None:
            _explain(described, part)
            if issubclass(part, Device):
                _profiled(described, known, tuple(profiles))
            elif issubclass(part, Link):
                described["required"] = sorted({"driver", *described.get("required", ())})
    config = known.pop("Config")
    names = {name: model.__name__ for name, model in links.items()}
    config["properties"]["links"]["patternProperties"] = {_name_of(config, "links"): _any_link(names)}
    config |= {"required": [], "anyOf": [{"required": ["gateway"]}, {"required": ["links"], "maxProperties": 1}]}
    for name in ("Link", "Device", "Point"):
        known.pop(name, None)
    result: Schema = _plain({"$schema": DIALECT, **config, "title": "Trambien", "$defs": known})
    return result


def _name_of(config: Schema, key: str) -> str:
    (pattern,) = config["properties"][key]["patternProperties"]
    return str(pattern)


def _any_link(names: Mapping[str, str]) -> Schema:
    """Judge a link by its driver; editors tell more of this form than of `oneOf`."""
    cases = [
        {
            "if": {"properties": {"driver": {"const": driver}}, "required": ["driver"]},
            "then": {"$ref": f"#/$defs/{name}"},
        }
        for driver, name in names.items()
    ]
    driver = {"enum": list(names), "description": "The driver that speaks this wire's protocol."}
    return {"type": "object", "required": ["driver", "devices"], "properties": {"driver": driver}, "allOf": cases}


def _profiled(device: Schema, known: Schema, profiles: tuple[str, ...]) -> None:
    """Let a profile give what a device and its points need, and let a point be left out of it."""
    points = device["properties"]["points"]["additionalProperties"]
    point = known[points["$ref"].rpartition("/")[2]]
    needed = {"required": device.pop("required", [])}
    whole: Schema = {"type": "object", "required": point.pop("required", [])}
    device["properties"]["points"]["additionalProperties"] = {"if": {"type": "null"}, "else": points}
    device["properties"]["profile"] = {
        "description": "Take over what this profile says, maker/model; keys written here go before it.",
        "anyOf": [{"enum": list(profiles)}, {"type": "string"}, {"type": "null"}],
    }
    device["if"] = {"required": ["profile"]}
    device["else"] = {**needed, "properties": {"points": {"additionalProperties": whole}}}


def _reached(parts: Iterable[type[Strict]]) -> list[type[Strict]]:
    """Find every part that these are made of."""
    found: dict[type[Strict], None] = {}
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        if part not in found:
            found[part] = None
            waiting += [inner for slot in slots_of(part) for inner in _parts(slot.annotation)]
    return list(found)


def _parts(annotation: Any) -> Iterable[type[Strict]]:
    if is_part(annotation):
        return [annotation]
    if is_part(origin := get_origin(annotation)):
        return [origin]
    return [part for inner in get_args(annotation) for part in _parts(inner)]


def _explain(described: Schema, part: type[Strict]) -> None:
    """Put the docstring of each field beside its key."""
    texts = _field_docstrings(part)
    for slot in slots_of(part):
        if slot.field.name in texts:
            described["properties"][slot.key]["description"] = texts[slot.field.name]


def _field_docstrings(part: type[Strict]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in reversed(part.__mro__):
        if issubclass(one, Strict):
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, below in zip(body.body, body.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(below):
                    found[field.target.id] = inspect.cleandoc(below.value.value)  # type: ignore[attr-defined]
    return found


def _is_text(statement: ast.stmt) -> bool:
    """Say whether a statement is a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _plain(part: Any) -> Any:
    """Take away what only a program needs, and say in the file's own words what is left."""
    if isinstance(part, list):
        return [_plain(one) for one in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _plain(value) for key, value in part.items() if not (key == "title" and isinstance(value, str))}
    if "title" in part and "$schema" in part:
        plain["title"] = part["title"]
    if "patternProperties" in plain:
        ((pattern, value),) = plain.pop("patternProperties").items()
        plain |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
    if plain.get("default", 0) is None or (plain.get("default") in ("", [], {}) and "default" in plain):
        del plain["default"]
    for pattern, written in _WRITTEN:
        if plain.get("pattern") == pattern:
            plain = {
                key: value for key, value in plain.items() if key not in ("minimum", "maximum", "exclusiveMinimum")
            }
            if isinstance(plain.get("default"), int):
                plain["default"] = written(plain["default"])
    return plain
