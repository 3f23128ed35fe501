"""Our hold on the file: opened, known again as the one we had, and believed or not.

What is always true here:

- SQLite's word that the content is corrupt is not believed the first time: close, open, ask again. Then the file is set
  aside and salvaged (`agent.opener`), and every stream goes on from the last block that is known.
- A file that is the very one we had and has lost blocks that it had is damaged too: its log breaks off. It is looked at
  read-only first, since whoever opens it for writing throws away what stands behind the break.
- A commit whose synchronisation alone failed may be in the file, and so may one of a process that was killed. Whatever
  is opened is made sure of before it is believed; opened again it must end as one of our commits would have left it.
- What an opening finds is told as soon as it is found: what comes after may fail.

Only `agent.keeper` enters, in the owner's thread.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from agent import rotating, telling
from agent.branch import between
from agent.kept import Site
from agent.log import Log
from agent.opener import Opened, check_room, open_store
from buffer.changes import Change
from buffer.errors import BufferCorrupt, BufferLocked, BufferNewer, BufferUnreadable, ChainBroken, CommitFailed
from buffer.keys import Signer
from buffer.salvage import bare, holes
from buffer.seal import Head
from buffer.store import Reader, Store

_log = Log("keeper")
T = TypeVar("T")


class Finds(NamedTuple):
    """Who hears what an opening finds: holes to tell of, that the commit in doubt is not there, that it is."""

    salvaged: Callable[[tuple[Change, ...]], None]
    absent: Callable[[], None]
    there: Callable[[], None]


class Holding:
    """`heads` are the last blocks that the file is known to hold, None before it was first opened."""

    def __init__(self, site: Callable[[], Site], finds: Finds) -> None:
        self._site = site
        self._finds = finds
        self._keys = site().keys
        self._may_be: dict[str, Head] | None = None
        self._doubts = 0
        self._place: tuple[int, int] | None = None
        self.store: Store | None = None
        self.heads: dict[str, Head] | None = None
        self.known: dict[str, str] = {}
        """What the next `start` of a stream must say of the block before it."""
        self.broken: Opened | None = None

    @property
    def signer(self) -> Signer:
        """The key in force."""
        custody = self._site().custody
        return self._site().identity.signer if custody is None else custody.signer

    def trust(self) -> None:
        """Believe the key in force too."""
        self._keys = (self.signer.public_key, *self._keys)

    def close(self) -> None:
        """Close the file; the lock is free then."""
        if self.store is not None:
            self.store.close()
            self.store = None

    def believed(self, act: Callable[[], T]) -> T:
        """Do something with the store. That it is corrupt is believed the third time, of a file opened anew."""
        for _ in range(2):
            try:
                result = act()
            except BufferCorrupt as error:
                _log.error("buffer-doubtful", error=error)
                self._doubts += 1
                self.close()
            else:
                self._doubts = 0
                return result
        return act()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Have whatever keeps the store from being opened or read mean that nothing can be committed now."""
        try:
            yield
        except (BufferUnreadable, BufferLocked, BufferNewer, ChainBroken) as error:
            self._doubts += isinstance(error, BufferCorrupt)
            self.close()
            raise CommitFailed(path=str(self._site().path), reason=str(error)) from error

    def failed(self, store: Store, may_be: dict[str, Head]) -> None:
        """Let go after a failed commit; `may_be` is how the file ends if it came through after all."""
        self._doubts += store.corrupt
        self._may_be = may_be
        self.close()

    def wrote(self) -> None:
        """Believe a file that took a commit."""
        self._doubts = 0

    def open(self) -> Store:
        """Open the file; after the first time, only the very one that we had: another medium is not written to."""
        site, heads = self._site(), self.heads
        if heads is not None and not site.path.exists():
            raise BufferUnreadable(path=str(site.path), reason="the file is gone")
        if heads is not None:
            check_room(site.path)
            self._look_for_end(site.path, heads)
        opened = open_store(site.path, self._keys, heads or {}, condemned=self._doubts > 1)
        try:
            if opened.aside is not None:
                self._note_break(opened)
            if heads is not None:
                self._recognise(opened.store, heads, salvaged=bool(opened.aside))
            else:
                self._make_sure_at_first(opened.store)
            if rotating.settle(site.custody, site.identity.gateway, opened.store):
                self.trust()
        except BaseException:
            opened.store.close()
            raise
        self._place = _place_of(site.path)
        return opened.store

    def _make_sure_at_first(self, store: Store) -> None:
        """Make sure of what a process before us left in the log: it may have been killed before its synchronisation.

        Where that cannot be done now the store takes nothing and gives nothing; the first commit tries again. Raises
        BufferUnreadable where it is not known either which key is in force.
        """
        try:
            store.make_sure()
        except CommitFailed as error:
            _log.error("buffer-unsure", error=error)
            custody = self._site().custody
            if custody is not None and custody.pending is not None:
                raise BufferUnreadable(path=str(store.path), reason="the log cannot be synchronised") from error
            store.failed = True

    def _look_for_end(self, path: Path, heads: Mapping[str, Head]) -> None:
        """Raise BufferCorrupt where our file has lost its end, until that is believed."""
        if self._doubts < 2 and _place_of(path) == self._place and _is_behind(path, heads):
            raise BufferCorrupt(path=str(path), reason="the log breaks off")

    def _note_break(self, opened: Opened) -> None:
        """Note what every stream's next `start` must say; and, of a salvaged file, what is gone unexplained."""
        store = opened.store
        self.broken = opened
        self.known.update(dict.fromkeys((*self._site().catalogues, *store.streams()), "lost"))
        if opened.aside:
            self._doubts = 0
            found: list[Change] = [
                telling.hole(stream, *run) for stream in store.streams() for run in holes(store, stream)
            ]
            for stream in store.streams():
                found += [one for at in bare(store, stream) for one in store.scrub(stream, at, 1).damages]
            self._finds.salvaged(tuple(found))

    def _recognise(self, store: Store, heads: Mapping[str, Head], *, salvaged: bool) -> None:
        """Make sure of a file that is ours for certain. Of a salvaged one each stream may end anywhere in between."""
        found, may_be = store.heads(), self._may_be or heads
        if found not in (heads, may_be) and not (salvaged and between(heads, found, may_be)):
            raise BufferUnreadable(path=str(store.path), reason="another file stands in its place")
        store.make_sure()
        if found == heads:
            self._finds.absent()
        elif not salvaged:
            self._finds.there()
        self.heads, self._may_be = found, None


def _place_of(path: Path) -> tuple[int, int] | None:
    """Give what tells a file from every other one: its device and its number there."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _is_behind(path: Path, heads: Mapping[str, Head]) -> bool:
    """Say whether a file lacks last blocks. Where it cannot be read, whoever opens it for writing says so better."""
    with suppress(BufferUnreadable, BufferNewer), Reader(path) as reader:
        return any(reader.last_position(stream) < head.seq for stream, head in heads.items())
    return False
