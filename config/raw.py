"""The files of a configuration as bytes: how they are read, which ones belong to it, and the digest of them all.

What is always true here:

- Only regular files are read, at most `SIZE_LIMIT` bytes of each: a pipe would be waited on, a device may do something.
- Links stand in the main file and in `links.d/*.yaml` beside it, taken in the order of their names; hidden files are
  left alone.
- The digest of a configuration in one file is SHA-256 of its bytes; of one in several, SHA-256 of what
  `sha256sum gateway.yaml links.d/*.yaml` prints in its directory (coreutils), so that anyone can compute it again.

`config.include` and `config.source` enter; whoever must name a configuration that was refused asks for its digest.
"""

import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from config.errors import ConfigFaults, Place, fault_at

SIZE_LIMIT = 2**20
FOLDER = "links.d"
_SUFFIX = ".yaml"


class NotRegular(OSError):
    """What stands there is a pipe, a socket or a device."""


def read_regular(file: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file, without waiting for what is none. Raises OSError, ValueError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:  # noqa: PTH123  a descriptor has no path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegular(file)
        return stream.read(limit)


def read_bytes(file: Path) -> bytes:
    """Read a file of at most `SIZE_LIMIT` bytes. Raises ConfigFaults."""
    start = Place(file, 1, 1)
    try:
        data = read_regular(file, SIZE_LIMIT + 1)
    except NotRegular as error:
        raise ConfigFaults([fault_at(start, "config.not-regular")]) from error
    except OSError as error:
        raise ConfigFaults([fault_at(start, "config.unreadable", reason=error.strerror or str(error))]) from error
    if len(data) > SIZE_LIMIT:
        raise ConfigFaults([fault_at(start, "config.too-large", limit=SIZE_LIMIT)])
    return data


def beside(path: Path) -> tuple[Path, ...]:
    """Give the further files of a configuration. Raises ConfigFaults."""
    folder = path.parent / FOLDER
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix == _SUFFIX and file.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        start = Place(folder, 1, 1)
        raise ConfigFaults([fault_at(start, "config.unreadable", reason=error.strerror or str(error))]) from error
    return tuple(found)


def digest(path: Path, data: bytes, parts: Mapping[Path, bytes]) -> bytes:
    """Give the digest of a configuration with this main file and these further ones."""
    if not parts:
        return sha256(data).digest()
    named = [(path.name, data), *((f"{FOLDER}/{file.name}", content) for file, content in parts.items())]
    return sha256("".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in named).encode()).digest()


def digest_of(path: Path) -> bytes:
    """Give the digest of a configuration, whatever is wrong with it; nothing where a file of it cannot be read."""
    try:
        data = read_bytes(path)
        return digest(path, data, {file: read_bytes(file) for file in beside(path)})
    except ConfigFaults:
        return b""
