"""Where blocks to be proven come from: a buffer file, a folder of blocks, or a live topic.

What is always true here:

- Verification itself is `buffer.verify`; here blocks are only fetched, in constant memory.
- The source is not changed: a buffer is read beside its running service, in short transactions.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.broker import Endpoint, split_url
from agent.errors import AgentError, Exit
from agent.receiver import Receiver
from buffer.block import MAX_ENVELOPE, MAX_PAYLOAD, Block, decode_block
from buffer.errors import BlockInvalid
from buffer.store import Reader
from buffer.verify import Verifier

BLOCK_SUFFIX = ".block"


class SourceUnreadable(AgentError):
    """What is to be proven cannot be read."""

    exit = Exit.UNREADABLE


@dataclass(frozen=True, slots=True)
class Client:
    """What a client of a broker proves itself with, as files."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def is_url(source: str) -> bool:
    """Say whether a source is a live topic."""
    return source.startswith(("mqtt://", "mqtts://"))


def prove_files(path: Path, verifier: Verifier) -> None:
    """Feed every block of a buffer file or of a folder. Raises BufferUnreadable, BufferNewer or SourceUnreadable."""
    for at, block in _folder(path) if path.is_dir() else _buffer(path):
        verifier.feed(block.envelope, block.payload, at)


def _buffer(path: Path) -> Iterator[tuple[object, Block]]:
    with contextlib.closing(Reader(path)) as reader:
        for stream in reader.streams():
            for position, block in reader.blocks(stream):
                yield f"{stream}/{position}", block


def _folder(path: Path) -> Iterator[tuple[object, Block]]:
    files = sorted(path.glob(f"*{BLOCK_SUFFIX}"))
    if not files:
        raise SourceUnreadable("agent.source-unreadable", source=path, reason=f"no *{BLOCK_SUFFIX}")
    for file in files:
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_ENVELOPE + MAX_PAYLOAD + 64)
        except OSError as error:
            raise SourceUnreadable("agent.source-unreadable", source=file, reason=error.strerror) from error
        yield file.name, _block(data)


def _block(data: bytes) -> Block:
    """Decode a file; what is no block is handed on as an envelope that the verifier will refuse."""
    try:
        return decode_block(data)
    except BlockInvalid:
        return Block(data, None)


async def prove_topic(url: str, client: Client, verifier: Verifier, seconds: float | None) -> None:
    """Feed every block that arrives under `mqtts://host:port/prefix/gateway`, for so long or until cancelled.

    Raises SourceUnreadable, BrokerRefused, or BrokerDown where there is no connection at the end.
    """
    try:
        scheme, host, port = split_url(url)
    except ValueError as error:
        raise SourceUnreadable("agent.source-unreadable", source=url, reason=str(error)) from error
    if scheme == "mqtts" and client.ca is None:
        raise SourceUnreadable("agent.url-needs-ca", source=url)
    root = urlsplit(url).path.strip("/")
    if not host or not root:
        raise SourceUnreadable("agent.source-unreadable", source=url, reason="mqtts://host:port/prefix/gateway")
    ca, cert, key = (str(path) if path else None for path in (client.ca, client.cert, client.key))
    endpoint = Endpoint(host, port, "", ca, cert, key)
    receiver = Receiver(endpoint, root, verifier)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(receiver.run(), seconds)
    if receiver.trouble is not None:
        raise receiver.trouble
