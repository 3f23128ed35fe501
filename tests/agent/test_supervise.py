"""The watchdog is fed by progress, and leaving has bounds."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import app, broker, presence, supervise, works


async def test_the_watchdog_is_fed_while_progress_moves_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that stands still lets systemd restart the service."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        turns = 0
        feeding = asyncio.create_task(supervise.feed_watchdog(lambda: turns))

        def fed() -> int:
            count = 0
            while True:
                try:
                    assert manager.recv(100) == b"WATCHDOG=1"
                except BlockingIOError:
                    return count
                count += 1

        count = 0
        for _ in range(20):
            turns += 1
            await asyncio.sleep(0.05)
            count += fed()  # a full socket would block the sender
        assert count >= 5
        await asyncio.sleep(0.3)
        fed()
        await asyncio.sleep(0.5)
        assert fed() == 0
        feeding.cancel()


async def test_what_stands_still_for_most_of_its_time_is_fed_as_soon_as_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that takes more than half a minute on a dying card does not wait for the end of it."""
    waits: list[float] = []
    fed: list[int] = []
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setattr(supervise, "notify", lambda _: fed.append(len(waits)))

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)
        if sum(waits) >= 120:
            raise asyncio.CancelledError

    monkeypatch.setattr(supervise, "beat", wait)
    with pytest.raises(asyncio.CancelledError):
        await supervise.feed_watchdog(lambda: 0 if sum(waits) < 31 else 1)
    late_s = [sum(waits[:at]) for at in fed]
    assert late_s[1] - late_s[0] <= 40
    assert len(late_s) == 2


def test_leaving_takes_less_than_five_seconds_whatever_hangs() -> None:
    """Polls, the last seal, its delivery, the farewell and the closing connection, one after the other."""
    bounds_s = works.POLL_S + app.SEAL_S + app.DELIVER_S + presence.FAREWELL_S + broker.CLOSE_S
    assert bounds_s < 5


SLOW_START = """
import asyncio, os, signal, time
from agent import supervise

async def main():
    asked = asyncio.Event()
    supervise.on_reload(asked.set)
    await asyncio.wait_for(asked.wait(), 60)
    print("reloaded", flush=True)

supervise.keep_reload()
os.kill(os.getpid(), signal.SIGHUP)
time.sleep(0.1)
asyncio.run(main())
"""


def test_a_reload_that_is_asked_for_while_the_service_starts_waits_for_it() -> None:
    """SIGHUP would end it otherwise; what was written meanwhile is read."""
    ran = subprocess.run([sys.executable, "-c", SLOW_START], capture_output=True, text=True, check=False, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "reloaded\n"), ran.stderr
