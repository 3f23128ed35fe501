"""The technician's file as a tree of plain values, and where each of them is written.

What is always true here:

- The YAML is a small, unsurprising part of YAML 1.2: one document, mappings with text keys, lists, scalars. Aliases,
  anchors, merge keys, further documents and any tag but `!secret` are faults, so nothing can expand or be shared.
- Plain scalars are typed by the core schema of YAML 1.2 (section 10.3.2): `no`, `on` and `12:30` are text. What YAML
  1.1 and 1.2 read differently as a number (`1_000`, `0777`) is text too, and the model then refuses it by name.
- Whole numbers become `int`, others `config.model.Number`, which keeps its text. Nothing ever becomes a float.
- Every value and every key has its `Place`. At most `DEPTH_LIMIT` levels are read.
- Whatever the bytes are, the outcome is a `Document` or `ConfigFaults`.

`config.load` and `config.profile` enter; this is the only file that imports ruamel.yaml.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from config.errors import ConfigFaults, Fault, KeyPath, Place, fault_at
from config.model import Number, Secret

DEPTH_LIMIT = 32
TEXT_LIMIT = 60
NUMBER_LIMIT = 40
"""The longest text that is taken for a number; no instrument needs more digits."""

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_BAD_KEY = "<key>"

_SYNTAX = (
    ("character '\\t'", "config.tab"),
    ("mapping values are not allowed", "config.stray-colon"),
    ("could not find expected ':'", "config.no-colon"),
    ("expected <block end>", "config.bad-indent"),
    ("unexpected end of stream", "config.open-quote"),
    ("expected ',' or", "config.open-bracket"),
)
"""What ruamel.yaml says of a text that is not YAML, and the code a technician gets instead."""

_AT_THE_START = ("config.open-quote", "config.open-bracket", "config.no-colon")
"""Faults that are to be mended where the thing began, not where the reader gave up."""

_FOREIGN = (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError)
"""What ruamel.yaml has been seen to raise, or may, on bytes that are not YAML."""


@dataclass(slots=True)
class Document:
    """A file that was read: its tree, where everything stands, what was wrong, and which values are missing for it."""

    file: Path
    value: object = None
    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    parts: set[KeyPath] = field(default_factory=set)
    """Where a mapping or a list stands, rather than a single value."""
    incomplete: set[KeyPath] = field(default_factory=set)
    """Parts that lack something for a reason that is a fault already."""

    def place(self, path: KeyPath) -> Place:
        """Find where a value stands, or the nearest part of the file around it that is written down."""
        for end in range(len(path), -1, -1):
            found = self.values.get(path[:end])
            if found is not None:
                return found
        return Place(self.file, 1, 1)

    def key_place(self, path: KeyPath) -> Place:
        """Find where the key of a value stands; where it has none, the value."""
        return self.keys.get(path) or self.place(path)

    def spot(self, path: KeyPath) -> Place:
        """Find where a person should look: a single value, or the key of a whole part."""
        return self.key_place(path) if path in self.parts else self.place(path)


def parse(data: bytes, file: Path) -> Document:
    """Read YAML as a document. Raises ConfigFaults where the rest of the text can no longer be understood."""
    text = _decode(data, file)
    document = Document(file)
    reader = _Reader(text, document)
    try:
        reader.document()
    except _FOREIGN as error:
        raise ConfigFaults([*document.faults, _syntax_fault(error, text, reader, file)]) from error
    return document


def _decode(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        place = _place_of_index(before, len(before), file)
        raise ConfigFaults([fault_at(place, "config.not-unicode", byte=f"0x{data[error.start]:02X}")]) from error


def _place_of_index(text: str, index: int, file: Path) -> Place:
    line = text.count("\n", 0, index)
    return Place(file, line + 1, index - (text.rfind("\n", 0, index) + 1) + 1)


def _syntax_fault(error: Exception, text: str, reader: "_Reader", file: Path) -> Fault:
    if isinstance(error, ReaderError):
        place = _place_of_index(text, error.position, file)
        return fault_at(place, "config.bad-character", character=_character(error.character))
    if not isinstance(error, MarkedYAMLError):
        return fault_at(reader.last, "config.bad-yaml")
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return fault_at(reader.last, "config.bad-yaml")
    problem = str(error.problem)
    code = next((code for words, code in _SYNTAX if words in problem), "config.bad-yaml")
    if code == "config.bad-yaml" and str(error.context).startswith("while parsing a flow"):
        code = "config.open-bracket"
    if code in _AT_THE_START and error.context_mark is not None:
        mark = error.context_mark
    return fault_at(Place(file, mark.line + 1, mark.column + 1), code)


def _character(character: object) -> str:
    return f"U+{ord(character) if isinstance(character, str) else character:04X}"


def _tag(event: Any) -> str:
    return str(event.tag).replace("tag:yaml.org,2002:", "!!")


def typed(text: str) -> object:
    """Read a plain scalar by the core schema of YAML 1.2; what versions of YAML disagree on stays text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > NUMBER_LIMIT:
        return text
    for pattern, radix in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            return int(text, radix)
    return Number(text) if _DECIMAL.fullmatch(text) and abs(Decimal(text).adjusted()) < 400 else text


