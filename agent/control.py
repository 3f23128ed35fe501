"""The control socket: how the tools on the same machine talk to the running service.

What is always true here:

- It is a Unix socket beside the buffer, mode 0660: whoever may not read the buffer may not ask. No port is opened.
- A question is one line of JSON, `{"ask": "status"}`; the answer is one line of JSON; then the connection ends.
- A question that is not understood is answered with an error, never with silence.
- What changes something is an *order*: only root and the service's own user may give one (SO_PEERCRED, unix(7)).
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType

from agent.errors import NotRunning
from agent.health import Document
from agent.log import Log

TIMEOUT_S = 5.0
_log = Log("control")
LINE_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group."""
Answers = Mapping[str, Callable[[], Document]]
Orders = Mapping[str, Callable[[], Awaitable[Document]]]


def socket_path(buffer_path: Path) -> Path:
    """Give the socket that belongs to a buffer."""
    return buffer_path.parent / f"{buffer_path.name}.sock"


async def serve(path: Path, answers: Answers, orders: Orders = MappingProxyType({})) -> None:
    """Answer questions, and carry out orders, until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
                may_order = _user(writer.get_extra_info("socket")) in (0, os.geteuid())
                document = await _carry_out(line, orders, may_order) or _answer(line, answers)
                writer.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), TIMEOUT_S)
            except (TimeoutError, ValueError, ConnectionError):
                writer.transport.abort()  # whoever does not read keeps nothing here

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


async def _carry_out(line: bytes, orders: Orders, may_order: bool) -> Document | None:
    """Carry out an order; None where it is none."""
    try:
        order = orders[json.loads(line)["ask"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return await order() if may_order else {"error": "agent.order-refused"}


def _user(peer: socket.socket) -> int:
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)


def ask(path: Path, question: str, timeout_s: float = TIMEOUT_S) -> Document:
    """Ask the running service; for tools. Raises NotRunning."""
    try:
        with _address(path) as address, socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(timeout_s)
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
