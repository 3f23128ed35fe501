"""How the buffer is opened: asked twice before it is disbelieved, then set aside and salvaged, never given up.

What is always true here:

- One error is not believed: the file is closed, opened and proven again. If it stands, the file is set aside under
  `NAME.broken-N`, and what of it is proven is carried into a new one.
- A newer version's buffer and another program's database are refused and not touched; one that holds a block of ours
  is not another program's, whatever its marks say.
- Beside the buffer stands a note of the highest number of each stream, written at most once a minute. It is evidence
  for the break that the next `start` tells of; it opens nothing and bars nothing.

The keeper enters, in the owner's thread.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.errors import DirectoryRefused
from agent.log import Log
from buffer.errors import BufferCorrupt, BufferForeign, ChainBroken, StoreFull
from buffer.salvage import finish, is_ours, recover
from buffer.seal import Head
from buffer.store import SAFE_SQLITE, Store, sqlite_version

_log = Log("opener")

ROOM_BYTES = 256 << 10
"""So much must be free before the file is opened again after a failed commit: less is not enough for one. And where
blocks on the disk are smaller than pages of memory, SQLite's index, mapped with holes, would kill the process (SIGBUS).
"""


class Opened(NamedTuple):
    """An open store, and what its epoch must say of a break. `aside` is None where there was none."""

    store: Store
    aside: str | None
    highest: Mapping[str, int]


def open_store(path: Path, keys: tuple[bytes, ...], heads: Mapping[str, Head], *, condemned: bool = False) -> Opened:
    """Open, or salvage. `heads` are last blocks known otherwise; `condemned` says that the file is not to be believed.

    Raises BufferLocked, BufferNewer, BufferForeign, StoreFull, or BufferUnreadable where the medium is not well.
    """
    highest = read_highest(path)
    aside = finish(path)
    if not condemned:
        for _ in range(2):
            try:
                return _told(_proven(path, keys), aside, highest)
            except BufferForeign:
                if not is_ours(path, keys):
                    raise
            except (BufferCorrupt, ChainBroken) as error:
                _log.error("buffer-doubtful", error=error)
    aside = recover(path, keys, heads)
    _log.error("buffer-set-aside", kept=aside)
    return _told(_proven(path, keys), aside, highest)


def check_room(path: Path) -> None:
    """Raise StoreFull where a file that we had open before is not to be opened again: the disk has no room for it."""
    if _free_bytes(path.parent) < ROOM_BYTES:
        raise StoreFull(path=str(path), reason="no space left on the disk")


def _free_bytes(folder: Path) -> int:
    """Give the space that this process may take on the file system of a folder, all of it where that is not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return sys.maxsize
    return (found.f_bavail if os.geteuid() else found.f_bfree) * found.f_frsize


def warn_of_library() -> None:
    """Say once where SQLite is of the versions that lose commits when two connections write or checkpoint."""
    if sqlite_version() < SAFE_SQLITE:
        found = ".".join(map(str, sqlite_version()))
        _log.info("sqlite-old", version=found, effect="one connection only may write, as this service does")


def _told(store: Store, aside: str | None, highest: Mapping[str, int]) -> Opened:
    """Where the noted numbers are beyond what was found, the end is lost, though no file had to be set aside."""
    heads = store.heads()
    behind = {stream: seq for stream, seq in highest.items() if stream not in heads or heads[stream].seq < seq}
    if behind and aside is None:
        _log.error("buffer-end-lost", **{f"highest_{stream}": seq for stream, seq in behind.items()})
        aside = ""
    return Opened(store, aside, highest)


def _proven(path: Path, keys: tuple[bytes, ...]) -> Store:
    store = Store.open(path, keys)
    try:
        store.heads()
        for stream in store.streams():
            store.counts(stream)
    except BaseException:
        store.close()
        raise
    return store


def note_path(path: Path) -> Path:
    """Give where the note of the highest numbers stands."""
    return path.with_name(f"{path.name}.highest")


def read_highest(path: Path) -> dict[str, int]:
    """Give the highest number noted of each stream; what cannot be read is no evidence."""
    with suppress(OSError, ValueError):
        noted = json.loads(note_path(path).read_text())
        if isinstance(noted, dict):
            return {str(stream): seq for stream, seq in noted.items() if type(seq) is int and 0 < seq < 1 << 40}
    return {}


def write_highest(path: Path, highest: Mapping[str, int]) -> None:
    """Note the highest number of each stream, whole or not at all."""
    note = note_path(path)
    fresh = note.with_name(f"{note.name}.new")
    with suppress(OSError):
        with fresh.open("w") as file:
            json.dump(highest, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(note)


def make_directory(path: Path) -> None:
    """Make the directory of the buffer, if it is not there. Raises DirectoryRefused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryRefused("agent.directory-refused", directory=path, reason=error.strerror) from error
