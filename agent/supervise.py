"""What systemd is told, and what it tells us (sd_notify(3), sd_watchdog_enabled(3)).

What is always true here:

- READY is said when polling has begun, STOPPING when the last seal begins.
- The watchdog is fed by progress, not by a timer: only while the sealing loop turns.
- Without systemd every call does nothing.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from agent.beat import beat

_DEFAULT_PERIOD_S = 5.0


def notify(state: str) -> None:
    """Send one state to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        manager.sendall(state.encode())


LOOKS = 12
"""So often in the watchdog's time: every five seconds of the unit's minute. With two looks, a commit that took longer
than half a minute would meet its end."""


async def feed_watchdog(progress: Callable[[], int]) -> None:
    """Feed the watchdog when `progress` has moved, until cancelled; looked at often, so that all its time is given."""
    period_s = _watchdog_s() / LOOKS
    seen = -1
    while True:
        if (now := progress()) != seen:
            seen = now
            notify("WATCHDOG=1")
        await beat(period_s)


def _watchdog_s() -> float:
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() else 2 * _DEFAULT_PERIOD_S


def on_stop(stop: asyncio.Event) -> None:
    """Set the event on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def keep_reload() -> None:
    """Have a SIGHUP wait that comes before the service can obey it; by default it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def on_reload(reload: Callable[[], object]) -> None:
    """Call this on SIGHUP, and for one that waits."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
