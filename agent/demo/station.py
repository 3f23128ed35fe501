"""The agent under demonstration: a process of its own, started, killed, started again, and asked to leave."""

import asyncio
import sys
import time
from pathlib import Path

from agent import control
from agent.errors import AgentError, NotRunning
from agent.health import Document
from agent.owner import in_daemon

START_S = 60.0
LEAVE_S = 5.0


class Station:
    """`trambien run` on one configuration file. Its log goes to `agent.log` beside it."""

    def __init__(self, config: Path, buffer: Path) -> None:
        self._config = config
        self._socket = control.socket_path(buffer)
        self._log = config.with_name("agent.log")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start and wait until it answers. Raises AgentError where it does not."""
        with self._log.open("ab") as log:
            command = (sys.executable, "-m", "agent", "run", "-c", str(self._config))
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_S
        while await self.status() is None:
            if not self.alive or time.monotonic() > deadline_s:
                raise AgentError("agent.demo-agent-failed", log=self._log)
            await asyncio.sleep(0.1)

    async def status(self) -> Document | None:
        """Ask for its state; None where it does not answer."""
        try:
            return await in_daemon("status", lambda: control.ask(self._socket, "status"))
        except NotRunning:
            return None

    async def kill(self) -> int:
        """Kill it with SIGKILL; give the boot time at which it was dead for certain."""
        process = self._living()
        process.kill()
        await process.wait()
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def leave(self) -> float:
        """Ask it to leave with SIGTERM; give how many seconds it took. Raises AgentError after `LEAVE_S`."""
        process = self._living()
        began_s = time.monotonic()
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), LEAVE_S)
        except TimeoutError:
            raise AgentError("agent.demo-agent-stays", log=self._log, seconds=LEAVE_S) from None
        return time.monotonic() - began_s

    def _living(self) -> asyncio.subprocess.Process:
        if self._process is None or not self.alive:
            raise AgentError("agent.demo-agent-failed", log=self._log)
        return self._process

    async def clear(self) -> None:
        """Leave no process behind, whatever happened."""
        if self.alive:
            await self.kill()
