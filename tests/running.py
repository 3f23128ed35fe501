"""A service in a process of its own, as its users start it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from asking import OPTIONS, asked, ended

from agent.errors import Exit

SIMULATED = """
gateway: {{id: station-1, language: en}}
buffer: {{path: {buffer}, seal_every: 200ms}}
{uplinks}
links:
  waves:
    driver: simulated
    devices:
      tank: {{every: 100ms, points: {{level: {{wave: sine}}}}}}
"""


class Running:
    """A service in a process of its own."""

    def __init__(self, config: Path, *options: str) -> None:
        self.buffer = config.with_name("data") / "buffer.db"
        self.log = config.with_name("service.log")
        command = [sys.executable, *OPTIONS, *options, "-m", "agent", "run", "-c", str(config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def status(self) -> dict:
        """Give its state as soon as it answers."""
        return asked(self.buffer, self.process, self.log)

    def reads(self, polls: int) -> None:
        """Wait until its instrument was read so often, and a block was sealed since."""
        while self.status()["links"]["waves"]["devices"]["tank"]["good"] < polls:
            time.sleep(0.05)
        sealed = self.status()["streams"]["main"]["sealed"]
        while self.status()["streams"]["main"]["sealed"] == sealed:
            time.sleep(0.05)

    def leave(self) -> str:
        """Ask it to leave; give what it logged."""
        self.process.send_signal(signal.SIGTERM)
        ended(self.process, self.log)
        return self.log.read_text()


def run(config: Path) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to end by itself."""
    command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def assert_told(ended: subprocess.CompletedProcess[str], code: Exit, *words: str) -> None:
    """One clear line, how to mend it, the exit code, no traceback."""
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "→" in ended.stderr
    for word in words:
        assert word in ended.stderr
