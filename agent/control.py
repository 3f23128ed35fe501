"""The control socket: how the tools on the same machine talk to the running service.

What is always true here:

- It is a Unix socket beside the buffer, mode 0660: whoever may not read the buffer may not ask. No port is opened.
- A question is one line of JSON, `{"ask": "status"}`; the answer is one line of JSON; then the connection ends.
- A question that is not understood is answered with an error, never with silence.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from agent.errors import NotRunning
from agent.health import Document
from agent.log import Log

TIMEOUT_S = 5.0
_log = Log("control")
LINE_BYTES = 64 * 1024
Answers = Mapping[str, Callable[[], Document]]


def socket_path(buffer_path: Path) -> Path:
    """Give the socket that belongs to a buffer."""
    return buffer_path.with_name(buffer_path.name + ".sock")


async def serve(path: Path, answers: Answers) -> None:
    """Answer questions until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
                writer.write(json.dumps(_answer(line, answers), ensure_ascii=False).encode() + b"\n")
                await writer.drain()
            except (TimeoutError, ValueError, ConnectionError):
                return

    try:
        with _bound(path) as listening:
            server = await asyncio.start_unix_server(answer, sock=listening, limit=LINE_BYTES)
            await server.serve_forever()
    except OSError as error:  # readings matter more than being asked about them
        _log.error("no-control-socket", path=path, reason=error)


def _answer(line: bytes, answers: Answers) -> Document:
    try:
        question = json.loads(line)["ask"]
        return answers[question]()
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"error": "unknown question", "known": sorted(answers)}


def ask(path: Path, question: str) -> Document:
    """Ask the running service; for tools. Raises NotRunning."""
    try:
        with _address(path) as address, socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(TIMEOUT_S)
            peer.connect(address)
            peer.sendall(json.dumps({"ask": question}).encode() + b"\n")
            with peer.makefile("rb") as answer:
                document: Document = json.loads(answer.readline())
                return document
    except (OSError, ValueError) as error:
        raise NotRunning("agent.not-running", socket=path, reason=str(error)) from error


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)  # the buffer's lock is ours, so whoever left it is gone
    with _address(path) as address, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        path.chmod(0o660)
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Reach a socket by its directory's descriptor: a Unix address holds 107 bytes, and a path may be longer."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
