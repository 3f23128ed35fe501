"""Paths in the technician's file: relative to that file, absolute once read.

What is always true here:

- A path is taken relative to the folder of the file that is judged; what stands in no file stays as written.
- A `ReadableFile` was there and could be read when the configuration was judged; without a file nobody looked.

Parts take the types, `config.judge` gives the folder.
"""

from pathlib import Path
from typing import Annotated

from config.raw import read_regular
from config.shape import InFolder, Wrong


def _absolute(name: str, folder: Path) -> str:
    return str(folder.absolute() / name) if name else name


def _readable(name: str, _folder: Path) -> str:
    if code := file_code(name):
        raise Wrong(code, file=name)
    return name


def file_code(name: str | None) -> str | None:
    """Say by its code why a named file cannot be read."""
    if name is None:
        return None
    try:
        read_regular(Path(name), 1)
    except FileNotFoundError:
        return "config.file-missing"
    except (OSError, ValueError):
        return "config.file-unreadable"
    return None


FilePath = Annotated[str, InFolder(_absolute)]
ReadableFile = Annotated[FilePath, InFolder(_readable)]