class _Reader:
    """Walks the events of a text once and fills a document."""

    def __init__(self, text: str, document: Document) -> None:
        self._text = text
        self._document = document
        self.last = Place(document.file, 1, 1)
        yaml = YAML(typ="safe", pure=True)
        self._events: Iterator[Any] = iter(yaml.parse(io.StringIO(text)))

    def document(self) -> None:
        event = self._next()
        while not isinstance(event, DocumentStartEvent | StreamEndEvent):
            event = self._next()
        if isinstance(event, StreamEndEvent):
            self._document.broken.add(())
            self._fault(self.last, "config.empty", ())
            return
        self._document.value = self._node(self._next(), ())
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                place = self._place(event)
                self._fault(place, "config.many-documents", ())
                return

    def _next(self) -> Any:
        event = next(self._events)
        self.last = self._place(event)
        return event

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        stop = end.index if isinstance(event, ScalarEvent | AliasEvent) else len(self._text)
        text = self._text[start.index : min(stop, start.index + 2 * TEXT_LIMIT)].split("\n", 1)[0].strip()
        short = text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
        return Place(self._document.file, start.line + 1, start.column + 1, short)

    def _fault(self, place: Place, code: str, path: KeyPath, **fields: object) -> None:
        self._document.faults.append(fault_at(place, code, path, **fields))

    def _break(self, event: Any, code: str, path: KeyPath, **fields: object) -> None:
        """Note a fault that costs the file this value, so that nobody calls it missing as well."""
        self._document.broken.add(path)
        self._fault(self._place(event), code, path, **fields)

    def _node(self, event: Any, path: KeyPath) -> object:
        place = self._place(event)
        empty = isinstance(event, ScalarEvent) and event.start_mark.index == event.end_mark.index
        self._document.values[path] = self._document.keys.get(path, place) if empty else place
        if event.anchor is not None:
            sign = "*" if isinstance(event, AliasEvent) else "&"
            self._break(event, "config.alias", path, name=sign + event.anchor)
        if isinstance(event, AliasEvent):
            return None
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        self._document.parts.add(path)
        if event.tag is not None:
            self._break(event, "config.unknown-tag", path, tag=_tag(event))
        if len(path) >= DEPTH_LIMIT:
            self._fault(self._place(event), "config.too-deep", path, limit=DEPTH_LIMIT)
            raise ConfigFaults(self._document.faults)
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(event, path)

    def _scalar(self, event: Any, path: KeyPath) -> object:
        value: str = event.value
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in value):
            self._break(event, "config.bad-character", path, character="\\u")
            return None
        if event.tag == "!secret":
            return self._secret(event, path)
        if event.tag is not None:
            self._break(event, "config.unknown-tag", path, tag=_tag(event))
            return None
        return typed(value) if event.implicit[0] else value

    def _secret(self, event: Any, path: KeyPath) -> Secret | None:
        if _SECRET_NAME.fullmatch(event.value) is None:
            self._break(event, "config.secret-bad-name", path, name=event.value)
            return None
        return Secret(event.value)

    def _sequence(self, start: SequenceStartEvent, path: KeyPath) -> tuple[object, ...]:
        del start
        items: list[object] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return tuple(items)

    def _mapping(self, path: KeyPath) -> dict[str, object]:
        items: dict[str, object] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, path, items)
            if key is None:
                self._node(self._next(), (*path, _BAD_KEY))
                continue
            self._document.keys[*path, key] = self._place(event)
            items[key] = self._node(self._next(), (*path, key))
        return items

    def _key(self, event: Any, path: KeyPath, items: dict[str, object]) -> str | None:
        """Judge a key; give the name to keep its value under, or None where the value cannot be kept."""
        if not isinstance(event, ScalarEvent):
            self._node(event, (*path, _BAD_KEY))
            self._break(event, "config.bad-key", path)
            return None
        key: str = event.value
        if key == "<<" or event.anchor is not None:
            self._break(event, "config.alias", path, name=key)
            return None
        if event.tag is not None or not key.isprintable():
            self._break(event, "config.bad-key", path)
            return None
        if key in items:
            first = self._document.keys[*path, key]
            self._fault(self._place(event), "config.duplicate-key", (*path, key), key=key, first_line=first.line)
            return None
        return key
