"""The far end of a serial port: a pseudo-terminal whose other end we hold, and drivers on it."""

import asyncio
import os
import time
import tty

from config.judge import judged
from drivers.serial_line.driver import SerialLineDriver
from drivers.serial_line.settings import SerialLineLink


class Clock:
    """CLOCK_BOOTTIME."""

    def boot_ns(self):
        """Give the time."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Wire:
    """Our end of the port."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.port = os.ttyname(self.slave)

    def say(self, data):
        """Send bytes to the driver."""
        os.write(self.master, data)

    async def heard(self):
        """Wait for what the driver sends."""
        while True:
            try:
                return os.read(self.master, 4096)
            except BlockingIOError:
                await asyncio.sleep(0.002)

    def cut(self):
        """Pull the adapter."""
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
        self.master = self.slave = -1


ASKED = {"ask": "?\r\n", "every": "1s", "line": r"(?P<s>ST|OL),(?P<v>[^,]*)", "points": {"v": {"range": [0, 100]}}}
ASKED["status"] = {"group": "s", "codes": {"ST": "Good", "OL": "BadOutOfRange"}}
SPEAKING = {key: value for key, value in ASKED.items() if key not in ("ask", "every")}


def driver_of(port, timeout="300ms", **devices):
    """Make a driver of devices on a port."""
    settings = {"driver": "serial", "serial": {"port": port}, "timeout": timeout, "devices": devices}
    return SerialLineDriver("wire", judged(SerialLineLink, settings), Clock())


async def ended(task):
    """End a listener."""
    task.cancel()
    await asyncio.wait([task])
