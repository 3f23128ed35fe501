"""Paths in the technician's file: relative to that file, absolute once read.

What is always true here:

- A path is taken relative to the folder that the validation context names; without a context it stays as written.
- A `ReadableFile` was there and could be read when the configuration was judged; without a context nobody looked.

Models take the types, `config.load` gives the context.
"""

from pathlib import Path
from typing import Annotated, TypedDict

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError


class Beside(TypedDict):
    """The context of a validation: the folder of the file that is judged."""

    folder: Path


def _absolute(name: str, info: ValidationInfo) -> str:
    return name if info.context is None or not name else str(info.context["folder"].absolute() / name)


def _readable(name: str, info: ValidationInfo) -> str:
    if info.context is not None and (code := file_code(name)):
        raise PydanticCustomError(code, "cannot read {file}", {"file": name})
    return name


def file_code(name: str | None) -> str | None:
    """Say by its code why a named file cannot be read."""
    if name is None:
        return None
    try:
        with Path(name).open("rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        return "config.file-missing"
    except (OSError, ValueError):
        return "config.file-unreadable"
    return None


FilePath = Annotated[str, AfterValidator(_absolute)]
ReadableFile = Annotated[FilePath, AfterValidator(_readable)]
