"""The history of a station: what a buffer file or a folder of blocks holds, proven, decoded, and placed in time.

What is always true here:

- Every block given is proven by a trusted key, or by one that it led to, its payload too; what is not is counted and
  left out.
- The source is read in short transactions and not changed; a service beside it is not held up. Memory does not grow
  with the length of the history: a survey of the envelopes keeps one line of `STRIDE` blocks.
- Time is the chain's own (`buffer.timeline`): a moment has a time and a bound, or a bracket between its neighbours, or
  nothing. What has no time is given where a time was asked for if it may lie inside.
- A header is an anchor of time only once its signature was verified; one a minute of every boot is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.errors import AgentError, Exit
from agent.formats.opening import Points, restrict
from buffer.accounts import events_of
from buffer.block import (
    KIND_DATA,
    KIND_DEFINITIONS,
    MAX_ENVELOPE,
    MAX_PAYLOAD,
    Block,
    Header,
    decode_block,
    open_envelope,
    read_header,
)
from buffer.columnar import Payload
from buffer.errors import BlockInvalid
from buffer.frame import Layout
from buffer.intervals import Intervals
from buffer.layout import catalogue_digest, decode_catalogue, decode_layout, layout_id
from buffer.reader import MAX_POSITION, Reader
from buffer.timeline import Bracket, Placed, Timeline
from buffer.trust import KeyRing
from buffer.verify import payload_of

BLOCK_SUFFIX = ".block"
STRIDE = 256
ANCHOR_EVERY_NS = 60 * 10**9

Progress = Callable[[int, int], None]
"""Told how many blocks are done, of how many, about."""


class SourceUnreadable(AgentError):
    """What is to be read cannot be read."""

    exit = Exit.UNREADABLE


class Source(Protocol):
    """Where blocks come from. `refused` counts what could not be proven before anything is read."""

    refused: int

    def ends(self) -> dict[str, int]:
        """Give the last position of every stream."""
        ...

    def envelopes(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, bytes]]:
        """Go over a stream's envelopes in order."""
        ...

    def blocks(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, Block]]:
        """Go over a stream's blocks in order."""
        ...

    def catalogue(self, digest: bytes) -> tuple[Layout, ...]:
        """Give the layouts of a catalogue. Raises BlockInvalid where they are not there or not what they say."""
        ...


class BufferSource:
    """A buffer file. What of it cannot be proven is met while it is read."""

    refused = 0

    def __init__(self, path: Path) -> None:
        """Open. Raises BufferUnreadable or BufferNewer."""
        self._reader = Reader(path)
        self.envelopes = self._reader.envelopes
        self.blocks = self._reader.blocks

    def ends(self) -> dict[str, int]:
        """Give the last position of every stream."""
        return {stream: self._reader.last_position(stream) for stream in self._reader.streams()}

    def catalogue(self, digest: bytes) -> tuple[Layout, ...]:
        """Give the layouts of a catalogue."""
        encoded = self._reader.catalogue(digest)
        if encoded is None or catalogue_digest(encoded) != digest:
            raise BlockInvalid("catalogue")
        return tuple(self._layout(identity) for identity in decode_catalogue(encoded))

    def _layout(self, identity: bytes) -> Layout:
        encoded = self._reader.layout(identity)
        layout = None if encoded is None else decode_layout(encoded)
        if layout is None or layout_id(layout) != identity:
            raise BlockInvalid("catalogue")
        return layout


