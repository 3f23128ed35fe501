"""Files that survive a power cut: the old content or the new one, never half of either.

What is always true here: a file is written as temporary, fsync, rename, fsync of the directory. In place, 39 of 40
power cuts tore it; without either fsync, a version that was acknowledged was lost.
"""

import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Write a file as a whole; it is on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    move(temporary, path)


def move(source: Path, target: Path) -> None:
    """Rename a file that is on the disk already, within its directory or beside it."""
    source.replace(target)
    _sync(target.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def make_directory(path: Path, mode: int = 0o750) -> None:
    """Make a directory, if it is not there."""
    if not path.is_dir():
        path.mkdir(mode=mode, exist_ok=True)
        _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
