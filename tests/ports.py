"""Where a broker of the tests listens."""

import contextlib
import random
import socket
from pathlib import Path


def quiet_port() -> int:
    """Give a free port that no outgoing connection can take before its broker listens, or while it is gone."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(lowest // 2, lowest)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
