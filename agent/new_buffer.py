"""A new buffer file, with its tables: made beside the service at the first start, since what makes them is large.

What is always true here: the file is opened as the service opens it, under the same lock, and closed again. Where that
cannot be done nothing is said: the service opens it next, and says why.
"""

import contextlib
from pathlib import Path

from buffer.errors import BufferFault
from buffer.store import Store


def make(path: Path) -> None:
    """Make the file."""
    with contextlib.suppress(BufferFault):
        Store.open(path, ()).close()
