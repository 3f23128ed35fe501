"""The control socket towards clients that ask and do not read, and what is no question."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from rig import until

from agent import control


def open_descriptors() -> int:
    """Count them."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def asked(path: Path, line: bytes) -> dict:
    """Ask and read."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 26)
    writer.write(line + b"\n")
    answer: dict = json.loads(await reader.readline())
    writer.close()
    return answer


async def test_clients_that_do_not_read_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of their answers stays, and others are answered meanwhile."""
    monkeypatch.setattr(control, "TIMEOUT_S", 0.3)
    path = tmp_path / "s"
    serving = asyncio.create_task(control.serve(path, {"status": lambda: {"much": "x" * 4_000_000}}))
    await until(path.exists)
    before = open_descriptors()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for client in clients:
        client.connect(str(path))
        client.sendall(b'{"ask":"status"}\n')
    assert len((await asked(path, b'{"ask":"status"}'))["much"]) == 4_000_000
    await until(lambda: open_descriptors() <= before + len(clients))
    for garbage in (b"", b"\xff", b"[" * 60_000, b'{"ask":[]}', b'{"ask":{}}', b"1" * 5000, b'"ask"', b'{"ask":"x"}'):
        assert (await asked(path, garbage))["error"] == "unknown question"
    for client in clients:
        client.close()
    serving.cancel()
    await asyncio.wait([serving])