class FolderSource:
    """A folder of `*.block` files, in any order of their names, with the layouts that their own blocks define."""

    def __init__(self, path: Path, keys: Sequence[bytes]) -> None:
        """Read the envelopes' places. Raises SourceUnreadable."""
        self._files: dict[str, dict[int, Path]] = {}
        self._layouts: dict[bytes, Layout] = {}
        self._catalogues: dict[bytes, tuple[bytes, ...]] = {}
        self.refused = 0
        """Files that held no proven block."""
        ring = KeyRing(keys)
        for file in block_files(path):
            self._place(file, ring)

    def _place(self, file: Path, ring: KeyRing) -> None:
        try:
            block = decode_block(read_block_file(file))
            header = open_envelope(block.envelope, ring.keys)
            ring.learn(header, events_of(block, header))
            self._files.setdefault(header.stream, {})[header.seq] = file
            definitions = payload_of(block, header, ()).definitions if header.kind == KIND_DEFINITIONS else None
        except BlockInvalid:
            self.refused += 1
            return
        for encoded in definitions.layouts if definitions else ():
            layout = decode_layout(encoded)
            self._layouts[layout_id(layout)] = layout
        if definitions and definitions.catalogue:
            self._catalogues[header.catalogue] = decode_catalogue(definitions.catalogue)

    def ends(self) -> dict[str, int]:
        """Give the last position of every stream."""
        return {stream: max(files) for stream, files in sorted(self._files.items())}

    def envelopes(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, bytes]]:
        """Go over a stream's envelopes in order."""
        return ((position, block.envelope) for position, block in self.blocks(stream, first, last))

    def blocks(self, stream: str, first: int = 1, last: int = MAX_POSITION) -> Iterator[tuple[int, Block]]:
        """Go over a stream's blocks in order."""
        files = self._files[stream]
        for seq in sorted(seq for seq in files if first <= seq <= last):
            yield seq, decode_block(read_block_file(files[seq]))

    def catalogue(self, digest: bytes) -> tuple[Layout, ...]:
        """Give the layouts of a catalogue."""
        try:
            return tuple(self._layouts[identity] for identity in self._catalogues[digest])
        except KeyError:
            raise BlockInvalid("catalogue") from None


def block_files(path: Path) -> list[Path]:
    """Give the block files of a folder, by name. Raises SourceUnreadable where there is none."""
    files = sorted(file for file in path.glob(f"*{BLOCK_SUFFIX}") if not file.is_fifo())
    if not files:
        raise SourceUnreadable("agent.source-unreadable", source=path, reason=f"no *{BLOCK_SUFFIX}")
    return files


