"""Where blocks to be proven come from: a buffer file, a folder of blocks, or a live topic.

What is always true here:

- Verification itself is `buffer.verify`; here blocks are only fetched, in constant memory.
- The source is not changed: a buffer is read beside its running service, in short transactions.
- A head is known otherwise: as a digest, from a `state` that a platform keeps, or from the service itself. A service is
  asked before its buffer is read, so what it names must be there.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent import control
from agent.broker import Endpoint, split_url
from agent.errors import NotRunning
from agent.history import Progress, SourceUnreadable, block_files, read_block_file
from agent.receiver import Receiver
from buffer.block import Block, decode_block
from buffer.errors import BlockInvalid, BufferUnreadable
from buffer.keys import key_path, known_public, load_public
from buffer.store import Reader
from buffer.verify import Verifier

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Client:
    """What a client of a broker proves itself with, as files."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def is_url(source: str) -> bool:
    """Say whether a source is a live topic."""
    return source.startswith(("mqtt://", "mqtts://"))


def prove_files(path: Path, verifier: Verifier, progress: Progress = lambda *_: None) -> None:
    """Feed every block of a buffer file or of a folder. Raises BufferUnreadable, BufferNewer or SourceUnreadable."""
    for at, block in _folder(path, progress) if path.is_dir() else _buffer(path, progress):
        verifier.feed(block.envelope, block.payload, at)


def _buffer(path: Path, progress: Progress) -> Iterator[tuple[object, Block]]:
    with contextlib.closing(Reader(path)) as reader:
        streams = reader.streams()
        total, done = sum(map(reader.last_position, streams)), 0
        for stream in streams:
            for position, block in reader.blocks(stream):
                yield f"{stream}/{position}", block
                progress(done + position, total)
            done += reader.last_position(stream)


def _folder(path: Path, progress: Progress) -> Iterator[tuple[object, Block]]:
    files = block_files(path)
    for done, file in enumerate(files, start=1):
        yield file.name, _block(read_block_file(file))
        progress(done, len(files))


def trusted_keys(source: Path | None, trust: Sequence[Path]) -> tuple[tuple[bytes, ...], Path | None]:
    """Give the keys to trust: those named, else those beside a buffer, and then the file they came from.

    Raises BufferUnreadable for a key that is none and where there is no source, SourceUnreadable where there is no key.
    """
    if trust:
        return tuple(load_public(path) for path in trust), None
    beside = key_path(source or Path("buffer.db"))
    found = () if source is None else known_public(beside)
    if not found and source is not None and not source.exists():
        raise BufferUnreadable(path=str(source), reason="no such file")
    if not found:
        raise SourceUnreadable("agent.no-trust", path=f"{beside}.pub")
    return found, beside


def known_heads(texts: Sequence[str]) -> set[bytes]:
    """Give the digests that were named: in hexadecimal, or in files that hold a `state`. Raises SourceUnreadable."""
    return {digest for text in texts for digest in _heads_of(text)}


def _heads_of(text: str) -> set[bytes]:
    with contextlib.suppress(ValueError):
        if len(digest := bytes.fromhex(text)) == DIGEST_BYTES:
            return {digest}
    try:
        found = _heads_in(json.loads(Path(text).read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        found = set()
    if not found:
        raise SourceUnreadable("agent.bad-head", head=text)
    return found


def _heads_in(state: Any) -> set[bytes]:
    return {bytes.fromhex(stream["digest"]) for stream in state["streams"].values() if stream["digest"]}


def service_heads(buffer: Path) -> set[bytes]:
    """Give the heads of the service that is running with this buffer; none where none is running."""
    try:
        return _heads_in(control.ask(control.socket_path(buffer), "status"))
    except (NotRunning, ValueError, TypeError, AttributeError, KeyError):
        return set()


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
