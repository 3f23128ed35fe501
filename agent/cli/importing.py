"""`trambien import`: at the platform's side, publish a folder of blocks as its station would have.

What is always true here:

- Only proven blocks are published, with their identical bytes, at the topics of their own gateway; a receiver drops by
  digest what it already has. Layouts and catalogues go first, retained.
- A block counts once the broker has acknowledged it; the first refusal ends the command, and it may be run again.
"""

import asyncio
import os
import sys
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from agent import failures
from agent.broker import FIRST_FAILURE, Endpoint, Message, Session, connect, split_url
from agent.cli.progress import bar
from agent.errors import AgentError, BrokerRefused, Exit
from agent.history import Progress, block_files, read_block_file
from agent.proof import trusted_keys
from agent.words import Language, Words, environment_language
from buffer.accounts import events_of
from buffer.block import (
    KIND_DEFINITIONS,
    Block,
    Header,
    check_payload,
    decode_block,
    encode_block,
    open_envelope,
)
from buffer.errors import BlockInvalid
from buffer.layout import catalogue_digest
from buffer.trust import KeyRing
from buffer.verify import payload_of

WINDOW = 32


class _BadArgument(AgentError):
    exit = Exit.UNREADABLE


def command(
    folder: Annotated[Path, typer.Argument(help="The folder of blocks, as `trambien export --format blocks` made it.")],
    url: Annotated[str, typer.Argument(help="Where to: mqtts://host:port/prefix, such as .../trambien/v1.")],
    trusted: Annotated[list[Path], typer.Option("--trust", help="The station's public key (PEM); may be given again.")],
    ca: Annotated[Path | None, typer.Option(help="The broker's authority.")] = None,
    cert: Annotated[Path | None, typer.Option(help="This client's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="This client's key.")] = None,
    language: Annotated[Language | None, typer.Option(help="By default that of the environment.")] = None,
) -> None:
    """Publish a folder of blocks. Exit 0; 1 where a file held no proven block and was left out."""
    words = Words(language or environment_language(os.environ))
    try:
        keys, _ = trusted_keys(None, trusted)
        endpoint, prefix = _endpoint(url, ca, cert, key)
        files = block_files(folder)
        with bar() as progress:
            refused = asyncio.run(_publish(files, KeyRing(keys), endpoint, prefix, progress))
    except failures.Mendable as error:
        raise typer.Exit(failures.tell(error, words)) from None
    print(words.say("agent.imported", {"blocks": len(files) - len(refused)}), file=sys.stderr)
    for file in refused:
        print(words.say("agent.import-refused", {"file": file}), file=sys.stderr)
    raise typer.Exit(Exit.UNPROVEN if refused else Exit.OK)


def _endpoint(url: str, ca: Path | None, cert: Path | None, key: Path | None) -> tuple[Endpoint, str]:
    try:
        scheme, host, port = split_url(url)
    except (ValueError, KeyError) as error:
        raise _BadArgument("agent.source-unreadable", source=url, reason=str(error)) from error
    prefix = urlsplit(url).path.strip("/")
    if not host or not prefix:
        raise _BadArgument("agent.source-unreadable", source=url, reason="mqtts://host:port/prefix")
    if scheme == "mqtts" and ca is None:
        raise _BadArgument("agent.url-needs-ca", source=url)
    ca_path, cert_path, key_path = (str(path) if path else None for path in (ca, cert, key))
    return Endpoint(host, port, "", ca_path, cert_path, key_path), prefix


async def _publish(files: list[Path], ring: KeyRing, endpoint: Endpoint, prefix: str, progress: Progress) -> list[Path]:
    """Publish every proven block; give the files that hold none."""
    refused: list[Path] = []
    async with await connect(endpoint) as session:
        under_way: deque[tuple[str, asyncio.Future[int]]] = deque()
        for done, file in enumerate(files, start=1):
            try:
                block, header = _proven(read_block_file(file), ring)
            except BlockInvalid:
                refused.append(file)
                continue
            for message in _messages(f"{prefix}/{header.gateway}", block, header):
                under_way.append((message.topic, session.publish(message)))
                while len(under_way) >= min(WINDOW, session.window):
                    await _acknowledged(session, endpoint, *under_way.popleft())
            progress(done, len(files))
        while under_way:
            await _acknowledged(session, endpoint, *under_way.popleft())
    return refused


def _proven(data: bytes, ring: KeyRing) -> tuple[Block, Header]:
    block = decode_block(data)
    header = open_envelope(block.envelope, ring.keys)
    if block.payload is not None:
        check_payload(block, header)
        ring.learn(header, events_of(block, header))
    return block, header


def _messages(root: str, block: Block, header: Header) -> list[Message]:
    """Give a block's publish, behind those of the layouts and the catalogue that it defines."""
    defines = header.kind == KIND_DEFINITIONS and block.payload is not None
    definitions = payload_of(block, header, ()).definitions if defines else None
    found: list[Message] = []
    if definitions is not None:
        found += [
            Message(f"{root}/layout/{sha256(layout).hexdigest()}", layout, retain=True)
            for layout in definitions.layouts
        ]
        if definitions.catalogue:
            digest = catalogue_digest(definitions.catalogue).hex()
            found.append(Message(f"{root}/catalogue/{digest}", definitions.catalogue, retain=True))
    return [*found, Message(f"{root}/block/{header.stream}", encode_block(block))]


async def _acknowledged(session: Session, endpoint: Endpoint, topic: str, answer: asyncio.Future[int]) -> None:
    waited: list[asyncio.Future[Any]] = [answer, session.ended]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        session.ended.result()
    if (code := answer.result()) >= FIRST_FAILURE:
        raise BrokerRefused("agent.publish-refused", address=endpoint.address, topic=topic, reason=f"0x{code:02X}")
