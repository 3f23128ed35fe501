"""Layouts and catalogues as bytes: what the columns of a block mean, hashed and signed like everything else.

What is always true here:

- A layout's id is the SHA-256 of its encoding; a catalogue's digest is the SHA-256 of its own. Equal layouts have equal
  encodings, so a reader who holds the bytes can check the id by hashing them.
- The encodings are deterministic CBOR maps with integer keys; empty text is left out. Keys of a later version are
  skipped by a reader, yet covered by the hash.
- At most `MAX_POINTS` columns a layout, at most `MAX_LAYOUTS` layouts a catalogue.

Anyone may enter.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar, get_args

from buffer.cbor import dumps, expect, fields, loads, natural
from buffer.errors import BlockInvalid
from buffer.frame import MAX_POINTS, Column, Kind, Layout

DIGEST_BYTES = 32
MAX_LAYOUTS = 4096
MAX_TEXT = 1024
"""The longest text of a layout, in characters."""

KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds in the order of their numbers in the encoding."""

_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_COLUMN_TEXTS = ("unit", "scale", "offset", "address", "order", "low", "high", "note")
_LAYOUT_TEXTS = ("link", "device", "driver")
_EVERY, _COLUMNS = 3, 4


T = TypeVar("T")


def once_a_layout(work: Callable[[Layout], T]) -> Callable[[Layout], T]:
    """Remember what `work` gave for a layout, by the object's identity.

    Not by equality: after a change of configuration layouts are equal to earlier ones without being the same, and each
    comparison would walk all their columns.
    """
    known: dict[int, tuple[Layout, T]] = {}

    def look_up(layout: Layout) -> T:
        found = known.get(id(layout))
        if found is None:
            if len(known) >= MAX_LAYOUTS:
                known.clear()
            # The layout is kept, so that its identity cannot pass to another one.
            found = known[id(layout)] = (layout, work(layout))
        return found[1]

    return look_up


def encode_layout(layout: Layout) -> bytes:
    """Encode a layout. Raises ValueError beyond the bounds of the format."""
    if len(layout.columns) > MAX_POINTS:
        raise ValueError(f"layout has {len(layout.columns)} columns, at most {MAX_POINTS} are allowed")
    entries: dict[int, object] = dict(enumerate(_text(getattr(layout, name)) for name in _LAYOUT_TEXTS))
    if layout.every_ns is not None:
        entries[_EVERY] = layout.every_ns
    entries[_COLUMNS] = [_encode_column(column) for column in layout.columns]
    return dumps(entries)


def decode_layout(data: bytes) -> Layout:
    """Decode a layout; anything else raises BlockInvalid."""
    entries = fields(loads(data, "layout"), 5, "layout")
    columns = expect(entries.get(_COLUMNS), list, "layout")
    if len(columns) > MAX_POINTS:
        raise BlockInvalid("layout")
    every = entries.get(_EVERY)
    link, device, driver = (_read_text(entries.get(key)) for key in range(len(_LAYOUT_TEXTS)))
    return Layout(
        link=link,
        device=device,
        driver=driver,
        every_ns=None if every is None else natural(every, 2**63 - 1, "layout"),
        columns=tuple(_decode_column(column) for column in columns),
    )


@once_a_layout
def layout_id(layout: Layout) -> bytes:
    """Give the layout's identity: the SHA-256 of its encoding."""
    return sha256(encode_layout(layout)).digest()


def encode_catalogue(ids: tuple[bytes, ...]) -> bytes:
    """Encode an ordered list of layout ids."""
    if len(ids) > MAX_LAYOUTS:
        raise ValueError(f"catalogue has {len(ids)} layouts, at most {MAX_LAYOUTS} are allowed")
    return dumps(list(ids))


def decode_catalogue(data: bytes) -> tuple[bytes, ...]:
    """Decode a catalogue; anything else raises BlockInvalid."""
    ids = expect(loads(data, "catalogue"), list, "catalogue")
    if len(ids) > MAX_LAYOUTS or any(type(i) is not bytes or len(i) != DIGEST_BYTES for i in ids):
        raise BlockInvalid("catalogue")
    return tuple(ids)


def catalogue_digest(encoded: bytes) -> bytes:
    """Give the digest by which headers name a catalogue."""
    return sha256(encoded).digest()


def _encode_column(column: Column) -> dict[int, object]:
    entries: dict[int, object] = {0: _text(column.name), 1: _KIND_NUMBER[column.kind]}
    texts = enumerate((getattr(column, name) for name in _COLUMN_TEXTS), start=2)
    entries.update((key, _text(text)) for key, text in texts if text)
    return entries


def _decode_column(value: Any) -> Column:
    known = 2 + len(_COLUMN_TEXTS)
    entries = fields(value, known, "layout")
    kind = KINDS[natural(entries.get(1), len(KINDS) - 1, "layout")]
    texts = (_read_text(entries.get(key, "")) for key in range(2, known))
    return Column(_read_text(entries.get(0)), kind, *texts)


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"text of {len(text)} characters, at most {MAX_TEXT} are allowed: {text[:40]!r}")
    return text


def _read_text(value: object) -> str:
    text = expect(value, str, "layout")
    if len(text) > MAX_TEXT:
        raise BlockInvalid("layout")
    return text
