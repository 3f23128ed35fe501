"""Carving: what of a damaged SQLite file can be told from its pages alone, without a table of contents.

What is always true here:

- Every page of the file, and every page in the frames of its write-ahead log, is looked at by itself (SQLite's file
  format, section 1.6: table leaf pages, their cells, chains of overflow pages). Nothing points the way, so nothing can
  bar it.
- What comes out are rows that look like ours. Whoever takes them proves each: a signature cannot be made up by chance.
- The file is only read, a page at a time.

`buffer.salvage` enters.
"""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from buffer.block import MAX_ENVELOPE, MAX_PAYLOAD

_LEAF = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_FILE_HEADER = 100
_LONGEST_VARINT = 9
_BLOB = 12
"""Serial types from here on are blobs where they are even, text where they are odd."""
_MOST_COLUMNS = 8
PAGE_SIZES = (512, 1024)
"""Of the files that any version has made."""


class Row(NamedTuple):
    """A row of a table: its rowid, and its columns: bytes, int or None. The rowid's own column is None."""

    rowid: int
    columns: tuple[bytes | int | None, ...]


class Pages:
    """The pages of a file and of its log, each in every version there is."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.size = page_size
        self._main = _bytes_of(path)
        self._log = _bytes_of(path.with_name(f"{path.name}-wal"))
        self._frames: dict[int, list[int]] = defaultdict(list)
        for at in range(_WAL_HEADER, len(self._log) - _FRAME_HEADER - page_size + 1, _FRAME_HEADER + page_size):
            self._frames[int.from_bytes(self._log[at : at + 4], "big")].append(at + _FRAME_HEADER)

    def versions(self, number: int) -> list[bytes]:
        """Give a page as it was, the last version first."""
        found = [self._log[at : at + self.size] for at in reversed(self._frames.get(number, ()))]
        begin = (number - 1) * self.size
        if number > 0 and begin + self.size <= len(self._main):
            found.append(self._main[begin : begin + self.size])
        return found

    def numbers(self) -> Iterator[int]:
        """Give the numbers of all pages."""
        count = -(-len(self._main) // self.size)
        yield from range(1, count + 1)
        yield from (number for number in sorted(self._frames) if number > count)


def carve(path: Path) -> Iterator[Row]:
    """Give every row of a file and its log; where both their heads are damaged, by every size that pages can have."""
    for size in _page_sizes(path):
        yield from rows(Pages(path, size))


def _page_sizes(path: Path) -> tuple[int, ...]:
    """Give the size of a file's pages as its head says, else the log's; all there are where neither can be believed."""
    said = (
        int.from_bytes(_bytes_of(path)[16:18], "big"),
        int.from_bytes(_bytes_of(path.with_name(f"{path.name}-wal"))[8:12], "big"),
    )
    return next(((size,) for size in said if size in PAGE_SIZES), PAGE_SIZES)


def rows(pages: Pages) -> Iterator[Row]:
    """Give every row of every leaf, in every version that is left of it."""
    for number in pages.numbers():
        for page in pages.versions(number):
            begin = _FILE_HEADER if number == 1 else 0
            if page[begin] == _LEAF:
                yield from _leaf(pages, page, begin)


def _bytes_of(path: Path) -> "mmap.mmap | bytes":
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # not there, or empty
        return b""


def _leaf(pages: Pages, page: bytes, begin: int) -> Iterator[Row]:
    cells = int.from_bytes(page[begin + 3 : begin + 5], "big")
    for at in range(begin + 8, min(begin + 8 + 2 * cells, pages.size - 1), 2):
        with suppress(IndexError, ValueError):
            yield from _cell(pages, page, int.from_bytes(page[at : at + 2], "big"))


def _cell(pages: Pages, page: bytes, at: int) -> Iterator[Row]:
    """Give a cell's row; where its overflow pages have several versions, one of the last and one of the first."""
    length, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if not 0 < length <= MAX_ENVELOPE + MAX_PAYLOAD + 64:
        return
    local = _local(length, pages.size)
    record = page[at : at + local]
    if local == length:
        yield Row(rowid, _columns(record))
        return
    first = int.from_bytes(page[at + local : at + local + 4], "big")
    seen = set()
    for oldest in (False, True):
        whole = record + _chain(pages, first, length - local, oldest=oldest)
        if len(whole) == length and whole not in seen:
            seen.add(whole)
            yield Row(rowid, _columns(whole))


def _local(length: int, usable: int) -> int:
    """Say how much of a record stands in its leaf (SQLite's file format, section 1.6)."""
    if length <= usable - 35:
        return length
    least = (usable - 12) * 32 // 255 - 23
    some = least + (length - least) % (usable - 4)
    return some if some <= usable - 35 else least


def _chain(pages: Pages, number: int, length: int, *, oldest: bool) -> bytes:
    found = []
    while length > 0 and (versions := pages.versions(number)):
        page = versions[-1 if oldest else 0]
        found.append(page[4 : 4 + length])
        length -= pages.size - 4
        number = int.from_bytes(page[:4], "big")
    return b"".join(found)


def _columns(record: bytes) -> tuple[bytes | int | None, ...]:
    """Take a record apart. Raises ValueError or IndexError where it is none of ours."""
    end, at = _varint(record, 0)
    types = []
    while at < end:
        kind, at = _varint(record, at)
        types.append(kind)
    if at != end or len(types) > _MOST_COLUMNS:
        raise ValueError("no record")
    columns: list[bytes | int | None] = []
    for kind in types:
        width, value = _value(kind, record, at)
        columns.append(value)
        at += width
    if at != len(record):
        raise ValueError("no record")
    return tuple(columns)


def _value(kind: int, record: bytes, at: int) -> tuple[int, bytes | int | None]:
    if kind == 0:
        return 0, None
    if kind in (8, 9):
        return 0, kind - 8
    if kind == 1:
        return 1, record[at]
    if kind >= _BLOB:
        width = (kind - _BLOB) // 2
        return width, record[at : at + width]
    raise ValueError("not a column of ours")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length integer (SQLite's file format, section 1.6); of nine bytes ours never are."""
    value = 0
    for _ in range(_LONGEST_VARINT - 1):
        byte = data[at]
        value = value << 7 | byte & 0x7F
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("not a number of ours")
