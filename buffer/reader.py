"""The buffer file for tools: read beside a running service, or without one, and never changed.

What is always true here:

- Read-only, a few rows a transaction: the writer is never held up, and the write-ahead log never pinned.
- A file that is not ours, or of a newer schema, is refused and not touched.
- Nothing read is verified; whoever asks verifies.

Tools enter, also by way of `buffer.store`.
"""

from collections.abc import Iterator
from pathlib import Path

from buffer.block import Block
from buffer.errors import BufferUnreadable
from buffer.tables import Tables, connect_readonly, refuse_foreign

MAX_POSITION = (1 << 40) - 1
_CHUNK = 64
_ENVELOPES = 1024
"""Rows a transaction, with payloads and without."""


class Reader(Tables):
    """The buffer file for tools. Nothing read is verified."""

    def __init__(self, path: Path) -> None:
        """Open. Raises BufferUnreadable or BufferNewer."""
        if not path.exists():
            raise BufferUnreadable(path=str(path), reason="no such file")
        refuse_foreign(path)
        super().__init__(connect_readonly(path), path)

    def blocks(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, Block]]:
        """Go over a stream's blocks in order of position, a few a transaction: the writer is never held up."""
        while first <= last and (rows := self.rows(stream, first, last, limit=_CHUNK)):
            yield from rows
            first = rows[-1][0] + 1

    def envelopes(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, bytes]]:
        """Go over a stream's envelopes alone, in order of position: the payloads are not read from the disk."""
        number = self.number(stream)
        select = f"SELECT position, envelope FROM block_{number or 0:d}"  # noqa: S608
        select += " WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?"
        while number and first <= last and (rows := self._rows(select, first, last, _ENVELOPES)):
            yield from rows
            first = rows[-1][0] + 1

    def digest_at_head(self, stream: str) -> bytes | None:
        """Give the digest of a stream's last block."""
        position = self.last_position(stream)
        return next((block.digest for _, block in self.rows(stream, position, position)), None)