def read_block_file(file: Path) -> bytes:
    """Read a block file, no more of it than a block may have. Raises SourceUnreadable."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_ENVELOPE + MAX_PAYLOAD + 64)
    except OSError as error:
        raise SourceUnreadable("agent.source-unreadable", source=file, reason=error.strerror) from error


class Span(NamedTuple):
    """From when to when, in nanoseconds of UTC; None where it is open."""

    since_ns: int | None = None
    until_ns: int | None = None

    def has(self, placed: Placed | Bracket | None) -> bool:
        """Say whether a moment lies inside, or may."""
        if placed is None:
            return True
        if isinstance(placed, Placed):
            early: int | None = placed.utc_ns
            late: int | None = placed.utc_ns
        else:
            early, late = placed
        after = self.since_ns is None or late is None or late >= self.since_ns
        return after and (self.until_ns is None or early is None or early < self.until_ns)


@dataclass(frozen=True, slots=True)
class Told:
    """A proven block of readings, cut to the points asked for. `place` says when a boot time of it was."""

    position: int
    block: Block
    header: Header
    layouts: tuple[Layout, ...]
    payload: Payload
    place: Callable[[int], Placed | Bracket | None]


@dataclass(slots=True)
class Tally:
    """What was met while reading."""

    blocks: int = 0
    evicted: int = 0
    refused: int = 0
    """Blocks that could not be proven or read."""
    untimed: int = 0
    """Blocks given though nothing is known of their time."""


class _Line(NamedTuple):
    """Up to `STRIDE` neighbouring blocks of one boot, and the boot times they span."""

    first: int
    last: int
    boot_id: bytes
    first_ns: int
    last_ns: int


class History:
    """A station's history. `keys` are raw public keys."""

    def __init__(self, source: Source, keys: Sequence[bytes]) -> None:
        self.source = source
        self._ring = KeyRing(keys)
        self._timelines: dict[str, Timeline] = {}
        self._lines: dict[str, list[_Line]] = {}
        self._catalogues: dict[bytes, tuple[Layout, ...]] = {}
        self.ends = source.ends()
        self.tally = Tally(refused=source.refused)

    def survey(self, progress: Progress = lambda *_: None) -> None:
        """Go over all envelopes once: where the boots lie, and their anchors of time."""
        total, done = sum(self.ends.values()), 0
        for stream, end in self.ends.items():
            self._timelines[stream], self._lines[stream] = Timeline(), []
            anchored: dict[bytes, int] = {}
            for position, envelope in self.source.envelopes(stream, 1, end):
                self._note(stream, position, envelope, anchored)
                if position % STRIDE == 0:
                    progress(done + position, total)
            done += end

    def _note(self, stream: str, position: int, envelope: bytes, anchored: dict[bytes, int]) -> None:
        try:
            header = read_header(envelope)
            since_ns = header.boot_ns - anchored.get(header.boot_id, -ANCHOR_EVERY_NS)
            if since_ns >= ANCHOR_EVERY_NS or header.kind != KIND_DATA:
                header = open_envelope(envelope, self._ring.keys)
                anchored[header.boot_id] = header.boot_ns
                self._timelines[stream].note(header)
                self._note_events(stream, position, header)
        except BlockInvalid:
            return
        first_ns, last_ns = header.interval or (header.boot_ns, header.boot_ns)
        lines = self._lines[stream]
        if lines and lines[-1].boot_id == header.boot_id and position - lines[-1].first < STRIDE:
            first_ns, last_ns = min(first_ns, lines[-1].first_ns), max(last_ns, lines[-1].last_ns)
            lines[-1] = lines[-1]._replace(last=position, first_ns=first_ns, last_ns=last_ns)
        else:
            lines.append(_Line(position, position, header.boot_id, first_ns, last_ns))

    def _note_events(self, stream: str, position: int, header: Header) -> None:
        if header.kind != KIND_DATA:
            for _, block in self.source.blocks(stream, position, position):
                events = events_of(block, header)
                self._ring.learn(header, events)
                for event in events:
                    self._timelines[stream].note_event(event)

    def told(self, points: Points, span: Span, progress: Progress = lambda *_: None) -> Iterator[Told]:
        """Give the blocks of readings that lie, or may lie, in a span. `survey` comes first."""
        chosen = list(self._chosen(span))
        total, done = sum(line.last - line.first + 1 for _, line in chosen), 0
        for stream, line in chosen:
            for position, block in self.source.blocks(stream, line.first, line.last):
                told = self._open(stream, position, block, points)
                if told is not None and self._inside(told, span):
                    self.tally.blocks += 1
                    yield told
            done += line.last - line.first + 1
            progress(done, total)

    def whole(self, span: Span, progress: Progress = lambda *_: None) -> Iterator[tuple[str, int]]:
        """Give stream and position of every block of the stretches that touch a span, and of all layouts and events."""
        inside: dict[str, Intervals] = {stream: Intervals() for stream in self.ends}
        for stream, line in self._chosen(span):
            inside[stream].add_range(line.first, line.last)
        total, done = sum(self.ends.values()), 0
        for stream, end in self.ends.items():
            for position, envelope in self.source.envelopes(stream, 1, end):
                if position in inside[stream] or read_header(envelope).kind != KIND_DATA:
                    yield stream, position
                progress(done + position, total)
            done += end

    def _chosen(self, span: Span) -> Iterator[tuple[str, _Line]]:
        for stream, lines in self._lines.items():
            yield from ((stream, line) for line in lines if self._touches(stream, line, span))

    def _touches(self, stream: str, line: _Line, span: Span) -> bool:
        """Say whether any moment of a line may lie in a span."""
        early = self._timelines[stream].place(line.boot_id, line.first_ns)
        late = self._timelines[stream].place(line.boot_id, line.last_ns)
        return span._replace(until_ns=None).has(late) and span._replace(since_ns=None).has(early)

    def _inside(self, told: Told, span: Span) -> bool:
        first_ns, last_ns = told.header.interval or (told.header.boot_ns, told.header.boot_ns)
        early, late = told.place(first_ns), told.place(last_ns)
        self.tally.untimed += early is None
        return span._replace(until_ns=None).has(late) and span._replace(since_ns=None).has(early)

    def _open(self, stream: str, position: int, block: Block, points: Points) -> Told | None:
        try:
            header = open_envelope(block.envelope, self._ring.keys)
            if block.payload is None:
                self.tally.evicted += 1
                return None
            layouts = self._layouts(header.catalogue)
            payload = payload_of(block, header, layouts)
        except BlockInvalid:
            self.tally.refused += 1
            return None
        if not points.all:
            layouts, payload = restrict(layouts, payload, points)
        if not payload.frames and not payload.changes:
            return None
        timeline, boot_id = self._timelines[stream], header.boot_id
        return Told(position, block, header, layouts, payload, lambda boot_ns: timeline.place(boot_id, boot_ns))

    def _layouts(self, digest: bytes) -> tuple[Layout, ...]:
        if digest not in self._catalogues:
            self._catalogues[digest] = self.source.catalogue(digest)
        return self._catalogues[digest]
