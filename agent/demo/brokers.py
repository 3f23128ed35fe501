"""The demonstration's broker: mosquitto where it is installed, else an embedded one, as a process that can be killed.

What is always true here:

- Clients must show a certificate of the run's own authority; nothing else is listened to.
- The embedded broker (amqtt) speaks MQTT 3.1.1 only: what MQTT 5's reason codes prove is not proven with it, and
  `unproven` says so.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from agent.demo.certificates import Authority, Pair
from agent.errors import AgentError, PortBusy

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
START_S = 60.0


class Broker(ABC):
    """A broker with mutual TLS on 127.0.0.1, run as a process of its own."""

    name: str
    protocol: int
    """The MQTT version it speaks: 5, or 4 for 3.1.1."""
    unproven: str
    """A message code that says what a run with it does not prove, or nothing."""

    def __init__(self, directory: Path, authority: Authority, port: int | None) -> None:
        self._directory = directory
        self._pair: Pair = authority.issue("localhost", server=True)
        self._ca = authority.ca
        self.port = port if port is not None else _free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start and wait until it accepts connections. Raises PortBusy, or AgentError where it does not come up."""
        _check_free(self.port)
        log = (self._directory / "broker.log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(*self._command(), stdout=log, stderr=log)
        deadline = asyncio.get_running_loop().time() + START_S
        while not _accepts(self.port):
            if self._process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise AgentError("agent.demo-broker-failed", log=self._directory / "broker.log")
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None and self.alive:
            self._process.kill()
            await self._process.wait()

    def suspend(self) -> None:
        """Freeze it with SIGSTOP: it neither answers nor hangs up."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    @abstractmethod
    def _command(self) -> list[str]:
        """Give the command line that starts it."""


class Mosquitto(Broker):
    """Eclipse mosquitto. `extra` are further lines of its configuration."""

    extra: tuple[str, ...] = ()
    name = "mosquitto, MQTT 5"
    protocol = 5
    unproven = ""

    def _command(self) -> list[str]:
        config = self._directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"cafile {self._ca}",
            f"certfile {self._pair.cert}",
            f"keyfile {self._pair.key}",
            "require_certificate true",
            "use_identity_as_username true",
            "allow_anonymous false",
            # A receiver is never made to wait inside the broker: what has a PUBACK is on its way to it.
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "persistence false",
            *self.extra,
        ]
        if os.getuid() == 0:
            lines.append("user root")
        config.write_text("\n".join(lines) + "\n")
        return [_mosquitto() or "mosquitto", "-c", str(config)]


class Embedded(Broker):
    """amqtt, in a process of its own."""

    name = "amqtt, MQTT 3.1.1"
    protocol = 4
    unproven = "agent.demo-embedded"

    def _command(self) -> list[str]:
        files = map(str, (self._ca, self._pair.cert, self._pair.key))
        return [sys.executable, "-m", "agent.demo.embedded", str(self.port), *files]


def choose() -> type[Broker]:
    """Choose mosquitto where it is installed, else the embedded broker."""
    return Mosquitto if _mosquitto() else Embedded


def _mosquitto() -> str | None:
    return shutil.which("mosquitto", path=_PATH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortBusy("agent.port-busy", port=port, reason=error.strerror) from error


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
