"""The judge of parts: is a tree of plain values what a part says of itself? By pydantic, and nowhere else.

What is always true here:

- For each part there is one model of pydantic with the same keys, types and bounds; what passes it becomes the record.
- Types are strict: text is never taken for a number or a yes, nor a number for text. A list is read as a tuple.
- An unknown key is wrong. A record that stands in the tree is taken as it is.
- What is wrong comes out at once, as `Unsound`; whatever a mark's function raises as `Wrong` keeps its code and fields.

This is the only file that imports pydantic. The service does not load it: it judges in a process that ends
(`agent.aside`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    create_model,
)
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import PydanticCustomError, PydanticKnownError

from config.keys import is_part, slots_of
from config.shape import After, Before, Between, Given, InFolder, Length, Pattern, Strict, Written, Wrong

_Part = TypeVar("_Part", bound=Strict)

_CONFIG = ConfigDict(extra="forbid", frozen=True, strict=True)


class Finding(NamedTuple):
    """One thing that is wrong: pydantic's name for it or a code of ours, where, what stands there, what words need."""

    kind: str
    steps: tuple[str | int, ...]
    value: Any
    fields: Mapping[str, Any]
    text: str


class Unsound(ValueError):
    """The tree is not what the part says. `findings` has every reason."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(self.findings)

    def __str__(self) -> str:
        """Give places and reasons, for the log of a developer."""
        return "; ".join(f"{'.'.join(map(str, one.steps))}: {one.text}" for one in self.findings)


def judged(part: type[_Part], value: object, folder: Path | None = None) -> _Part:
    """Give a tree as the record it describes. `folder` is that of the file it stands in. Raises Unsound."""
    kind: Any = part  # mypy takes the class of a dataclass for unhashable
    try:
        record: _Part = _adapter(kind).validate_python(_frozen(value), context=folder)
    except ValidationError as error:
        raise Unsound(_findings(error)) from error
    return record


def json_schema(parts: Iterable[type[Strict]]) -> dict[str, Any]:
    """Give JSON Schema of what may be written for each part, under its name in `$defs`."""
    generator = type("_Generator", (GenerateJsonSchema,), {"ignored_warning_kinds": {"non-serializable-default"}})
    kinds: Iterable[Any] = parts
    models: list[tuple[Any, Any]] = [(_model(part), "validation") for part in kinds]
    _, whole = models_json_schema(models, schema_generator=generator)
    return dict(whole["$defs"])


def _findings(error: ValidationError) -> Iterable[Finding]:
    for one in error.errors(include_url=False):
        yield Finding(one["type"], one["loc"], one["input"], one.get("ctx", {}), one["msg"])


def _frozen(value: object) -> object:
    """Let a list stand for a tuple, which strict types would not."""
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


@cache
def _adapter(part: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_type(part))


@cache
def _model(part: Any) -> type[BaseModel]:
    """Make the model of pydantic that has the keys of a part."""
    fields: dict[str, Any] = {}
    for key, annotation, field in slots_of(part):
        given: dict[str, Any] = {} if key == field.name else {"alias": key}
        if field.default_factory is not dataclasses.MISSING:
            given["default_factory"] = field.default_factory
        elif field.default is not dataclasses.MISSING:
            given["default"] = field.default
        fields[field.name] = (_type(annotation), Field(**given))
    return create_model(part.__name__, __config__=_CONFIG, __doc__=part.__doc__, __module__=part.__module__, **fields)


def _type(annotation: Any) -> Any:
    """Say a type with its marks in pydantic's way."""
    if is_part(annotation):
        part: Any = annotation
        return Annotated[_model(part), WrapValidator(_recorder(part))]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if origin is Annotated:
        marks = [said for mark in inner[1:] if (said := _said(mark)) is not None]
        return Annotated[(_type(inner[0]), *marks)] if marks else _type(inner[0])
    if is_part(origin):  # a generic part, whose variables its records fix by themselves
        return _type(origin)
    return (Union if origin is UnionType else origin)[tuple(map(_type, inner))]


def _recorder(part: type[Strict]) -> Callable[[Any, Callable[[Any], BaseModel]], Strict]:
    """Give the function that makes the record of a part, once its keys are sound by themselves."""

    def record(value: Any, judge: Callable[[Any], BaseModel]) -> Strict:
        return value if isinstance(value, part) else part(**judge(value).__dict__)

    record.__name__ = record.__qualname__ = part.__name__  # what pydantic calls this form of a union
    return _telling(record)


def _said(mark: object) -> Any:  # noqa: PLR0911  a table
    """Say a mark in pydantic's way; None where it is nothing to judge by."""
    match mark:
        case Between(ge, le):
            return Field(ge=ge, le=le)
        case Length(least, most):
            return Field(min_length=least or None, max_length=most)
        case Pattern(text):
            return Field(pattern=text)
        case Before(function, None):
            return BeforeValidator(_telling(function))
        case Before(function, written):
            return BeforeValidator(_telling(function), json_schema_input_type=_type(written))
        case After(function):
            return AfterValidator(_telling(function))
        case Given(function):
            return AfterValidator(_with_fields(_telling(function)))
        case InFolder(function):
            return AfterValidator(_with_folder(_telling(function)))
        case Written(schema):
            return WithJsonSchema(dict(schema))
    return None


def _with_fields(function: Callable[[Any, Mapping[str, Any]], object]) -> Callable[[Any, ValidationInfo], object]:
    return lambda value, info: function(value, info.data)


def _with_folder(function: Callable[[Any, Path], object]) -> Callable[[Any, ValidationInfo], object]:
    return lambda value, info: value if info.context is None else function(value, info.context)


_KNOWN: dict[str, Any] = {"config.not-text": "string_type"}
"""Codes that mean the same as an error of pydantic's own."""


def _telling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function say `Wrong` in pydantic's way."""

    @wraps(function)
    def told(*values: Any) -> Any:
        try:
            return function(*values)
        except Wrong as wrong:
            if known := _KNOWN.get(wrong.code):
                raise PydanticKnownError(known) from wrong
            raise PydanticCustomError(wrong.code, wrong.code, dict(wrong.fields)) from wrong

    return told
